//! Pages, sessions and connections, and how lists are cut into pieces.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::registry::{Seen, View};
use pagewire_cluster::wire::Scope;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Parts;
use super::error::{ApiError, ErrorBody};
use super::id::KeyId;
use super::input::Query;
use crate::protocol::ErrorCode;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// One piece of a list.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct List<T> {
    /// This piece.
    pub(super) items: Vec<T>,
    /// What to ask the next piece with; `null` at the end.
    pub(super) next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A list that comes in one piece.
    pub(super) const fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The first `limit` of the items, which come in the order of their cursors.
    pub(super) fn cut(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(cursor);
        Self { items, next_cursor }
    }
}

/// Which piece of a list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Piece {
    /// `next_cursor` of the piece before.
    pub(super) cursor: Option<String>,
    /// At most this many items, up to 1000; 100 if absent.
    pub(super) limit: Option<usize>,
}

impl Piece {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }
}

/// A page and where it belongs.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Page {
    page_id: String,
    session_id: String,
    connection_id: String,
    /// Absent for anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The node that holds it.
    #[schema(example = "p01")]
    node: String,
    /// When it was first opened.
    #[schema(format = DateTime)]
    opened_at: String,
}

/// A session with its pages.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Session {
    pub(super) session_id: String,
    connection_id: String,
    /// Absent for anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// How many pages it has.
    pages: usize,
}

/// A connection (a browser) with its pages.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Connection {
    connection_id: String,
    /// Absent for anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// How many sessions it has.
    sessions: usize,
    /// How many pages it has.
    pages: usize,
}

impl Page {
    fn of(key: Key, seen: &Seen) -> Self {
        Self {
            page_id: Address { key, node: seen.holder.node }.to_string(),
            session_id: seen.session.to_string(),
            connection_id: seen.connection.to_string(),
            user: seen.user.as_deref().map(str::to_owned),
            node: seen.holder.node.to_string(),
            opened_at: rfc3339(seen.opened),
        }
    }
}

impl Session {
    /// `None` when it has no living page.
    pub(super) fn of(view: &View, key: Key) -> Option<Self> {
        let scope = Scope::Session(key);
        let mut pages = view.pages_of(&scope).map(|(_, seen)| seen);
        let first = pages.next()?;
        Some(Self {
            session_id: first.session.to_string(),
            connection_id: first.connection.to_string(),
            user: first.user.as_deref().map(str::to_owned),
            pages: 1 + pages.count(),
        })
    }
}

pub(super) fn rfc3339(unix_ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

fn unknown(what: &'static str) -> ApiError {
    ApiError::new(ErrorCode::Unknown, what)
}

/// One page.
#[utoipa::path(get, path = "/api/v1/pages/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = Page), (status = "default", body = ErrorBody)))]
pub(super) async fn page(State(parts): State<Parts>, KeyId(key): KeyId) -> Result<Json<Page>, ApiError> {
    let view = parts.registry.view();
    let seen = view.page(key).ok_or_else(|| unknown("there is no such page"))?;
    Ok(Json(Page::of(key, seen)))
}

/// One session.
#[utoipa::path(get, path = "/api/v1/sessions/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = Session), (status = "default", body = ErrorBody)))]
pub(super) async fn session(
    State(parts): State<Parts>,
    KeyId(key): KeyId,
) -> Result<Json<Session>, ApiError> {
    let session = Session::of(&parts.registry.view(), key);
    session.map(Json).ok_or_else(|| unknown("no page of such a session is open"))
}

/// The pages of a session.
#[utoipa::path(get, path = "/api/v1/sessions/{id}/pages", tag = "registry",
    params(("id" = String, Path), Piece),
    responses((status = 200, body = List<Page>), (status = "default", body = ErrorBody)))]
pub(super) async fn session_pages(
    State(parts): State<Parts>,
    KeyId(key): KeyId,
    Query(piece): Query<Piece>,
) -> Result<Json<List<Page>>, ApiError> {
    let view = parts.registry.view();
    let mut pages: Vec<(Key, &Seen)> = view.pages_of(&Scope::Session(key)).collect();
    if pages.is_empty() {
        return Err(unknown("no page of such a session is open"));
    }
    pages.sort_unstable_by_key(|(key, _)| *key);
    if let Some(cursor) = &piece.cursor {
        let after: Key = cursor.parse().map_err(|_| ApiError::malformed("this is not a cursor"))?;
        pages.retain(|(key, _)| *key > after);
    }
    let List { items, next_cursor } = List::cut(pages, piece.limit(), |(key, _)| key.to_string());
    let items = items.into_iter().map(|(key, seen)| Page::of(key, seen)).collect();
    Ok(Json(List { items, next_cursor }))
}

/// One connection.
#[utoipa::path(get, path = "/api/v1/connections/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = Connection), (status = "default", body = ErrorBody)))]
pub(super) async fn connection(
    State(parts): State<Parts>,
    KeyId(key): KeyId,
) -> Result<Json<Connection>, ApiError> {
    let view = parts.registry.view();
    let pages: Vec<&Seen> = view.pages_of(&Scope::Connection(key)).map(|(_, seen)| seen).collect();
    let first = pages.first().ok_or_else(|| unknown("no page of such a connection is open"))?;
    let mut sessions: Vec<Key> = pages.iter().map(|seen| seen.session.key).collect();
    sessions.sort_unstable();
    sessions.dedup();
    Ok(Json(Connection {
        connection_id: first.connection.to_string(),
        user: first.user.as_deref().map(str::to_owned),
        sessions: sessions.len(),
        pages: pages.len(),
    }))
}
