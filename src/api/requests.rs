//! `POST /requests/{method}`: the requests of an application, for programs beside its mount.
//!
//! Owns: the request and its answer in HTTP. Never: what a method does, which is the same for the processes of a mount.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::value::RawValue;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Body;

/// The answer to a request of an application.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct RequestAnswer {
    /// The value that `docs/child.md` names for the method.
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
}

/// Makes a request in the name of the application, as a process of a mount makes it without work: `register.write`,
/// `lock.acquire`, `push.send` and the others. The body has its parameters.
#[utoipa::path(post, path = "/api/v1/requests/{method}", tag = "requests",
    params(("method" = String, Path, description = "A method of a request without `work`, as in `docs/child.md`.")),
    request_body(content = Object),
    responses((status = 200, body = RequestAnswer), (status = "default", body = ErrorBody)))]
pub(super) async fn request(
    State(parts): State<ApiState>,
    Path(method): Path<String>,
    Body(params): Body<Box<RawValue>>,
) -> Result<Json<RequestAnswer>, ApiError> {
    let value = parts.programs.answer(method, params).await?;
    Ok(Json(RequestAnswer { value }))
}
