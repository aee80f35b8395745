//! The listener of a worker: probes for orchestrators, and metrics.
//!
//! Owns: its routes and their access control, which is that of a node. Never: work; a worker receives calls and jobs
//! over NATS only.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use pagewire_worker::runtime::http::callbacks::Callbacks;
use serde_json::Value;

use super::auth::{AuthPolicy, guard};
use super::error::ApiError;
use super::security::secure;
use super::{health, not_found, work_callbacks};
use crate::auth::{Authenticator, Role};
use crate::calls::LocalWorkers;
use crate::telemetry::{Metrics, Readiness};

/// The parts of a worker that its listener shows.
#[derive(Clone)]
pub struct WorkerState {
    /// Whether the worker takes work.
    pub ready: Readiness,
    /// The workers of the process.
    pub local: LocalWorkers,
    /// The metrics of the worker.
    pub metrics: Arc<Metrics>,
    /// The work of the worker that may report progress.
    pub callbacks: Callbacks,
}

/// The routes of a worker. `open`: it listens on this machine only, so that metrics need no key without configured
/// keys.
pub fn worker_router(parts: WorkerState, authenticator: Authenticator, open: bool) -> Router {
    let policy = AuthPolicy { needs: Role::Admin, open, authenticator: Arc::new(authenticator) };
    let callbacks = work_callbacks::routes(parts.callbacks.clone());
    Router::new()
        .route("/metrics", get(metrics).layer(from_fn_with_state(policy, guard)))
        .route("/livez", get(health::live))
        .route("/readyz", get(ready))
        .fallback(not_found)
        .with_state(parts)
        .merge(callbacks)
        .layer(map_response(secure))
}

async fn ready(State(parts): State<WorkerState>) -> (StatusCode, Json<Value>) {
    let mut missing = parts.ready.missing();
    // the lease ends by time, so it is read and not latched
    if !parts.local.has_active() {
        missing.push("lease".into());
    }
    if parts.local.are_draining() {
        missing.push("accepting".into());
    }
    health::readiness(&missing)
}

async fn metrics(State(parts): State<WorkerState>) -> Result<impl IntoResponse, ApiError> {
    health::exposition(&parts.metrics)
}
