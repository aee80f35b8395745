//! One span per request, which continues the caller's trace. The trace id is the request's id.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use pagewire_cluster::trace::TraceParent;
use tracing::Instrument;
use tracing::field::Empty;

use crate::telemetry::{child_of, current_trace};

tokio::task_local! {
    static REQUEST: String;
}

/// The id of the current request.
pub(super) fn request_id() -> String {
    REQUEST.try_with(Clone::clone).unwrap_or_default()
}

/// Serves the request inside its span and adds its id to the response.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let (method, path) = (request.method(), request.uri().path());
    let span = tracing::info_span!("request", %method, path, trace = Empty);
    let span = child_of(span, parent.and_then(TraceParent::parse).as_ref());
    let id = span.in_scope(trace_id).unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    span.record("trace", &id);
    let header = HeaderValue::try_from(&id);
    let served = async {
        let mut response = next.run(request).await;
        if response.status().is_server_error() {
            tracing::warn!(status = response.status().as_u16(), "request failed");
        }
        if let Ok(header) = header {
            response.headers_mut().insert("x-request-id", header);
        }
        response
    };
    REQUEST.scope(id, served).instrument(span).await
}

/// Returns the trace id from the middle of a `traceparent`.
fn trace_id() -> Option<String> {
    current_trace()?.as_str().split('-').nth(1).map(str::to_owned)
}
