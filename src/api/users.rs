//! Users, as far as they have pages.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pagewire_cluster::id::Key;
use pagewire_cluster::registry::{Seen, View};
use pagewire_cluster::wire::Scope;
use serde::{Deserialize, Serialize};

use super::Parts;
use super::error::{ApiError, ErrorBody};
use super::id::UserId;
use super::input::Query;
use super::pages::{List, Piece, Session};

/// A user's presence.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct User {
    user: String,
    /// Whether there is a page.
    online: bool,
    connections: usize,
    sessions: usize,
    pages: usize,
}

/// Which users.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only users with a page are known to the registry, so `false` finds nobody.
    online: Option<bool>,
    /// `next_cursor` of the piece before.
    cursor: Option<String>,
    /// At most this many, up to 1000; 100 if absent.
    limit: Option<usize>,
}

impl User {
    fn of(view: &View, user: String) -> Self {
        let scope = Scope::User(user.clone());
        let pages: Vec<&Seen> = view.pages_of(&scope).map(|(_, seen)| seen).collect();
        Self {
            user,
            online: !pages.is_empty(),
            connections: distinct(pages.iter().map(|seen| seen.connection.key)).len(),
            sessions: distinct(pages.iter().map(|seen| seen.session.key)).len(),
            pages: pages.len(),
        }
    }
}

fn distinct(keys: impl Iterator<Item = Key>) -> Vec<Key> {
    let mut keys: Vec<Key> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Lists users with pages, in the order of their names.
#[utoipa::path(get, path = "/api/v1/users", tag = "registry", params(Which),
    responses((status = 200, body = List<User>), (status = "default", body = ErrorBody)))]
pub(super) async fn users(
    State(parts): State<Parts>,
    Query(which): Query<Which>,
) -> Result<Json<List<User>>, ApiError> {
    if which.online == Some(false) {
        return Ok(Json(List::whole(Vec::new())));
    }
    let after = which.cursor.as_deref().map(decode_cursor).transpose()?;
    let piece = Piece { cursor: None, limit: which.limit };
    let view = parts.registry.view();
    let mut names: Vec<&str> =
        view.users().filter(|name| after.as_deref().is_none_or(|after| *name > after)).collect();
    names.sort_unstable();
    let List { items, next_cursor } = List::cut(names, piece.limit(), |name| URL_SAFE_NO_PAD.encode(name));
    let items = items.into_iter().map(|name| User::of(&view, name.to_owned())).collect();
    Ok(Json(List { items, next_cursor }))
}

fn decode_cursor(cursor: &str) -> Result<String, ApiError> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| ApiError::malformed("this is not a cursor"))
}

/// Whether a user is online, and with how many pages.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = User), (status = "default", body = ErrorBody)))]
pub(super) async fn user(State(parts): State<Parts>, UserId(user): UserId) -> Json<User> {
    Json(User::of(&parts.registry.view(), user))
}

/// The sessions of a user.
#[utoipa::path(get, path = "/api/v1/users/{id}/sessions", tag = "registry",
    params(("id" = String, Path), Piece),
    responses((status = 200, body = List<Session>), (status = "default", body = ErrorBody)))]
pub(super) async fn sessions(
    State(parts): State<Parts>,
    UserId(user): UserId,
    Query(piece): Query<Piece>,
) -> Result<Json<List<Session>>, ApiError> {
    let view = parts.registry.view();
    let mut keys = distinct(view.pages_of(&Scope::User(user)).map(|(_, seen)| seen.session.key));
    if let Some(cursor) = &piece.cursor {
        let after: Key = cursor.parse().map_err(|_| ApiError::malformed("this is not a cursor"))?;
        keys.retain(|key| *key > after);
    }
    let List { items, next_cursor } = List::cut(keys, piece.limit(), ToString::to_string);
    let items = items.into_iter().filter_map(|key| Session::of(&view, key)).collect();
    Ok(Json(List { items, next_cursor }))
}
