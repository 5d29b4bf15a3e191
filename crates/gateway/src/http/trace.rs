//! W3C trace context: the caller's span is the parent of what happens here.

use axum::http::{HeaderMap, Method};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACE_PARENT: &str = "traceparent";
/// Longest header that is read.
const BYTES_MAX: usize = 255;

/// A well-formed W3C `traceparent`.
pub(super) fn trace_parent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(TRACE_PARENT)?.to_str().ok()?.trim();
    parse(text).map(|_| text)
}

/// The span of one request, below the caller's when the request names it.
pub(super) fn request_span(method: &Method, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!(
        "http.request",
        otel.kind = "server",
        method = %method,
        endpoint = tracing::field::Empty,
        status = tracing::field::Empty
    );
    if !span.is_disabled()
        && let Some(parent) = trace_parent(headers).and_then(parse)
    {
        // Refused when nothing exports spans, and then there is nothing to connect.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span
}

fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let trace = hex(parts.next()?, 32)?;
    let span = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let further = parts.next().is_some();
    if text.len() > BYTES_MAX || version == "ff" || (version == "00" && further) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

fn hex(part: &str, len: usize) -> Option<&str> {
    let fits = part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(TRACE_PARENT.parse().unwrap(), text.parse().unwrap())])
    }

    #[test]
    fn only_well_formed_trace_parents_are_kept() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_parent(&headers(good)), Some(good));
        let later = format!("01{}-more", &good[2..]);
        assert_eq!(trace_parent(&headers(&later)), Some(later.as_str()));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_parent(&headers(bad)), None, "{bad}");
        }
    }

    #[test]
    fn the_callers_span_is_read_as_it_is() {
        let parent = parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id().to_string(), "00f067aa0ba902b7");
        assert!(parent.is_sampled() && parent.is_remote());
    }
}
