//! W3C trace context: from a header or a command to the spans of the work that it caused.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Longest `traceparent` that is read.
const BYTES_MAX: usize = 255;
/// Causes that one span is linked to at most; the others are left out.
const LINKS_MAX: usize = 32;

/// Reads a `traceparent`; `None` when it is not well formed.
#[must_use]
pub fn parse(text: &str) -> Option<SpanContext> {
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

/// `traceparent` of the current span; `None` when no span is exported.
#[must_use]
pub fn current() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

/// Puts `span` below what caused it: a child of a single cause, linked to each of several. Empty and malformed ones
/// do not count. Call before the span is entered.
pub fn caused_by<'a>(span: &Span, trace_parents: impl IntoIterator<Item = &'a str>) {
    if span.is_disabled() {
        return;
    }
    let causes = trace_parents.into_iter().filter_map(parse);
    let mut causes: Vec<SpanContext> = causes.take(LINKS_MAX).collect();
    if causes.len() > 1 {
        for cause in causes {
            span.add_link(cause);
        }
    } else if let Some(parent) = causes.pop() {
        // Refused when nothing exports spans, and then there is nothing to connect.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_well_formed_trace_parents_are_read() {
        assert!(parse(GOOD).is_some());
        assert!(parse(&format!("01{}-more", &GOOD[2..])).is_some());
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_callers_span_is_read_as_it_is() {
        let parent = parse(GOOD).unwrap();
        assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id().to_string(), "00f067aa0ba902b7");
        assert!(parent.is_sampled() && parent.is_remote());
    }
}
