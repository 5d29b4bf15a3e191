//! The span of a request, below the caller's.

use axum::http::{HeaderMap, Method};
use baton_protocol::trace;
use tracing::Span;

const TRACE_PARENT: &str = "traceparent";

/// A well-formed W3C `traceparent`.
pub(crate) fn trace_parent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(TRACE_PARENT)?.to_str().ok()?.trim();
    trace::parse(text).map(|_| text)
}

/// The span of one request, below the caller's when the request names it.
pub(crate) fn request_span(method: &Method, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        "http.request",
        otel.kind = "server",
        method = %method,
        endpoint = tracing::field::Empty,
        status = tracing::field::Empty
    );
    trace::caused_by(&span, trace_parent(headers));
    span
}

/// The span of one gRPC call, below the caller's when its metadata names it.
pub(crate) fn grpc_span(method: &'static str, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        "grpc.request",
        otel.kind = "server",
        method,
        code = tracing::field::Empty
    );
    trace::caused_by(&span, trace_parent(headers));
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_trace_parents_are_kept() {
        let headers =
            |text: &str| HeaderMap::from_iter([(TRACE_PARENT.parse().unwrap(), text.parse().unwrap())]);
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_parent(&headers(&format!(" {good}"))), Some(good));
        assert_eq!(trace_parent(&headers(&good[3..])), None);
        assert_eq!(trace_parent(&HeaderMap::new()), None);
    }
}
