//! Users that have pages, or sessions that can be joined.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pagewire_cluster::registry::UserSeen;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Query;
use super::id::UserId;
use super::pagination::{PageQuery, Paginated};

/// A user's presence.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct User {
    user: String,
    /// Whether the user has a page.
    online: bool,
    /// Number of connections, idle ones included.
    connections: usize,
    /// Number of sessions, idle ones included.
    sessions: usize,
    pages: usize,
}

/// Query of the list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct UserQuery {
    /// `true`: users with a page; `false`: users with only sessions or connections that can be joined.
    online: Option<bool>,
    /// `next_cursor` of the previous response.
    cursor: Option<String>,
    /// Maximum number of items, up to 1000; 100 if absent.
    limit: Option<usize>,
}

impl From<UserSeen<'_>> for User {
    fn from(seen: UserSeen<'_>) -> Self {
        let UserSeen { user, connections, sessions, pages } = seen;
        Self { user: user.to_owned(), online: pages > 0, connections, sessions, pages }
    }
}

/// Lists users in the order of their names.
#[utoipa::path(get, path = "/api/v1/users", tag = "registry", params(UserQuery),
    responses((status = 200, body = Paginated<User>), (status = "default", body = ErrorBody)))]
pub(super) async fn users(
    State(parts): State<ApiState>,
    Query(which): Query<UserQuery>,
) -> Result<Json<Paginated<User>>, ApiError> {
    let after = which.cursor.as_deref().map(decode_cursor).transpose()?;
    let piece = PageQuery { cursor: None, limit: which.limit };
    let view = parts.registry.view();
    let wanted = |seen: &UserSeen| which.online.is_none_or(|online| online == (seen.pages > 0));
    let seen = view.users_after(after.as_deref()).filter(wanted);
    let Paginated { items, next_cursor } =
        Paginated::paginate(seen, piece.limit(), |seen| URL_SAFE_NO_PAD.encode(seen.user));
    Ok(Json(Paginated { items: items.into_iter().map(User::from).collect(), next_cursor }))
}

fn decode_cursor(cursor: &str) -> Result<String, ApiError> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| ApiError::malformed("this is not a cursor"))
}

/// Returns whether a user is online, and with how many pages.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = User), (status = "default", body = ErrorBody)))]
pub(super) async fn user(State(parts): State<ApiState>, UserId(user): UserId) -> Json<User> {
    let view = parts.registry.view();
    let offline = UserSeen { user: &user, connections: 0, sessions: 0, pages: 0 };
    Json(view.user(&user).unwrap_or(offline).into())
}
