//! `/rollouts/{pool}/users`: users with a lane of their own.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use pagewire_cluster::id::check_user;
use pagewire_cluster::rollout::RolloutUpdate;
use serde::{Deserialize, Serialize};

use super::super::ApiState;
use super::super::auth::Principal;
use super::super::error::{ApiError, ErrorBody};
use super::super::extract::Body;
use super::super::pagination::Paginated;
use super::status::RolloutStatus;
use super::{Pool, PoolUser, apply};

/// The lane of one user.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct UserLane {
    #[schema(example = "ann")]
    user: String,
    #[schema(example = "canary")]
    lane: String,
}

/// Gives a user a lane.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AssignRequest {
    #[schema(example = "canary")]
    lane: String,
    /// Reason of the change, for people.
    #[serde(default)]
    comment: String,
    /// Allows a lane without live workers.
    #[serde(default)]
    force: bool,
}

/// Gives several users a lane, or takes it from them.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AssignManyRequest {
    /// `null`: the users have no lane of their own any more.
    lane: Option<String>,
    users: Vec<String>,
    /// Reason of the change, for people.
    #[serde(default)]
    comment: String,
    /// Allows a lane without live workers.
    #[serde(default)]
    force: bool,
}

/// Lists the users of a pool who have a lane of their own.
#[utoipa::path(get, path = "/api/v1/rollouts/{pool}/users", tag = "rollouts", params(("pool" = String, Path)),
    responses((status = 200, body = Paginated<UserLane>), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn overrides(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
) -> Result<Json<Paginated<UserLane>>, ApiError> {
    let document = parts.context.rollouts.document(&pool).await.map_err(super::refused)?;
    let users = document.overrides.into_iter().map(|(user, lane)| UserLane { user, lane });
    Ok(Json(Paginated::complete(users.collect())))
}

/// Gives a user a lane that does not depend on the weights.
///
/// The lane must be one of the pool; its weight may be 0. It must have live workers, unless the fallback is `base` or
/// `force` is set.
#[utoipa::path(put, path = "/api/v1/rollouts/{pool}/users/{user}", tag = "rollouts", request_body = AssignRequest,
    params(("pool" = String, Path), ("user" = String, Path)),
    responses((status = 200, body = RolloutStatus), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn assign(
    State(parts): State<ApiState>,
    PoolUser(pool, user): PoolUser,
    Extension(who): Extension<Principal>,
    Body(AssignRequest { lane, comment, force }): Body<AssignRequest>,
) -> Result<Response, ApiError> {
    change(&parts, &pool, BTreeMap::from([(user, Some(lane))]), comment, force, &who).await
}

/// Takes the lane of its own from a user: the bucket of the user decides again.
#[utoipa::path(delete, path = "/api/v1/rollouts/{pool}/users/{user}", tag = "rollouts",
    params(("pool" = String, Path), ("user" = String, Path)),
    responses((status = 200, body = RolloutStatus), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn unassign(
    State(parts): State<ApiState>,
    PoolUser(pool, user): PoolUser,
    Extension(who): Extension<Principal>,
) -> Result<Response, ApiError> {
    change(&parts, &pool, BTreeMap::from([(user, None)]), String::new(), false, &who).await
}

/// Gives several users a lane in one change, or takes it from them.
#[utoipa::path(post, path = "/api/v1/rollouts/{pool}/users", tag = "rollouts", request_body = AssignManyRequest,
    params(("pool" = String, Path)),
    responses((status = 200, body = RolloutStatus), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn assign_many(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
    Extension(who): Extension<Principal>,
    Body(AssignManyRequest { lane, users, comment, force }): Body<AssignManyRequest>,
) -> Result<Response, ApiError> {
    users.iter().try_for_each(|user| check_user(user))?;
    let assign = users.into_iter().map(|user| (user, lane.clone())).collect();
    change(&parts, &pool, assign, comment, force, &who).await
}

async fn change(
    parts: &ApiState,
    pool: &str,
    assign: BTreeMap<String, Option<String>>,
    comment: String,
    force: bool,
    who: &Principal,
) -> Result<Response, ApiError> {
    let wanted = RolloutUpdate { assign, comment, ..RolloutUpdate::default() };
    Ok(apply(parts, pool, None, wanted, force, who.name()).await?.respond())
}
