//! Pages.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::registry::PageEntry;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Query;
use super::id::KeyId;
use super::pagination::{PageQuery, Paginated};
use crate::protocol::ErrorCode;

/// A page with its session, connection, user and node.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct PageResponse {
    page_id: String,
    session_id: String,
    connection_id: String,
    /// Absent for anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The node that owns the page.
    #[schema(example = "p01")]
    node: String,
    /// When it was first opened.
    #[schema(format = DateTime)]
    opened_at: String,
}

impl PageResponse {
    fn of(key: Key, seen: &PageEntry) -> Self {
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

pub(super) fn rfc3339(unix_ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

pub(super) fn unknown(what: &'static str) -> ApiError {
    ApiError::new(ErrorCode::Unknown, what)
}

/// Returns a page.
#[utoipa::path(get, path = "/api/v1/pages/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = PageResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn page(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
) -> Result<Json<PageResponse>, ApiError> {
    let view = parts.registry.view();
    let seen = view.page(key).ok_or_else(|| unknown("there is no such page"))?;
    Ok(Json(PageResponse::of(key, seen)))
}

/// Lists the pages of a session.
#[utoipa::path(get, path = "/api/v1/sessions/{id}/pages", tag = "registry",
    params(("id" = String, Path), PageQuery),
    responses((status = 200, body = Paginated<PageResponse>), (status = "default", body = ErrorBody)))]
pub(super) async fn session_pages(
    State(parts): State<ApiState>,
    KeyId(key): KeyId,
    Query(piece): Query<PageQuery>,
) -> Result<Json<Paginated<PageResponse>>, ApiError> {
    let after = piece.after()?;
    let view = parts.registry.view();
    view.session(key).ok_or_else(|| unknown("there is no such session"))?;
    let pages = view.pages_after(key, after);
    let Paginated { items, next_cursor } =
        Paginated::paginate(pages, piece.limit(), |(key, _)| key.to_string());
    let items = items.into_iter().map(|(key, seen)| PageResponse::of(key, seen)).collect();
    Ok(Json(Paginated { items, next_cursor }))
}
