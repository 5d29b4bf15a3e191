//! What web pages of other origins may do: nothing, unless their origin is configured.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Stands for every origin.
const ANY: &str = "*";
/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_AGE_MAX: Duration = Duration::from_secs(3_600);
/// What clients send: the AXP surface, gRPC-Web and trace context.
const REQUEST_HEADERS: [&str; 13] = [
    "authorization",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "idempotency-key",
    "last-event-id",
    "traceparent",
    "tracestate",
    "x-api-key",
    "x-grpc-web",
    "x-owner-agent",
    "x-user-agent",
];
/// What pages may read beside the body.
const ANSWER_HEADERS: [&str; 11] = [
    "baton-leader",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
    "x-trace-id",
];

/// Answers preflights and marks answers for these origins; `None` when there are none. Cookies are never asked for:
/// keys travel in headers.
///
/// # Errors
/// When an origin cannot be a header's value.
pub(super) fn layer(origins: &[String]) -> std::io::Result<Option<CorsLayer>> {
    if origins.is_empty() {
        return Ok(None);
    }
    let allowed = if origins.iter().any(|origin| origin == ANY) {
        AllowOrigin::any()
    } else {
        let values = origins.iter().map(|origin| HeaderValue::from_str(origin));
        let values: Result<Vec<_>, _> = values.collect();
        AllowOrigin::list(values.map_err(std::io::Error::other)?)
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(REQUEST_HEADERS.map(HeaderName::from_static))
        .expose_headers(ANSWER_HEADERS.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE_MAX);
    Ok(Some(layer))
}
