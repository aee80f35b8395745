//! `/{level}/{id}/data`: the state trees. `ETag` is a tree's revision, `If-Match` makes a write compare-and-set.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::{HeaderMap, StatusCode, header, request};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use pagewire_cluster::id::Address;
use pagewire_cluster::id::Entity;
use pagewire_cluster::state::{ClientPath, DraftWrite, Edit, Operation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Body, IfMatch};
use super::id;
use super::sse::{self, EventSource};
use crate::pages::{WatchStream, exists};
use crate::protocol::{CommandError, ErrorCode};

/// A tree and a path in it, as the URL names them.
pub(super) struct TreePath {
    owner: Entity,
    path: String,
}

/// Changes of a tree, applied all or none.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchRequest {
    /// `{path, value}` or `{path, delete: true}`, applied in this order.
    #[schema(value_type = Vec<serde_json::Value>)]
    changes: Vec<Edit>,
    /// Only if the tree is at this revision; the same as `If-Match`.
    if_revision: Option<u64>,
}

/// Result of a write.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct WriteResponse {
    /// The tree's revision after the write.
    revision: u64,
}

impl<S: Send + Sync> FromRequestParts<S> for TreePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, ApiError> {
        let named = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut named) = named.map_err(|_| ApiError::malformed("the path is not UTF-8"))?;
        let mut take = |name| named.remove(name).unwrap_or_default();
        let (level, text, path) = (take("level"), take("id"), take("path"));
        let owner = match level.as_str() {
            "users" => Entity::User(id::user(text)?.into()),
            "connections" => Entity::Connection(id::key(&text)?),
            "sessions" => Entity::Session(id::key(&text)?),
            "pages" => Entity::Page(id::key(&text)?),
            _ => return Err(ApiError::new(ErrorCode::Unknown, "there is nothing at this path")),
        };
        Ok(Self { owner, path })
    }
}

impl TreePath {
    fn locator(&self) -> Result<ClientPath, ApiError> {
        Ok(self.path.parse::<ClientPath>().map_err(CommandError::from)?)
    }

    /// Fails with 404 unless the owner of the tree exists. Users always exist; the tree of any other owner exists
    /// only as long as its owner.
    fn must_exist(&self, parts: &ApiState) -> Result<(), ApiError> {
        if exists(&parts.registry.view(), &self.owner) {
            Ok(())
        } else {
            Err(ApiError::new(ErrorCode::Unknown, "the owner of this tree does not exist"))
        }
    }
}

/// Returns a whole tree.
///
/// With `Accept: text/event-stream` the response is a stream: first the tree, then its changes.
#[utoipa::path(get, path = "/api/v1/{level}/{id}/data", tag = "state",
    params(("level" = String, Path, description = "users, connections, sessions or pages"), ("id" = String, Path)),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
pub(super) async fn whole(
    state: State<ApiState>,
    at: TreePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    read(state, at, headers).await
}

/// Returns the value or branch at a path (`wizard.form.name`).
///
/// With `Accept: text/event-stream` the response is a stream: first the value, then its changes.
#[utoipa::path(get, path = "/api/v1/{level}/{id}/data/{*path}", tag = "state",
    params(("level" = String, Path), ("id" = String, Path), ("path" = String, Path)),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
pub(super) async fn read(
    State(parts): State<ApiState>,
    at: TreePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    at.must_exist(&parts)?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        let path = at.path.parse().map_err(CommandError::from)?;
        let listener = parts.context.watching.listen(at.owner, path);
        return Ok(sse::respond(parts.ready.clone(), None, None, TreeEvents(Some(listener))));
    }
    let reading = parts.context.states.get(&at.owner, &at.locator()?).await.map_err(CommandError::from)?;
    let tag = [(header::ETAG, format!("\"{}\"", reading.revision))];
    match reading.value {
        Some(value) => Ok((tag, Json(value)).into_response()),
        // a whole tree exists even if it is empty
        None if at.path.is_empty() => Ok((tag, Json(Value::Object(Default::default()))).into_response()),
        None => Err(ApiError::new(ErrorCode::Unknown, "there is no value at this path")),
    }
}

/// The updates of a tree as events `data`; `slow` is the last event of a reader that is too slow. `None` after the last.
struct TreeEvents(Option<WatchStream>);

impl EventSource for TreeEvents {
    async fn next(&mut self) -> Option<Event> {
        match self.0.as_mut()?.next().await {
            Some(update) => Some(sse::encoded("data", &String::from_utf8_lossy(&update))),
            None => {
                self.0 = None;
                Some(sse::encoded("slow", "{}"))
            }
        }
    }
}

/// Writes a value at a path; a whole tree is an object.
#[utoipa::path(put, path = "/api/v1/{level}/{id}/data/{*path}", tag = "state", request_body = serde_json::Value,
    params(("level" = String, Path), ("id" = String, Path), ("path" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = WriteResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn set(
    State(parts): State<ApiState>,
    at: TreePath,
    headers: HeaderMap,
    Body(value): Body<Value>,
) -> Result<Response, ApiError> {
    let edit = Edit { path: at.locator()?, value: Some(value) };
    write(&parts, &at, vec![edit], expected(&headers)?).await
}

/// Replaces a whole tree by an object.
#[utoipa::path(put, path = "/api/v1/{level}/{id}/data", tag = "state", request_body = serde_json::Value,
    params(("level" = String, Path), ("id" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = WriteResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn replace(
    state: State<ApiState>,
    at: TreePath,
    headers: HeaderMap,
    body: Body<Value>,
) -> Result<Response, ApiError> {
    set(state, at, headers, body).await
}

/// Deletes the value or branch at a path.
#[utoipa::path(delete, path = "/api/v1/{level}/{id}/data/{*path}", tag = "state",
    params(("level" = String, Path), ("id" = String, Path), ("path" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = WriteResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn delete(
    State(parts): State<ApiState>,
    at: TreePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let edit = Edit { path: at.locator()?, value: None };
    write(&parts, &at, vec![edit], expected(&headers)?).await
}

/// Empties a tree.
#[utoipa::path(delete, path = "/api/v1/{level}/{id}/data", tag = "state",
    params(("level" = String, Path), ("id" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = WriteResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn clear(
    state: State<ApiState>,
    at: TreePath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    delete(state, at, headers).await
}

/// Makes several changes, all or none.
#[utoipa::path(patch, path = "/api/v1/{level}/{id}/data", tag = "state", request_body = PatchRequest,
    params(("level" = String, Path), ("id" = String, Path), ("if-match" = Option<String>, Header)),
    responses((status = 200, body = WriteResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn patch(
    State(parts): State<ApiState>,
    at: TreePath,
    headers: HeaderMap,
    Body(patch): Body<PatchRequest>,
) -> Result<Response, ApiError> {
    let if_revision = expected(&headers)?.or(patch.if_revision);
    write(&parts, &at, patch.changes, if_revision).await
}

async fn write(
    parts: &ApiState,
    at: &TreePath,
    edits: Vec<Edit>,
    if_revision: Option<u64>,
) -> Result<Response, ApiError> {
    at.must_exist(parts)?;
    let write =
        DraftWrite { operation: Operation::Edit(edits), if_revision, from: None::<Address>, fence: None };
    match parts.context.write(&at.owner, write).await {
        Ok(revision) => {
            let tag = [(header::ETAG, format!("\"{revision}\""))];
            Ok((tag, Json(WriteResponse { revision })).into_response())
        }
        Err(error) => {
            let conflict = error.code == ErrorCode::Conflict;
            let error = ApiError::from(error);
            Err(if conflict { error.with_status(StatusCode::PRECONDITION_FAILED) } else { error })
        }
    }
}

/// Reads the revision that `If-Match` names.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    match IfMatch::of(headers) {
        IfMatch::Absent => Ok(None),
        IfMatch::Revision(revision) => Ok(Some(revision)),
        IfMatch::Any | IfMatch::Malformed => Err(ApiError::malformed("If-Match is a revision in quotes")),
    }
}
