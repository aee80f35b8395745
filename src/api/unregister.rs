//! `DELETE` of a user, connection, session or page: closes it and everything open below it for good.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::id::Scope;

use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::id::{KeyId, UserId};
use super::pages::unknown;
use crate::pages;

/// Result of a close.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct CloseReport {
    /// Pages that were closed, with a socket or in their resume window.
    closed: u64,
    /// The nodes that responded.
    nodes: Vec<String>,
    /// The nodes that did not respond. Their pages are removed from the registry, and closed as soon as these nodes
    /// see the removal.
    unreachable: Vec<String>,
}

/// Closes every page of a user and ends the user's connections and sessions. The user may come back: this is no ban.
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = CloseReport), (status = "default", body = ErrorBody)))]
pub(super) async fn user(
    State(parts): State<ApiState>,
    UserId(user): UserId,
) -> Result<Json<CloseReport>, ApiError> {
    // every user exists: one without pages has none to close
    unregister(&parts, Scope::User(user)).await.map(|closed| Json(closed.unwrap_or_default().into()))
}

/// Closes every page of a connection and ends it.
#[utoipa::path(delete, path = "/api/v1/connections/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = CloseReport), (status = "default", body = ErrorBody)))]
pub(super) async fn connection(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
) -> Result<Json<CloseReport>, ApiError> {
    let closed = unregister(&parts, Scope::Connection(key)).await?;
    closed.map(|closed| Json(closed.into())).ok_or_else(|| unknown("there is no such connection"))
}

/// Closes every page of a session and ends it.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = CloseReport), (status = "default", body = ErrorBody)))]
pub(super) async fn session(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
) -> Result<Json<CloseReport>, ApiError> {
    let closed = unregister(&parts, Scope::Session(key)).await?;
    closed.map(|closed| Json(closed.into())).ok_or_else(|| unknown("there is no such session"))
}

/// Closes a page. Its client cannot resume it.
#[utoipa::path(delete, path = "/api/v1/pages/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = CloseReport), (status = "default", body = ErrorBody)))]
pub(super) async fn page(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
) -> Result<Json<CloseReport>, ApiError> {
    let closed = parts.context.sessions.unregister_page(key).await?;
    closed.map(|closed| Json(closed.into())).ok_or_else(|| unknown("there is no such page"))
}

async fn unregister(parts: &ApiState, scope: Scope) -> Result<Option<pages::CloseOutcome>, ApiError> {
    Ok(parts.context.sessions.unregister(scope).await?)
}

impl From<pages::CloseOutcome> for CloseReport {
    fn from(outcome: pages::CloseOutcome) -> Self {
        let text = |nodes: Vec<_>| nodes.iter().map(ToString::to_string).collect();
        Self { closed: outcome.closed, nodes: text(outcome.nodes), unreachable: text(outcome.unreachable) }
    }
}
