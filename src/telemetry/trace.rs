//! Conversion between a span and the trace context of a message.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use pagewire_cluster::trace::TraceParent;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Returns the context of the current span, for a message that is about to be sent. `None` outside of any span.
pub fn current_trace() -> Option<TraceParent> {
    trace_of(&Span::current())
}

/// Returns the context of a span. `None` for a span that is disabled or without telemetry.
pub(super) fn trace_of(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return None;
    }
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    TraceParent::parse(&format!("00-{trace}-{id}-{flags:02x}"))
}

/// Makes `span` a child of the span in which a message was sent. The trace id appears in the log if the span declares
/// `trace = tracing::field::Empty`.
pub fn child_of(span: Span, parent: Option<&TraceParent>) -> Span {
    if !span.is_disabled()
        && let Some(parent) = parent.and_then(remote)
    {
        span.record("trace", tracing::field::display(parent.trace_id()));
        // fails when telemetry was not started or the span is disabled; then there is no context to keep
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }
    span
}

fn remote(parent: &TraceParent) -> Option<SpanContext> {
    let mut parts = parent.as_str().split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use tracing::{info_span, subscriber::with_default};
    use tracing_subscriber::{Registry, layer::SubscriberExt};

    use super::super::contexts;
    use super::*;

    const FROM_ELSEWHERE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parts(trace: &TraceParent) -> Vec<String> {
        trace.as_str().split('-').map(str::to_owned).collect()
    }

    #[test]
    fn spans_inside_each_other_share_a_trace_and_have_their_own_ids() {
        with_default(Registry::default().with(contexts()), || {
            let outer = info_span!("outer").entered();
            let above = parts(&current_trace().unwrap());
            let _inner = info_span!("inner").entered();
            let below = parts(&current_trace().unwrap());
            assert_eq!(above[1], below[1]);
            assert_ne!(above[2], below[2]);
            drop(outer);
        });
    }

    #[test]
    fn a_trace_goes_on_where_the_message_arrives() {
        with_default(Registry::default().with(contexts()), || {
            let parent = TraceParent::parse(FROM_ELSEWHERE);
            let span = child_of(info_span!("deliver"), parent.as_ref());
            let here = span.in_scope(|| parts(&current_trace().unwrap()));
            assert_eq!(here[1], "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_ne!(here[2], "00f067aa0ba902b7");
            assert_eq!(here[3], "01", "the caller's decision to sample travels on");
        });
    }

    #[test]
    fn outside_of_spans_there_is_no_context() {
        with_default(Registry::default().with(contexts()), || assert_eq!(current_trace(), None));
        assert_eq!(current_trace(), None, "nor without telemetry");
        let zeros = TraceParent::parse("00-00000000000000000000000000000000-0000000000000000-00");
        assert!(remote(&zeros.unwrap()).is_none());
    }
}
