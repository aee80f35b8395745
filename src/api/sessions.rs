//! Sessions and connections, with pages or idle.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::registry::{ConnectionSeen, SessionSeen};
use serde::Serialize;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Query;
use super::id::{KeyId, UserId};
use super::pages::{rfc3339, unknown};
use super::pagination::{PageQuery, Paginated};

/// A session.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Session {
    session_id: String,
    connection_id: String,
    /// Absent for anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Number of its pages.
    pages: usize,
    /// While it has no page: until when it can be joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    idle_until: Option<String>,
}

/// A connection (a browser).
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ConnectionResponse {
    connection_id: String,
    /// Absent for anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Number of its sessions, idle ones included.
    sessions: usize,
    /// Number of its pages.
    pages: usize,
    /// While it has no page: until when it can be joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    idle_until: Option<String>,
}

impl From<SessionSeen> for Session {
    fn from(seen: SessionSeen) -> Self {
        Self {
            session_id: seen.session.to_string(),
            connection_id: seen.connection.to_string(),
            user: seen.user.as_deref().map(str::to_owned),
            pages: seen.pages,
            idle_until: seen.idle_until.map(rfc3339),
        }
    }
}

impl From<ConnectionSeen> for ConnectionResponse {
    fn from(seen: ConnectionSeen) -> Self {
        Self {
            connection_id: seen.connection.to_string(),
            user: seen.user.as_deref().map(str::to_owned),
            sessions: seen.sessions,
            pages: seen.pages,
            idle_until: seen.idle_until.map(rfc3339),
        }
    }
}

/// Returns a session.
#[utoipa::path(get, path = "/api/v1/sessions/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = Session), (status = "default", body = ErrorBody)))]
pub(super) async fn session(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
) -> Result<Json<Session>, ApiError> {
    let seen = parts.registry.view().session(key);
    seen.map(|seen| Json(seen.into())).ok_or_else(|| unknown("there is no such session"))
}

/// Returns a connection.
#[utoipa::path(get, path = "/api/v1/connections/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = ConnectionResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn connection(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
) -> Result<Json<ConnectionResponse>, ApiError> {
    let seen = parts.registry.view().connection(key);
    seen.map(|seen| Json(seen.into())).ok_or_else(|| unknown("there is no such connection"))
}

/// Lists the sessions of a user.
#[utoipa::path(get, path = "/api/v1/users/{id}/sessions", tag = "registry",
    params(("id" = String, Path), PageQuery),
    responses((status = 200, body = Paginated<Session>), (status = "default", body = ErrorBody)))]
pub(super) async fn of_user(
    State(parts): State<ApiState>,
    UserId(user): UserId,
    Query(piece): Query<PageQuery>,
) -> Result<Json<Paginated<Session>>, ApiError> {
    let after = piece.after()?;
    let view = parts.registry.view();
    Ok(Json(sessions(view.sessions_of_user(&user, after), &piece)))
}

/// Lists the sessions of a connection.
#[utoipa::path(get, path = "/api/v1/connections/{id}/sessions", tag = "registry",
    params(("id" = String, Path), PageQuery),
    responses((status = 200, body = Paginated<Session>), (status = "default", body = ErrorBody)))]
pub(super) async fn of_connection(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
    Query(piece): Query<PageQuery>,
) -> Result<Json<Paginated<Session>>, ApiError> {
    let after = piece.after()?;
    let view = parts.registry.view();
    view.connection(key).ok_or_else(|| unknown("there is no such connection"))?;
    Ok(Json(sessions(view.sessions_of_connection(key, after), &piece)))
}

fn sessions(seen: impl Iterator<Item = SessionSeen>, piece: &PageQuery) -> Paginated<Session> {
    let Paginated { items, next_cursor } =
        Paginated::paginate(seen, piece.limit(), |seen| seen.session.key.to_string());
    Paginated { items: items.into_iter().map(Session::from).collect(), next_cursor }
}
