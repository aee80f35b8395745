//! `/rollouts`: assigns users to lanes. A change is a compare-and-set and is followed until every node has applied
//! it.

mod abort;
mod events;
mod explain;
mod limits;
mod nats_mapping;
mod overrides;
mod servers;
mod status;
mod taken_back;

use axum::Json;
use axum::extract::{Extension, FromRequestParts, Path, State};
use axum::http::{HeaderMap, StatusCode, request};
use axum::response::Response;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::rollout::{
    self, Admissions, ChangeError, EnrolmentMode, EnrolmentUpdate, Fallback, Propagation, RolloutAudience,
    RolloutChange, RolloutSpec, RolloutStep, RolloutUpdate, Rollouts, TargetRule, WorkerProcess, is_name,
};
use pagewire_cluster::worker::WorkerRow;
use serde::Deserialize;

pub(super) use self::abort::{__path_abort, abort};
pub(super) use self::events::{__path_events, events};
pub(super) use self::explain::{__path_explain, explain};
use self::limits::LimitsMembers;
pub(super) use self::nats_mapping::{__path_nats_mapping, nats_mapping};
pub(super) use self::overrides::{
    __path_assign, __path_assign_many, __path_overrides, __path_unassign, assign, assign_many, overrides,
    unassign,
};
use self::servers::LaneServers;
use self::status::{LaneResponse, RolloutResponse, RolloutStatus};
use self::taken_back::LaneBefore;
use super::ApiState;
use super::auth::Principal;
use super::error::{ApiError, ErrorBody};
use super::extract::{Body, IfMatch};
use super::id::{self, segment};
use super::pages::rfc3339;
use super::pagination::Paginated;
use crate::protocol::ErrorCode;

/// A change of a rollout. Absent members stay as they are.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    /// All lanes in addition to the base lane, at most two. A lane that exists already keeps its end of the buckets.
    lanes: Option<Vec<LaneResponse>>,
    base: Option<String>,
    /// `none` or `base`.
    #[schema(value_type = Option<String>)]
    fallback: Option<Fallback>,
    /// How many processes run the work of each lane, and how many users have it, for all lanes that limit it.
    limits: Option<LimitsMembers>,
    /// A new salt reassigns all users to other buckets.
    salt: Option<String>,
    /// All rules, in order: `{users: [user], lane}`, `{claim: {name, value}, lane}`, `{header: {name, value}, lane}` or
    /// `{address: range, lane}`.
    #[schema(value_type = Option<Vec<Object>>)]
    targeting: Option<Vec<TargetRule>>,
    /// `hash` or `latched`: whether users stay in a lane that they are in when its weight falls.
    #[schema(value_type = Option<String>)]
    enrolment: Option<EnrolmentMode>,
    /// Whether a page may choose the lane of its user.
    self_service: Option<bool>,
    /// The revision that is written again as the next one, 0 for a pool without a document. Other members change it.
    restore: Option<u64>,
    /// `{action: "start", lane, steps, auto: {hold_s, margin}, on_regression}`, `{action: "promote", whole}`, `{action: "pause"}`, `{action: "resume"}`,
    /// `{action: "abort", lane}` or `{action: "switch", lane}`. Other members change the result.
    #[schema(value_type = Option<Object>)]
    step: Option<RolloutStep>,
    /// Reason of the change, for people.
    #[serde(default)]
    comment: String,
    /// Allows a lane to get more users although it has no live workers and the fallback is `none`.
    #[serde(default)]
    force: bool,
}

/// A pool in a path.
pub(super) struct Pool(String);

/// A pool in a path, and a user below it.
pub(super) struct PoolUser(String, String);

impl<S: Send + Sync> FromRequestParts<S> for Pool {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, ApiError> {
        pool(segment(parts, state).await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PoolUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((name, user)) = path.map_err(|_| ApiError::malformed("the path is not UTF-8"))?;
        Ok(Self(pool(name)?, id::user(user)?))
    }
}

fn pool(name: String) -> Result<String, ApiError> {
    if is_name(&name) { Ok(name) } else { Err(ApiError::malformed("this is not a valid name of a pool")) }
}

impl ChangeRequest {
    /// Returns the change. `former` is the revision that it restores.
    fn update(self, former: Option<&RolloutSpec>) -> RolloutUpdate {
        let lane = |lane: LaneResponse| {
            let LaneResponse { name, weight, on_regression } = lane;
            rollout::LaneSpec { name, weight, on_regression }
        };
        let former = former.map(RolloutSpec::restored).unwrap_or_default();
        let (mode, self_service) = (self.enrolment, self.self_service);
        let enrolment = EnrolmentUpdate { mode, self_service, started: None };
        RolloutUpdate {
            lanes: self.lanes.map(|lanes| lanes.into_iter().map(lane).collect()).or(former.lanes),
            base: self.base.or(former.base),
            salt: self.salt.or(former.salt),
            fallback: self.fallback.or(former.fallback),
            targeting: self.targeting.or(former.targeting),
            limits: self.limits.map(limits::of_request).or(former.limits),
            enrolment: enrolment.or(former.enrolment),
            step: self.step,
            comment: self.comment,
            ..former
        }
    }
}

/// Returns the revision of a pool that is restored.
async fn former(parts: &ApiState, pool: &str, revision: u64) -> Result<RolloutSpec, ApiError> {
    if revision == 0 {
        return Ok(RolloutSpec::unwritten(pool));
    }
    let past = parts.context.rollouts.history(pool).await?;
    let former = past.into_iter().find(|document| document.rev == revision);
    former.ok_or_else(|| ApiError::malformed(format!("the pool has no revision {revision} to restore")))
}

fn refused(error: ChangeError) -> ApiError {
    match error {
        ChangeError::Invalid(invalid) => ApiError::malformed(invalid.to_string()),
        ChangeError::Unavailable => Unavailable.into(),
        ChangeError::Newer => ApiError::new(ErrorCode::Conflict, ChangeError::Newer.to_string()),
        ChangeError::Conflict(document) if document.rev == 0 => {
            ApiError::new(ErrorCode::Conflict, "the pool is at revision 0: it has not been changed yet")
                .with_status(StatusCode::PRECONDITION_FAILED)
        }
        ChangeError::Conflict(document) => {
            let RolloutSpec { rev, updated_by, updated, .. } = *document;
            let at = rfc3339(updated);
            let found = format!("the pool is at revision {rev}, written by {updated_by} at {at}");
            ApiError::new(ErrorCode::Conflict, found).with_status(StatusCode::PRECONDITION_FAILED)
        }
    }
}

/// Refuses a change that gives users to a lane without live workers, processes or nodes, unless the fallback is the base lane.
fn check(before: &RolloutSpec, after: &RolloutSpec, servers: LaneServers<'_>) -> Result<(), ApiError> {
    let empty = |lane: &&str| servers.of_lane(lane, **lane == *after.base).count == 0;
    match after.gains(before).find(empty) {
        Some(lane) if after.fallback == Fallback::None => {
            let message = format!(
                "lane {lane} of pool {} has no {}: {}. Start one, let the fallback be base, or force it",
                after.pool,
                servers.lacking(),
                servers.consequence(),
            );
            Err(ApiError::new(ErrorCode::LaneWithoutWorkers, message))
        }
        _ => Ok(()),
    }
}

/// Changes the current revision, or the expected one, after checking the consequences of the change.
async fn write(
    parts: &ApiState,
    pool: &str,
    expected: Option<u64>,
    wanted: RolloutUpdate,
    force: bool,
    by: &str,
) -> Result<RolloutChange, ApiError> {
    let rollouts = &parts.context.rollouts;
    loop {
        let current = rollouts.document(pool).await.map_err(refused)?;
        let rev = expected.unwrap_or(current.rev);
        if rev == current.rev && !force {
            let next = current.revise(wanted.clone(), String::new(), by, 0);
            check(
                &current,
                &next.map_err(|invalid| refused(invalid.into()))?,
                LaneServers::new(parts, pool),
            )?;
        }
        match rollouts.change(pool, Some(rev), wanted.clone(), by).await {
            Err(ChangeError::Conflict(_)) if expected.is_none() => {}
            changed => return changed.map_err(refused),
        }
    }
}

/// Returns the living nodes, and the living workers outside of them: those of a pool, or all.
fn audience(parts: &ApiState, pool: Option<&str>) -> RolloutAudience {
    let nodes = parts.registry.view().nodes().into_iter().map(|(holder, _)| holder).collect();
    let roster = parts.context.workers.roster();
    let outside = |row: &WorkerRow| row.node.is_none() && pool.is_none_or(|pool| row.pool == pool);
    let workers = roster.list().into_iter().filter(|(_, row)| outside(row));
    let process = |row: &WorkerRow| WorkerProcess { host: row.host.clone(), pid: row.process };
    RolloutAudience { nodes, workers: workers.map(|(worker, row)| (worker.id, process(row))).collect() }
}

/// Lists the pools that have a rollout document.
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "rollouts",
    responses((status = 200, body = Paginated<RolloutResponse>)))]
pub(super) async fn rollouts(State(parts): State<ApiState>) -> Json<Paginated<RolloutResponse>> {
    let documents = parts.context.rollouts.documents();
    Json(Paginated::complete(documents.into_iter().map(RolloutResponse::from).collect()))
}

/// Returns the rollout of a pool, the nodes and workers that have applied it, and its assignments.
///
/// Every pool has a rollout: without a document it is revision 0, with all users in `stable`.
#[utoipa::path(get, path = "/api/v1/rollouts/{pool}", tag = "rollouts", params(("pool" = String, Path)),
    responses((status = 200, body = RolloutStatus), (status = "default", body = ErrorBody)))]
pub(super) async fn status(State(parts): State<ApiState>, Pool(pool): Pool) -> Result<Response, ApiError> {
    let rollouts = &parts.context.rollouts;
    let (document, warning) = stored_or_applied(rollouts, &pool).await;
    let propagation = rollouts.propagation(&pool, document.rev, &audience(&parts, Some(&pool))).await;
    let mut status = status_of(&parts, document, &propagation);
    status.warn_of(&rollouts.latches());
    if let Some(warning) = warning {
        status.warn(warning);
    }
    Ok(status.respond())
}

/// Returns the document of a pool as it is stored; as this node has applied it, with the reason, if it cannot be read.
async fn stored_or_applied(rollouts: &Rollouts, pool: &str) -> (RolloutSpec, Option<&'static str>) {
    let warning = match rollouts.document(pool).await {
        Ok(document) => return (document, None),
        Err(ChangeError::Newer) => {
            "a newer release has written this rollout: this is the one before, which this node has applied"
        }
        Err(_) => "the cluster stores nothing now: this is the rollout that this node has applied",
    };
    let applied = rollouts.applied_document(pool);
    (applied.unwrap_or_else(|| RolloutSpec::unwritten(pool)), Some(warning))
}

/// Changes the rollout of a pool, then waits until the nodes and workers have applied it.
///
/// `If-Match` names the revision to change (412 if another one is current), or `*`. While the fallback is `none`, a
/// change that gives more users to a lane without live workers is refused with `lane_without_workers` (409), unless
/// `force` is set.
#[utoipa::path(put, path = "/api/v1/rollouts/{pool}", tag = "rollouts", request_body = ChangeRequest,
    params(("pool" = String, Path), ("if-match" = String, Header)),
    responses((status = 200, body = RolloutStatus), (status = "default", body = ErrorBody)))]
pub(super) async fn change(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    Body(change): Body<ChangeRequest>,
) -> Result<Response, ApiError> {
    let (expected, force) = (expected(&headers)?, change.force);
    let before = match &change.step {
        Some(RolloutStep::Abort { lane }) => LaneBefore::count(&parts, &pool, lane.as_deref()).await,
        _ => None,
    };
    let former = match change.restore {
        Some(revision) => Some(former(&parts, &pool, revision).await?),
        None => None,
    };
    let wanted = change.update(former.as_ref());
    let mut status = apply(&parts, &pool, expected, wanted, force, who.name()).await?;
    if let Some(before) = before {
        status.taken_back = Some(before.taken_back(&parts, &pool, parts.timing.deliver).await);
    }
    Ok(status.respond())
}

/// Writes a change, waits until the nodes have applied it, and returns the status.
async fn apply(
    parts: &ApiState,
    pool: &str,
    expected: Option<u64>,
    wanted: RolloutUpdate,
    force: bool,
    by: &str,
) -> Result<RolloutStatus, ApiError> {
    let changed = write(parts, pool, expected, wanted, force, by).await?;
    let propagation = parts.context.rollouts.wait_until_applied(&changed, &audience(parts, Some(pool))).await;
    Ok(status_of(parts, changed.document, &propagation))
}

fn status_of(parts: &ApiState, document: RolloutSpec, propagation: &Propagation) -> RolloutStatus {
    // a report about an earlier revision says nothing about the lanes of this one
    let analysis = parts.context.analysis.report(&document.pool);
    let analysis = analysis.filter(|report| report.revision == document.rev);
    let pool = document.pool.clone();
    let servers = LaneServers::new(parts, &pool);
    let admissions = Admissions::new(&parts.context.rollouts);
    let users = |lane: &str| admissions.lane_users(&pool, lane);
    RolloutStatus::new(document, propagation, servers, analysis, users)
}

/// Reads the revision that `If-Match` names; `None` for any.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    match IfMatch::of(headers) {
        IfMatch::Revision(revision) => Ok(Some(revision)),
        IfMatch::Any => Ok(None),
        IfMatch::Absent => Err(ApiError::malformed("If-Match must be the revision to change, or *")
            .with_status(StatusCode::PRECONDITION_REQUIRED)),
        IfMatch::Malformed => Err(ApiError::malformed("If-Match is a revision in quotes, or *")),
    }
}

/// Lists the past revisions of a pool's rollout, the newest first.
#[utoipa::path(get, path = "/api/v1/rollouts/{pool}/history", tag = "rollouts",
    params(("pool" = String, Path)),
    responses((status = 200, body = Paginated<RolloutResponse>), (status = "default", body = ErrorBody)))]
pub(super) async fn history(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
) -> Result<Json<Paginated<RolloutResponse>>, ApiError> {
    let past = parts.context.rollouts.history(&pool).await?;
    Ok(Json(Paginated::complete(past.into_iter().map(RolloutResponse::from).collect())))
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn a_change_names_the_revision_that_it_changes() {
        let revision_of = |tag: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, tag.parse().unwrap());
            expected(&headers).map_err(|error| error.into_response().status().as_u16())
        };
        assert_eq!(revision_of("\"41\""), Ok(Some(41)));
        assert_eq!(revision_of("41"), Ok(Some(41)));
        assert_eq!(revision_of("*"), Ok(None));
        assert_eq!(revision_of("W/\"41\""), Err(400));
        assert_eq!(expected(&HeaderMap::new()).unwrap_err().into_response().status().as_u16(), 428);
    }
}
