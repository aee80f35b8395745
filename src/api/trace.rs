//! One span per request, which continues the caller's trace. The trace id is the request's id.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use pagewire_cluster::trace::TraceParent;
use tracing::Instrument;
use tracing::field::Empty;

use crate::telemetry::{child_of, current_trace};

/// The id of the request that is being served.
pub(super) fn request_id() -> String {
    match current_trace() {
        Some(trace) => trace.as_str().split('-').nth(1).unwrap_or_default().to_owned(),
        None => uuid::Uuid::new_v4().simple().to_string(),
    }
}

/// Serves the request inside its span and tells its id.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let span = tracing::info_span!("request", method = %request.method(), path = request.uri().path(), trace = Empty);
    let span = child_of(span, parent.and_then(TraceParent::parse).as_ref());
    async move {
        let id = HeaderValue::try_from(request_id());
        let mut response = next.run(request).await;
        if let Ok(id) = id {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }
    .instrument(span)
    .await
}
