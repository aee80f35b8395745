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
mod rollouts;
mod send;
mod sessions;
mod state;
mod topics;
mod trace;
mod unregister;
mod users;
mod workers;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::registry::Registry;
use pagewire_cluster::timing::Timing;

use self::auth::{AuthPolicy, guard};
use self::error::ApiError;
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
}

/// All routes of the API. On an address beyond this machine, without any key or token secret, there are only the
/// probes.
pub fn router(parts: ApiState) -> Router {
    let probes = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(parts.clone());
    let open = parts.config.listen.ip().is_loopback();
    if !open && parts.config.auth.api_keys.is_empty() && parts.config.auth.hs256_secret.is_empty() {
        tracing::warn!(
            listen = %parts.config.listen,
            "no server API here: it needs auth.api_keys on an address beyond this machine"
        );
        return probes;
    }
    let gate = |needs| AuthPolicy { needs, open, authenticator: parts.context.authenticator.clone() };
    let limit = DefaultBodyLimit::max(parts.config.limits.max_body_bytes);
    push_routes()
        .layer(from_fn_with_state(gate(Role::Push), guard))
        .merge(admin_routes().layer(from_fn_with_state(gate(Role::Admin), guard)))
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
    Router::new().route("/livez", get(health::live)).fallback(wait)
}

/// Routes that the role `push` grants.
fn push_routes() -> Router<ApiState> {
    Router::new().route("/api/v1/send", post(send::send)).route("/api/v1/send/batch", post(send::batch))
}

/// Routes that the role `admin` grants in addition.
fn admin_routes() -> Router<ApiState> {
    Router::new()
        .route("/api/openapi.json", get(openapi::document))
        .route("/api/v1/calls", post(calls::call))
        .route("/api/v1/executors", get(calls::executors))
        .route("/api/v1/jobs", get(jobs::list::jobs).post(jobs::submit))
        .route("/api/v1/jobs/{id}", get(jobs::job))
        .route("/api/v1/jobs/{id}/events", get(jobs::events::events))
        .route("/api/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/api/v1/keys", get(keys::keys))
        .route("/api/v1/keys/rotate", post(keys::rotate))
        .route("/api/v1/workers", get(workers::workers))
        .route("/api/v1/workers/{id}/drain", post(workers::drain))
        .route("/api/v1/stats", get(nodes::stats))
        .route("/api/v1/nodes", get(nodes::nodes))
        .route("/api/v1/pages/{id}", get(pages::page).delete(unregister::page))
        .route("/api/v1/sessions/{id}", get(sessions::session).delete(unregister::session))
        .route("/api/v1/sessions/{id}/pages", get(pages::session_pages))
        .route("/api/v1/connections/{id}", get(sessions::connection).delete(unregister::connection))
        .route("/api/v1/connections/{id}/sessions", get(sessions::of_connection))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/users", get(users::users))
        .route("/api/v1/users/{id}", get(users::user).delete(unregister::user))
        .route("/api/v1/users/{id}/sessions", get(sessions::of_user))
        .route("/api/v1/rollouts", get(rollouts::rollouts))
        .route("/api/v1/rollouts/{pool}", get(rollouts::status).put(rollouts::change))
        .route("/api/v1/rollouts/{pool}/explain", get(rollouts::explain))
        .route("/api/v1/rollouts/{pool}/history", get(rollouts::history))
        .route(
            "/api/v1/{level}/{id}/data",
            get(state::whole).put(state::replace).delete(state::clear).patch(state::patch),
        )
        .route("/api/v1/{level}/{id}/data/{*path}", get(state::read).put(state::set).delete(state::delete))
        .route("/api/v1/topics", get(topics::topics))
        .route("/api/v1/topics/{id}", get(topics::topic))
        .route("/metrics", get(health::metrics))
}

async fn not_found() -> ApiError {
    ApiError::new(ErrorCode::Unknown, "there is nothing at this path")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ErrorCode::Unsupported, "this path does not take this method")
        .with_status(axum::http::StatusCode::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests;
