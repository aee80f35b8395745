//! The server API: HTTP endpoints of a node for programs and operators.
//!
//! Owns: `/api/v1`, its OpenAPI document, its access control, and the probes without a prefix. Never: sockets or the
//! commands of pages. Each group of endpoints has its own file; the document is generated from the same types.
//!
//! The edge serves [`router`] and puts the peer's address into each request as `ConnectInfo<SocketAddr>`. A request
//! without one counts as remote.

mod auth;
mod calls;
mod error;
mod events;
mod extract;
mod health;
mod id;
mod jobs;
mod keys;
mod nodes;
mod openapi;
mod pages;
mod pagination;
mod quarantine;
mod registers;
mod requests;
mod rollouts;
mod routes;
mod security;
mod send;
mod sessions;
mod sse;
mod state;
mod topics;
mod trace;
mod unregister;
mod users;
mod work_callbacks;
mod worker_probes;
mod workers;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::get;
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::register::Registers;
use pagewire_cluster::registry::Registry;
use pagewire_cluster::timing::Timing;
use pagewire_worker::requests::ProgramRequests;
use pagewire_worker::runtime::http::callbacks::Callbacks;

use self::auth::{AuthPolicy, guard};
use self::error::ApiError;
use self::security::secure;
pub use self::worker_probes::{WorkerState, worker_router};
use crate::auth::Role;
use crate::command::Context;
use crate::config::Config;
use crate::pages::Hub;
use crate::protocol::ErrorCode;
use crate::telemetry::{Metrics, Readiness};

/// The parts of a node that the API reads and acts on.
#[derive(Clone)]
pub struct ApiState {
    /// The configuration.
    pub config: Arc<Config>,
    /// The time-outs.
    pub timing: Timing,
    /// The services that the commands of pages use as well.
    pub context: Arc<Context>,
    /// The pages of this node.
    pub hub: Arc<Hub>,
    /// This node's view of the cluster.
    pub registry: Registry,
    /// The identity of this node in the cluster.
    pub lease: NodeLease,
    /// Whether this node can take traffic.
    pub ready: Readiness,
    /// The metrics of this node.
    pub metrics: Arc<Metrics>,
    /// The work of this node that may report progress.
    pub callbacks: Callbacks,
    /// The registers of applications.
    pub registers: Registers,
    /// The requests of programs beside them.
    pub programs: ProgramRequests,
}

/// All routes of the API. On an address beyond this machine, without any key or token secret, there are only the
/// probes.
pub fn router(parts: ApiState) -> Router {
    served(parts).route_layer(map_response(secure))
}

fn served(parts: ApiState) -> Router {
    let probes = Router::from(routes::probes()).with_state(parts.clone());
    // a report needs no key: its address is one
    let probes = probes.merge(work_callbacks::routes(parts.callbacks.clone()));
    let open = parts.config.listen.ip().is_loopback();
    if !open && parts.config.auth.api_keys.is_empty() && parts.config.auth.hs256_secret.is_empty() {
        tracing::warn!(
            listen = %parts.config.listen,
            "the server API is off: set auth.api_keys to serve it on an address beyond this machine"
        );
        return probes;
    }
    let policy = |needs| AuthPolicy { needs, open, authenticator: parts.context.authenticator.clone() };
    let limit = DefaultBodyLimit::max(parts.config.limits.max_body_bytes);
    let push = Router::from(routes::push());
    let admin = Router::from(routes::admin()).route("/api/openapi.json", get(openapi::document));
    push.layer(from_fn_with_state(policy(Role::Push), guard))
        .merge(admin.layer(from_fn_with_state(policy(Role::Admin), guard)))
        .route("/api/{*rest}", axum::routing::any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(limit)
        .with_state(parts)
        .layer(axum::middleware::from_fn(trace::trace))
        .merge(probes)
}

/// Routes of a node that is starting: it is alive, and every other request is refused as not ready.
pub fn not_ready() -> Router {
    let wait = || async { ApiError::new(ErrorCode::Unavailable, "this node is not ready yet") };
    Router::new().route("/livez", get(health::live)).fallback(wait).layer(map_response(secure))
}

async fn not_found() -> ApiError {
    ApiError::new(ErrorCode::Unknown, "there is nothing at this path")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ErrorCode::Unsupported, "this path does not support this method")
        .with_status(axum::http::StatusCode::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests;
