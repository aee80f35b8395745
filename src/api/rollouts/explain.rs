//! `/rollouts/{pool}/explain`: which lane serves a user, and why.

use axum::Json;
use axum::extract::State;
use pagewire_cluster::id::Key;
use pagewire_cluster::rollout::{LanePins, RoutingKey};
use serde::{Deserialize, Serialize};

use super::super::ApiState;
use super::super::error::{ApiError, ErrorBody};
use super::super::extract::Query;
use super::super::id;
use super::Pool;
use super::servers::LaneServers;
use crate::pages::Membership;
use crate::protocol::ErrorCode;

/// Selects a user, a connection or a page.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ExplainQuery {
    user: Option<String>,
    /// A connection's id, or its 22 characters, for an anonymous browser.
    connection: Option<String>,
    /// A page's id, or its 22 characters: the lane of the calls of that page.
    page: Option<String>,
}

/// The lane of a user, and why.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct Explained {
    pool: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    lane: String,
    /// The lane that the page keeps in this pool; absent without one, and while that lane gets no work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
    /// The release that runs the user's work there; `null` without a live worker or process.
    release: Option<String>,
    /// `abort`: the user's lane is taken back. `override`: the user has a lane of its own. `pin`: the page keeps the lane. `targeting`: a rule sends the user to the lane. `choice`: a page of the user has chosen it. `latched`: the user stays in the lane. `weight`: the bucket belongs to the lane. `full`: the bucket belongs to a lane that has as many users as it may. `not_admitted`: the bucket belongs to a lane with a limit on its users, to which this one is not admitted. `base`: the bucket belongs to no other lane. `fallback`: the user's
    /// own lane has no live workers.
    reason: &'static str,
    /// 0 to 9999.
    bucket: u16,
    revision: u64,
}

/// Returns the lane of a user or connection, or of the calls of a page, and why.
///
/// This is only a query: it counts no assignment and pins no lane.
#[utoipa::path(get, path = "/api/v1/rollouts/{pool}/explain", tag = "rollouts",
    params(("pool" = String, Path), ExplainQuery),
    responses((status = 200, body = Explained), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn explain(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<Explained>, ApiError> {
    let mut connection = query.connection.as_deref().map(id::key).transpose()?;
    let mut user = query.user.filter(|user| !user.is_empty());
    let page = query.page.as_deref().map(id::key).transpose()?;
    let pins = match (user.is_some(), connection.is_some(), page) {
        (true, false, None) | (false, true, None) => LanePins::default(),
        (false, false, Some(page)) => {
            let owner = page_of(&parts, page).await?;
            connection = owner.user.is_none().then_some(owner.connection.key);
            user = owner.user.as_deref().map(str::to_owned);
            LanePins::new(owner.pins)
        }
        _ => return Err(ApiError::malformed("give a user, a connection or a page, and only one of them")),
    };
    let unit = RoutingKey::of(user.as_deref(), connection);
    let rollouts = &parts.context.rollouts;
    let servers = LaneServers::new(&parts, &pool);
    let assigned = pins.explain(rollouts, &pool, unit, |lane| servers.serve(lane));
    let service = servers.of_lane(&assigned.lane, assigned.is_base);
    Ok(Json(Explained {
        release: service.releases.into_iter().next(),
        pin: pins.kept(rollouts, &pool),
        pool: pool.clone(),
        connection: connection.map(|connection| connection.to_string()),
        user,
        page: page.map(|page| page.to_string()),
        lane: assigned.lane,
        reason: assigned.reason.text(),
        bucket: assigned.bucket,
        revision: assigned.revision,
    }))
}

/// Returns the user and the connection of a page, and the lanes that it keeps.
async fn page_of(parts: &ApiState, page: Key) -> Result<Membership, ApiError> {
    let found = parts.context.pages.store.membership(page).await?;
    found.ok_or_else(|| ApiError::new(ErrorCode::Unknown, "there is no such page"))
}
