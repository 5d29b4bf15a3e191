//! Errors as gRPC statuses with google.rpc details.

use std::collections::HashMap;
use std::time::Duration;

use baton_protocol::error::GrpcCode;
use baton_protocol::proto::v1;
use baton_protocol::{ErrorCode, ServiceError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::service::Failure;

/// `domain` of every `ErrorInfo`; its `reason` is the name of the catalogue.
pub(crate) const ERROR_DOMAIN: &str = "baton";

/// The status of a refused call.
pub(crate) fn status(failure: impl Into<Failure>) -> Status {
    let Failure { error, existing } = failure.into();
    let code = Code::from_i32(error.code.grpc() as i32);
    let mut metadata = HashMap::new();
    if let Some(account) = existing {
        metadata.insert("existing_address".to_owned(), account.address);
        metadata.insert(
            "existing_service_account_id".to_owned(),
            account.service_account_id,
        );
    }
    let mut details = ErrorDetails::with_error_info(error.code.name(), ERROR_DOMAIN, metadata);
    if error.code.retryable() {
        details.set_retry_info(Some(retry_after(&error)));
    }
    match error.code.grpc() {
        GrpcCode::FailedPrecondition => {
            details.add_precondition_failure_violation(error.code.name(), "intent", &error.message);
        }
        GrpcCode::InvalidArgument => {
            details.add_bad_request_violation(error.field.unwrap_or_default(), &error.message);
        }
        GrpcCode::DeadlineExceeded
        | GrpcCode::NotFound
        | GrpcCode::AlreadyExists
        | GrpcCode::PermissionDenied
        | GrpcCode::ResourceExhausted
        | GrpcCode::Unimplemented
        | GrpcCode::Internal
        | GrpcCode::Unavailable
        | GrpcCode::Unauthenticated => {}
    }
    metrics::counter!(crate::metrics::ERRORS, "code" => error.code.name()).increment(1);
    Status::with_error_details(code, message(&error), details)
}

/// The same for one item of a batch or stream.
pub(crate) fn failure(failure: impl Into<Failure>) -> v1::Failure {
    let error = failure.into().error;
    metrics::counter!(crate::metrics::ERRORS, "code" => error.code.name()).increment(1);
    v1::Failure {
        code: error.code.name().to_owned(),
        retryable: error.code.retryable(),
        retry_after_ms: if error.code.retryable() {
            u32::try_from(retry_after(&error).as_millis()).unwrap_or(u32::MAX)
        } else {
            0
        },
        grpc_code: error.code.grpc() as i32,
        message: message(&error),
    }
}

fn message(error: &ServiceError) -> String {
    if error.message.is_empty() {
        error.code.name().to_owned()
    } else {
        error.message.clone()
    }
}

fn retry_after(error: &ServiceError) -> Duration {
    Duration::from_secs(error.retry_after_seconds.unwrap_or(1).into())
}

/// What to say when a message of the client could not be read; `None` when the client is gone.
pub(crate) fn unreadable(found: &Status) -> Option<Status> {
    let error = match found.code() {
        Code::OutOfRange | Code::ResourceExhausted => ServiceError::new(
            ErrorCode::PayloadTooLarge,
            format!(
                "the message is larger than {} bytes",
                baton_protocol::limits::GRPC_MESSAGE_BYTES_MAX
            ),
        ),
        Code::Internal | Code::InvalidArgument | Code::Unimplemented => {
            ServiceError::new(ErrorCode::BadRequest, "the message cannot be decoded")
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => return None,
    };
    Some(status(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_say_what_to_do() {
        let mut error = ServiceError::new(ErrorCode::RateLimitExceeded, "too many");
        error.retry_after_seconds = Some(7);
        let limited = status(error.clone());
        assert_eq!(limited.code(), Code::ResourceExhausted);
        let details = limited.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("rate_limit_exceeded", "baton")
        );
        assert_eq!(
            details.retry_info().unwrap().retry_delay,
            Some(Duration::from_secs(7))
        );
        let item = failure(error);
        assert_eq!(
            (item.code.as_str(), item.retry_after_ms, item.grpc_code),
            ("rate_limit_exceeded", 7_000, 8)
        );

        let wrong = status(ServiceError::new(ErrorCode::InvalidArgument, "x must be y").in_field("intent.x"));
        let violation = &wrong
            .get_error_details()
            .bad_request()
            .unwrap()
            .clone()
            .field_violations[0];
        assert_eq!(
            (violation.field.as_str(), violation.description.as_str()),
            ("intent.x", "x must be y")
        );

        let over = status(ServiceError::new(ErrorCode::IntentTerminal, "it is over"));
        assert_eq!(over.code(), Code::FailedPrecondition);
        let violation = &over
            .get_error_details()
            .precondition_failure()
            .unwrap()
            .clone()
            .violations[0];
        assert_eq!(violation.r#type, "intent_terminal");
        assert!(over.get_error_details().retry_info().is_none());
    }
}
