//! The one error body (surface 8.2).

use axum::http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use axum::response::{IntoResponse, Response};
use baton_protocol::{ErrorCode, ServiceError};

use super::render::{Object, account_json};
use crate::service::Failure;

/// Clients compare this text.
const IDEMPOTENCY_CONFLICT: &str = "idempotency key reused with different payload";

/// A refused request. The body is written by the outermost layer, which knows the request id.
#[derive(Debug, Clone)]
pub(crate) struct ApiError(pub(super) Failure);

impl<T: Into<Failure>> From<T> for ApiError {
    fn from(failure: T) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.error.code.http());
        let mut response = status
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        if let Some(seconds) = self.0.error.retry_after_seconds {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl ApiError {
    /// For a refusal that says nothing but its status.
    pub(super) fn from_status(status: StatusCode) -> Self {
        let (code, message) = match status.as_u16() {
            404 => (ErrorCode::NotFound, "no such path on this server"),
            405 => (ErrorCode::MethodNotAllowed, "this method is not allowed here"),
            400..500 => (ErrorCode::BadRequest, "the request cannot be read"),
            _ => (ErrorCode::Internal, "the request failed inside the server"),
        };
        ServiceError::new(code, message).into()
    }

    /// The whole answer where the outermost layer is not there: a node that is starting draws no ids.
    pub(super) fn alone(self) -> Response {
        let body = self.body("req_starting");
        let mut response = self.into_response();
        response.extensions_mut().remove::<Self>();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = body.into();
        response
    }

    pub(super) fn body(&self, request_id: &str) -> Vec<u8> {
        let ServiceError { code, message, .. } = &self.0.error;
        let message = if *code == ErrorCode::IdempotencyConflict {
            IDEMPOTENCY_CONFLICT
        } else if message.is_empty() {
            code.name()
        } else {
            message
        };
        let mut error = Object::new();
        error.text("code", code.name());
        error.text("message", message);
        error.raw("details", b"{}");
        let mut out = Object::new();
        out.flag("ok", false);
        out.raw("error", &error.finish());
        out.text("detail", message);
        if let Some(account) = &self.0.existing {
            out.raw("service_account", &account_json(account));
        }
        out.text("request_id", request_id);
        out.finish()
    }
}

/// For a path or object that is not there.
pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
    ServiceError::new(ErrorCode::NotFound, message).into()
}
