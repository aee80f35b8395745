//! What a person or a program sees of a running node from outside.

use opentelemetry::trace::TraceContextExt;
use pagewire_cluster::trace::TraceParent;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The trace context of the current span, to travel with a message.
pub fn current_trace() -> Option<TraceParent> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let here = span.span_context();
    let text = format!("00-{}-{}-{:02x}", here.trace_id(), here.span_id(), here.trace_flags().to_u8());
    here.is_valid().then(|| TraceParent::parse(&text)).flatten()
}
