//! What can go wrong, in one type: a stable code, whether a repetition makes sense, and what to do.

use baton_protocol::proto::v1;
use std::time::Duration;
use tonic::{Code, Status as GrpcStatus};
use tonic_types::StatusExt as _;

/// What kind of failure it is: the level at which a program decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong; sending it again changes nothing.
    InvalidRequest,
    /// No key, or one that the cluster does not know.
    Unauthenticated,
    /// The key may not do this.
    PermissionDenied,
    /// There is no such object, or the key may not see it.
    NotFound,
    /// The object's state does not allow it: already terminal, another key holder, a stale attempt.
    Conflict,
    /// A rate, a quota or a backlog is full; later it will go through.
    Limited,
    /// No node could serve the call.
    Unavailable,
    /// The time that the caller allowed is over. A write may still have happened: repeat it with the same key.
    Timeout,
    /// The server does not offer this.
    Unsupported,
    /// A fault of the server.
    Internal,
    /// The client, submitter or worker was closed.
    Closed,
}

/// Why a call did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster answered, and the answer is no.
    #[error("{message} ({code})")]
    Refused {
        kind: ErrorKind,
        /// Stable name of the catalogue, for example `queue_full`.
        code: String,
        message: String,
        /// Whether the same request may succeed later.
        retryable: bool,
        /// The server's advice.
        retry_after: Option<Duration>,
    },
    /// No endpoint could be reached, or the connection broke before the answer.
    #[error("cannot reach {endpoint}: {message}")]
    Unreachable {
        endpoint: String,
        message: String,
        /// Whether the request may have been sent before the connection broke.
        sent: bool,
    },
    /// The call's time is over without a final answer.
    #[error("no final answer within {} ms; last: {last}", .after.as_millis())]
    Timeout { after: Duration, last: String },
    /// The request cannot be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// The server sent something that this client does not understand.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// Whatever would have given the answer was closed first.
    #[error("{0} was closed")]
    Closed(&'static str),
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Invalid(_) => ErrorKind::InvalidRequest,
            Self::Unexpected(_) => ErrorKind::Internal,
            Self::Closed(_) => ErrorKind::Closed,
        }
    }

    /// Stable name: the server's where it gave one.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "client_timeout",
            Self::Invalid(_) => "invalid_request",
            Self::Unexpected(_) => "unexpected_answer",
            Self::Closed(_) => "closed",
        }
    }

    /// Whether the same request, unchanged, may succeed later. Repeating a write is safe when it carries the same
    /// idempotency key.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused { retryable, .. } => *retryable,
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Invalid(_) | Self::Unexpected(_) | Self::Closed(_) => false,
        }
    }

    /// How long the server asks to wait before the next try.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Invalid(_)
            | Self::Unexpected(_)
            | Self::Closed(_) => None,
        }
    }

    /// What to do about it, for people.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match (self.kind(), self.code()) {
            (_, "payload_too_large") => "send less, or a reference to where the data is",
            (_, "idempotency_conflict") => "this key was used for another request; draw a new one",
            (_, "intent_terminal") => "the intent has ended; submit a new one",
            (_, "agent_killed") => "the agent is stopped; an operator must resume it",
            (ErrorKind::InvalidRequest, _) => "correct the request",
            (ErrorKind::Unauthenticated, _) => "check the API key",
            (ErrorKind::PermissionDenied, _) => "use a key that may do this, or ask an operator",
            (ErrorKind::NotFound, _) => "check the name, and that the key belongs to the same workspace",
            (ErrorKind::Conflict, _) => "read the object's state and decide anew",
            (ErrorKind::Limited, _) => "try again later, or slower",
            (ErrorKind::Unavailable, _) => "check the endpoints and that a majority of the nodes runs",
            (ErrorKind::Timeout, _) => "try again with the same idempotency key, or allow more time",
            (ErrorKind::Unsupported, _) => "use a server that offers this",
            (ErrorKind::Internal, _) => "look into the server's log",
            (ErrorKind::Closed, _) => "open a new one",
        }
    }

    /// The failure of one item of a batch or stream.
    pub(crate) fn from_failure(failure: v1::Failure) -> Self {
        let code = Code::from_i32(failure.grpc_code);
        Self::Refused {
            kind: kind_of(code, &failure.code),
            code: failure.code,
            message: failure.message,
            retryable: failure.retryable,
            retry_after: millis(failure.retry_after_ms),
        }
    }

    /// A call's status. One without a source was sent by the server; one with, by the transport.
    pub(crate) fn from_status(status: &GrpcStatus, endpoint: &str) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        if info.is_none() && is_transport(status) {
            let (message, sent) = innermost(status);
            return Self::Unreachable {
                endpoint: endpoint.to_owned(),
                message,
                sent,
            };
        }
        let code = info.map_or_else(|| name_of(status.code()).to_owned(), |info| info.reason.clone());
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let retryable = info.and_then(|info| info.metadata.get("retryable")).map_or_else(
            || retryable_code(status.code(), retry_after),
            |text| text == "true",
        );
        Self::Refused {
            kind: kind_of(status.code(), &code),
            code,
            message: status.message().to_owned(),
            retryable,
            retry_after,
        }
    }

    /// Whether this answer proves that the request changed nothing: then even a write without a key is repeated.
    pub(crate) fn proves_no_effect(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(
                code.as_str(),
                "rate_limit_exceeded" | "quota_exceeded" | "queue_full" | "backlog_full" | "shutting_down"
            ),
            Self::Unreachable { sent, .. } => !sent,
            Self::Timeout { .. } | Self::Invalid(_) | Self::Unexpected(_) | Self::Closed(_) => false,
        }
    }

    /// Whether another endpoint may do better than the one that gave this error.
    pub(crate) fn blames_endpoint(&self) -> bool {
        match self {
            Self::Refused { kind, code, .. } => {
                *kind == ErrorKind::Unavailable && code != "queue_full" || *kind == ErrorKind::Timeout
            }
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Invalid(_) | Self::Unexpected(_) | Self::Closed(_) => false,
        }
    }
}

fn is_transport(status: &GrpcStatus) -> bool {
    std::error::Error::source(status).is_some()
}

/// The last cause, which is what a person can act on ("Connection refused"; what wraps it repeats "transport
/// error"), and whether there was a connection at all.
fn innermost(status: &GrpcStatus) -> (String, bool) {
    let mut text = status.message().to_owned();
    let mut sent = true;
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        sent &= !error.is::<tonic::ConnectError>();
        text = error.to_string();
        source = error.source();
    }
    (text, sent)
}

fn millis(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms.into()))
}

fn retryable_code(code: Code, retry_after: Option<Duration>) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Aborted)
        || code == Code::ResourceExhausted && retry_after.is_some()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "codes that Baton does not send are its faults"
)]
fn kind_of(code: Code, name: &str) -> ErrorKind {
    match code {
        // gRPC has one number for "too large" and "too much".
        Code::ResourceExhausted if name == "payload_too_large" => ErrorKind::InvalidRequest,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidRequest,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => ErrorKind::Conflict,
        Code::ResourceExhausted => ErrorKind::Limited,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Cancelled => ErrorKind::Closed,
        _ => ErrorKind::Internal,
    }
}

/// A name for a status that came without details: from a proxy, or from a server of another kind.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "timeout",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "conflict",
        Code::PermissionDenied => "policy_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "not_implemented",
        Code::Internal => "internal_error",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "invalid_platform_api_key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn refused(code: Code, reason: &str) -> Error {
        let mut details = ErrorDetails::with_error_info(reason, "baton", []);
        details.set_retry_info(Some(Duration::from_millis(700)));
        Error::from_status(&GrpcStatus::with_error_details(code, "no", details), "http://a:1")
    }

    #[test]
    fn details_give_the_name_the_kind_and_the_advice() {
        let error = refused(Code::Unavailable, "queue_full");
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Unavailable, "queue_full")
        );
        assert_eq!(error.retry_after(), Some(Duration::from_millis(700)));
        assert!(error.retryable() && error.proves_no_effect() && !error.blames_endpoint());
        let error = refused(Code::Unavailable, "not_leader");
        assert!(error.retryable() && !error.proves_no_effect() && error.blames_endpoint());
        let error = refused(Code::ResourceExhausted, "payload_too_large");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.advice().contains("send less"));
    }

    #[test]
    fn statuses_without_details_still_have_a_name() {
        let error = Error::from_status(&GrpcStatus::not_found("no such intent"), "http://a:1");
        assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "not_found"));
        assert!(!error.retryable());
        assert_eq!(error.to_string(), "no such intent (not_found)");
        let limited = Error::from_status(&GrpcStatus::resource_exhausted("message too long"), "x");
        assert!(
            !limited.retryable(),
            "no advice to wait means that waiting does not help"
        );
    }

    #[test]
    fn a_broken_transport_names_the_endpoint_and_the_last_cause() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "Connection refused");
        let status = GrpcStatus::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
        let error = Error::from_status(&status, "http://a:1");
        assert_eq!(error.to_string(), "cannot reach http://a:1: Connection refused");
        assert!(error.retryable() && error.blames_endpoint() && error.proves_no_effect());
    }
}
