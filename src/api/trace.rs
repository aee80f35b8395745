//! One span per request, which continues the caller's trace. The trace id is the request's id.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use pagewire_cluster::trace::TraceParent;
use tracing::Instrument;
use tracing::field::Empty;

use crate::telemetry::{REQUEST_ID, RequestId, child_of};

tokio::task_local! {
    static REQUEST: RequestId;
}

/// Returns the id of the current request.
pub(super) fn request_id() -> RequestId {
    REQUEST.try_with(Clone::clone).unwrap_or_else(|_| RequestId::random())
}

/// Serves the request inside its span and adds its id to the response.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let (method, path) = (request.method(), request.uri().path());
    let span = tracing::info_span!("request", %method, path, trace = Empty);
    let span = child_of(span, parent.and_then(TraceParent::parse).as_ref());
    let id = span.in_scope(RequestId::of_trace);
    span.record("trace", id.as_str());
    let header = id.header();
    let served = async {
        let mut response = next.run(request).await;
        if response.status().is_server_error() {
            tracing::warn!(status = response.status().as_u16(), "request failed");
        }
        response.headers_mut().insert(REQUEST_ID, header);
        response
    };
    REQUEST.scope(id, served).instrument(span).await
}
