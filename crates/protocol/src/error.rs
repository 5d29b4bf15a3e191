//! The error catalogue: one stable code per kind of failure, mapped to HTTP and gRPC (surface 8.2).

/// What went wrong, as a number that is never reused and a name that clients match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    // 1xxx: the request
    BadRequest = 1001,
    OwnerScopeConflict = 1002,
    InvalidArgument = 1003,
    SchemaInvalid = 1004,
    InvalidAgentAddress = 1005,
    PayloadTooLarge = 1006,
    TaskResultInvalid = 1007,
    // 2xxx: who asks
    MissingApiKey = 2001,
    InvalidApiKey = 2002,
    InvalidActorToken = 2003,
    InvalidActorScope = 2004,
    PolicyDenied = 2005,
    ReceiverOrgClosed = 2006,
    AgentKilled = 2007,
    // 3xxx: the object's state
    NotFound = 3001,
    AgentNotFound = 3002,
    Conflict = 3003,
    IdempotencyConflict = 3004,
    IntentTerminal = 3005,
    PolicyGenerationMismatch = 3006,
    StaleAttempt = 3007,
    MethodNotAllowed = 3008,
    NotImplemented = 3009,
    // 4xxx: too much
    RateLimitExceeded = 4001,
    QuotaExceeded = 4002,
    QueueFull = 4003,
    BacklogFull = 4004,
    DiskLow = 4005,
    // 5xxx: the cluster
    Internal = 5001,
    Unavailable = 5002,
    NotLeader = 5003,
    Timeout = 5004,
    CommandExpired = 5005,
    StaleReplica = 5006,
    OutOfOrder = 5007,
    ShuttingDown = 5008,
}

/// gRPC status numbers (google.rpc.Code), so that this crate needs no transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum GrpcCode {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl ErrorCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 36] = [
        Self::BadRequest,
        Self::OwnerScopeConflict,
        Self::InvalidArgument,
        Self::SchemaInvalid,
        Self::InvalidAgentAddress,
        Self::PayloadTooLarge,
        Self::TaskResultInvalid,
        Self::MissingApiKey,
        Self::InvalidApiKey,
        Self::InvalidActorToken,
        Self::InvalidActorScope,
        Self::PolicyDenied,
        Self::ReceiverOrgClosed,
        Self::AgentKilled,
        Self::NotFound,
        Self::AgentNotFound,
        Self::Conflict,
        Self::IdempotencyConflict,
        Self::IntentTerminal,
        Self::PolicyGenerationMismatch,
        Self::StaleAttempt,
        Self::MethodNotAllowed,
        Self::NotImplemented,
        Self::RateLimitExceeded,
        Self::QuotaExceeded,
        Self::QueueFull,
        Self::BacklogFull,
        Self::DiskLow,
        Self::Internal,
        Self::Unavailable,
        Self::NotLeader,
        Self::Timeout,
        Self::CommandExpired,
        Self::StaleReplica,
        Self::OutOfOrder,
        Self::ShuttingDown,
    ];

    /// The stable number.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The code with this number; unknown numbers (a newer peer's) read as `Internal`.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|c| c.number() == number)
            .unwrap_or(Self::Internal)
    }

    /// The string clients match on.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// HTTP status.
    #[must_use]
    pub fn http(self) -> u16 {
        self.row().1
    }

    /// gRPC status.
    #[must_use]
    pub fn grpc(self) -> GrpcCode {
        self.row().2
    }

    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(self.http(), 429 | 503 | 504)
    }

    fn row(self) -> (&'static str, u16, GrpcCode) {
        use GrpcCode as G;
        match self {
            Self::BadRequest => ("bad_request", 400, G::InvalidArgument),
            Self::OwnerScopeConflict => ("owner_scope_conflict", 400, G::InvalidArgument),
            Self::InvalidArgument => ("invalid_argument", 422, G::InvalidArgument),
            Self::SchemaInvalid => ("schema_invalid", 422, G::InvalidArgument),
            Self::InvalidAgentAddress => ("invalid_agent_address", 422, G::InvalidArgument),
            Self::PayloadTooLarge => ("payload_too_large", 413, G::ResourceExhausted),
            Self::TaskResultInvalid => ("task_result_invalid", 422, G::InvalidArgument),
            Self::MissingApiKey => ("missing_platform_api_key", 401, G::Unauthenticated),
            Self::InvalidApiKey => ("invalid_platform_api_key", 401, G::Unauthenticated),
            Self::InvalidActorToken => ("invalid_actor_token", 401, G::Unauthenticated),
            Self::InvalidActorScope => ("invalid_actor_scope", 403, G::PermissionDenied),
            Self::PolicyDenied => ("policy_denied", 403, G::PermissionDenied),
            Self::ReceiverOrgClosed => ("receiver_org_closed", 403, G::PermissionDenied),
            Self::AgentKilled => ("agent_killed", 403, G::PermissionDenied),
            Self::NotFound => ("not_found", 404, G::NotFound),
            Self::AgentNotFound => ("agent_not_found", 404, G::NotFound),
            Self::Conflict => ("conflict", 409, G::AlreadyExists),
            Self::IdempotencyConflict => ("idempotency_conflict", 409, G::AlreadyExists),
            Self::IntentTerminal => ("intent_terminal", 409, G::FailedPrecondition),
            Self::PolicyGenerationMismatch => ("policy_generation_mismatch", 409, G::FailedPrecondition),
            Self::StaleAttempt => ("stale_attempt", 409, G::FailedPrecondition),
            Self::MethodNotAllowed => ("method_not_allowed", 405, G::Unimplemented),
            Self::NotImplemented => ("not_implemented", 501, G::Unimplemented),
            Self::RateLimitExceeded => ("rate_limit_exceeded", 429, G::ResourceExhausted),
            Self::QuotaExceeded => ("quota_exceeded", 429, G::ResourceExhausted),
            Self::QueueFull => ("queue_full", 503, G::Unavailable),
            Self::BacklogFull => ("backlog_full", 429, G::ResourceExhausted),
            Self::DiskLow => ("disk_low", 503, G::ResourceExhausted),
            Self::Internal => ("internal_error", 500, G::Internal),
            Self::Unavailable => ("unavailable", 503, G::Unavailable),
            Self::NotLeader => ("not_leader", 503, G::Unavailable),
            Self::Timeout => ("timeout", 504, G::DeadlineExceeded),
            Self::CommandExpired => ("command_expired", 503, G::Unavailable),
            Self::StaleReplica => ("stale_replica", 503, G::Unavailable),
            Self::OutOfOrder => ("out_of_order", 409, G::FailedPrecondition),
            Self::ShuttingDown => ("shutting_down", 503, G::Unavailable),
        }
    }
}

/// An error as a caller of a service sees it: what happened and what to do, never a payload.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    pub code: ErrorCode,
    /// Lowercase, no full stop, names the field or object and the fix.
    pub message: String,
    /// Seconds after which a retry makes sense; `None` unless retryable.
    pub retry_after_seconds: Option<u32>,
    /// The field of the request that is at fault, where one is.
    pub field: Option<&'static str>,
}

impl ServiceError {
    /// An error without a retry hint of its own; retryable codes get one second.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_seconds: code.retryable().then_some(1),
            field: None,
        }
    }

    /// The same error, naming the field of the request that is at fault.
    #[must_use]
    pub fn in_field(self, field: &'static str) -> Self {
        Self {
            field: Some(field),
            ..self
        }
    }
}

impl From<crate::proto::internal::Rejection> for ServiceError {
    fn from(r: crate::proto::internal::Rejection) -> Self {
        Self::new(ErrorCode::from_number(r.code), r.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), code);
        }
        assert_eq!(ErrorCode::from_number(77), ErrorCode::Internal);
    }

    #[test]
    fn statuses_follow_the_surface() {
        for (code, http) in [
            (ErrorCode::MissingApiKey, 401),
            (ErrorCode::IdempotencyConflict, 409),
            (ErrorCode::IntentTerminal, 409),
            (ErrorCode::PayloadTooLarge, 413),
            (ErrorCode::SchemaInvalid, 422),
            (ErrorCode::RateLimitExceeded, 429),
            (ErrorCode::DiskLow, 503),
            (ErrorCode::Unavailable, 503),
        ] {
            assert_eq!(code.http(), http);
        }
        assert!(ErrorCode::Unavailable.retryable() && !ErrorCode::Conflict.retryable());
    }
}
