//! The routes of the API, by the credential that they need. A route is listed here once: the handler's attribute names
//! its path and method, and the OpenAPI document is generated from this list.
//!
//! Owns: which handlers are served, and with which role. Never: the check of a credential (`auth`), or the behaviour of
//! a handler.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    ApiState, calls, events, health, jobs, keys, nodes, pages, quarantine, registers, requests, rollouts,
    send, sessions, state, topics, unregister, users, workers,
};

/// Routes that are open to every client.
pub(super) fn probes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(health::live)).routes(routes!(health::ready))
}

/// Routes that the role `push` grants.
pub(super) fn push() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(send::send)).routes(routes!(send::batch))
}

/// Routes that the role `admin` grants in addition.
pub(super) fn admin() -> OpenApiRouter<ApiState> {
    work().merge(registry()).merge(cluster()).merge(trees())
}

fn work() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(calls::call))
        .routes(routes!(calls::executors))
        .routes(routes!(requests::request))
        .routes(routes!(jobs::list::jobs, jobs::submit))
        .routes(routes!(jobs::job))
        .routes(routes!(jobs::events::events))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(workers::workers))
        .routes(routes!(workers::drain))
        .routes(routes!(rollouts::rollouts))
        .routes(routes!(rollouts::status, rollouts::change))
        .routes(routes!(rollouts::abort))
        .routes(routes!(rollouts::events))
        .routes(routes!(rollouts::explain))
        .routes(routes!(rollouts::nats_mapping))
        .routes(routes!(rollouts::overrides, rollouts::assign_many))
        .routes(routes!(rollouts::assign, rollouts::unassign))
        .routes(routes!(rollouts::history))
}

fn registry() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(pages::page, unregister::page))
        .routes(routes!(sessions::session, unregister::session))
        .routes(routes!(pages::session_pages))
        .routes(routes!(sessions::connection, unregister::connection))
        .routes(routes!(sessions::of_connection))
        .routes(routes!(users::users))
        .routes(routes!(users::user, unregister::user))
        .routes(routes!(sessions::of_user))
        .routes(routes!(topics::topics))
        .routes(routes!(topics::topic))
        .routes(routes!(events::events))
}

fn cluster() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(nodes::stats))
        .routes(routes!(nodes::nodes))
        .routes(routes!(nodes::drain))
        .routes(routes!(quarantine::quarantine))
        .routes(routes!(quarantine::lift))
        .routes(routes!(registers::items, registers::create_items))
        .routes(routes!(keys::keys))
        .routes(routes!(keys::rotate))
        .routes(routes!(health::metrics))
}

fn trees() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(state::whole, state::replace, state::clear, state::patch))
        .routes(routes!(state::read, state::set, state::delete))
}
