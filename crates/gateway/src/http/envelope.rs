//! What every answer carries: ids, rate headers, the error body, one count in the metrics.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;

use super::App;
use super::error::ApiError;
use crate::limits::RateStatus;
use crate::metrics::{ERRORS, HTTP_REQUESTS};

const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_ID_BYTES_MAX: usize = 255;

/// Marks an answer whose body stays as it is, whatever its status.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnBody;

/// Filled in while a request is handled.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) request_id: String,
    /// Empty when it is no text.
    pub(crate) trace_id: String,
    pub(crate) endpoint: OnceLock<&'static str>,
    pub(crate) rate: OnceLock<RateStatus>,
}

/// The outermost layer.
pub(super) async fn envelope(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = format!("req_{}", app.service.random_uuid().simple());
    let trace_id = trace_id(request.headers()).unwrap_or_else(|| {
        let generated = app.service.random_uuid().to_string();
        HeaderValue::from_str(&generated).unwrap_or(HeaderValue::from_static("none"))
    });
    let notes = Arc::new(Notes {
        request_id: request_id.clone(),
        trace_id: trace_id.to_str().unwrap_or_default().to_owned(),
        ..Notes::default()
    });
    request.extensions_mut().insert(Arc::clone(&notes));
    let method = request.method().clone();
    let span = crate::trace::request_span(&method, request.headers());
    let handled = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .instrument(span.clone());
    let mut response = match handled.await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(%request_id, "a request handler panicked");
            ApiError::from_status(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
    };
    let status = response.status();
    span.record("status", status.as_u16());
    if let Some(endpoint) = notes.endpoint.get() {
        span.record("endpoint", endpoint);
    }
    let mut refusal = response.extensions_mut().remove::<ApiError>();
    let has_body = response.extensions().get::<OwnBody>().is_some();
    if refusal.is_none() && !has_body && (status.is_client_error() || status.is_server_error()) {
        // Refused by the framework: a path or query that cannot be decoded.
        refusal = Some(ApiError::from_status(status));
    }
    if let Some(error) = refusal {
        let code = error.0.error.code;
        metrics::counter!(ERRORS, "code" => code.name()).increment(1);
        tracing::debug!(%request_id, code = code.name(), error = %error.0.error, "request refused");
        *response.body_mut() = Body::from(error.body(&request_id));
        set(response.headers_mut(), CONTENT_TYPE, "application/json");
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    set(headers, REQUEST_ID, &request_id);
    headers.insert(TRACE_ID, trace_id);
    if let Some(rate) = notes.rate.get() {
        rate_headers(headers, rate);
    }
    metrics::counter!(
        HTTP_REQUESTS,
        "endpoint" => notes.endpoint.get().copied().unwrap_or("other"),
        "method" => method_name(&method),
        "status" => response.status().as_u16().to_string(),
    )
    .increment(1);
    tracing::trace!(%request_id, status = response.status().as_u16(), elapsed = ?started.elapsed(), "answered");
    response
}

/// A label of bounded variety.
pub(super) fn method_name(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn trace_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let found = headers.get(TRACE_ID)?;
    (!found.is_empty() && found.len() <= TRACE_ID_BYTES_MAX).then(|| found.clone())
}

fn rate_headers(headers: &mut HeaderMap, rate: &RateStatus) {
    headers.insert("x-ratelimit-limit", HeaderValue::from(rate.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(rate.remaining));
    headers.insert("x-ratelimit-reset", HeaderValue::from(rate.reset_at_seconds));
    if !rate.allowed {
        headers.insert(RETRY_AFTER, HeaderValue::from(rate.retry_after_seconds));
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
