//! Endpoints for orchestrators and Prometheus.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use pagewire_cluster::id::Scope;

use serde_json::{Value, json};

use super::ApiState;
use super::error::ApiError;
use crate::protocol::ErrorCode;
use crate::telemetry::{CONTENT_TYPE, Metrics};

/// Reports that the process is alive.
///
/// This does not depend on the cluster: a node that has lost the cluster keeps its pages, and a restart would only
/// lose them.
#[utoipa::path(get, path = "/livez", tag = "probes", responses((status = 200, description = "alive")))]
pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// Reports whether the node should receive new pages.
#[utoipa::path(get, path = "/readyz", tag = "probes",
    responses((status = 200, description = "ready"), (status = 503, description = "not ready")))]
pub(super) async fn ready(State(parts): State<ApiState>) -> (StatusCode, Json<Value>) {
    let mut missing = parts.ready.missing();
    // the lease ends by time, so it is read and not latched
    if parts.lease.holder().is_none() {
        missing.push("lease".into());
    }
    readiness(&missing)
}

/// The response to a readiness probe: ready when nothing is missing.
pub(super) fn readiness(missing: &[Cow<'_, str>]) -> (StatusCode, Json<Value>) {
    if missing.is_empty() {
        return (StatusCode::OK, Json(json!({"status": "ready"})));
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "missing": missing})))
}

/// The node's metrics, in the format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "probes", responses((status = 200, content_type = CONTENT_TYPE)))]
pub(super) async fn metrics(State(parts): State<ApiState>) -> Result<impl IntoResponse, ApiError> {
    // summed on request, because a running sum would be one more cache line that every push writes
    let waiting: usize = parts.hub.pages(&Scope::All).iter().map(|page| page.waiting_bytes()).sum();
    parts.metrics.outbox_bytes.set(waiting as i64);
    exposition(&parts.metrics)
}

/// The metrics in the format of Prometheus.
///
/// # Errors
///
/// [`ErrorCode::Internal`] when a metric cannot be encoded.
pub(super) fn exposition(metrics: &Metrics) -> Result<impl IntoResponse + use<>, ApiError> {
    let page = metrics.encode().map_err(|_| ApiError::new(ErrorCode::Internal, "no metrics"))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], page))
}
