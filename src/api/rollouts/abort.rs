//! `POST /rollouts/{pool}/abort`: takes a lane back, also while the cluster stores nothing.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use pagewire_cluster::rollout::{Abort, AbortOutcome, AbortWrite};
use pagewire_cluster::wire::LatchReply;
use serde::{Deserialize, Serialize};

use super::super::ApiState;
use super::super::auth::Principal;
use super::super::error::{ApiError, ErrorBody};
use super::super::extract::Body;
use super::taken_back::{LaneBefore, TakenBack};
use super::{Pool, audience, refused};

/// Takes a lane back.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct AbortRequest {
    /// The lane; without it, the one that grows by steps.
    #[schema(example = "canary")]
    lane: Option<String>,
    /// The revision that this node must have applied; without it, any.
    revision: Option<u64>,
    /// Reason, for people.
    comment: String,
}

/// What an abort has done so far.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct AbortResponse {
    #[schema(example = "default")]
    pool: String,
    #[schema(example = "canary")]
    lane: String,
    /// The revision that was aborted: the lane gets no work by it.
    revision: u64,
    /// The revision that contains the abort; `null` while the cluster stores nothing. Then the nodes write it as soon as it does,
    /// and the abort holds until then.
    written: Option<u64>,
    /// Living processes that have applied it.
    applied: usize,
    /// Living processes.
    of: usize,
    /// Milliseconds from sending the abort until all had applied it; `null` if one has not.
    took_ms: Option<f64>,
    processes: Vec<AbortedProcess>,
    /// What it has taken back; `null` if this node had not applied a document of the pool.
    taken_back: Option<TakenBack>,
}

/// A node, or a process of workers.
#[derive(Serialize, utoipa::ToSchema)]
struct AbortedProcess {
    /// The number of a node, or the machine and process id of workers.
    #[schema(example = "p01")]
    process: String,
    /// `node` or `workers`.
    kind: &'static str,
    /// Milliseconds from sending the abort until the process had applied it; `null` if it has not said so.
    took_ms: Option<f64>,
}

impl AbortResponse {
    fn new(outcome: AbortOutcome, taken_back: Option<TakenBack>) -> Self {
        let took_ms = outcome.took().map(milliseconds);
        let process = |(process, took): (LatchReply, Option<Duration>)| {
            let (process, kind) = match process {
                LatchReply::Node { node } => (node.to_string(), "node"),
                LatchReply::Workers { host, pid } => (format!("{host}/{pid}"), "workers"),
            };
            AbortedProcess { process, kind, took_ms: took.map(milliseconds) }
        };
        let written = match outcome.written {
            Some(AbortWrite::Written(document)) => Some(document.rev),
            Some(AbortWrite::Passed(_)) | None => None,
        };
        let applied = outcome.applied.values().filter(|took| took.is_some()).count();
        Self {
            pool: outcome.latch.pool,
            lane: outcome.latch.lane,
            revision: outcome.latch.revision,
            written,
            applied,
            of: outcome.applied.len(),
            took_ms,
            processes: outcome.applied.into_iter().map(process).collect(),
            taken_back,
        }
    }
}

fn milliseconds(took: Duration) -> f64 {
    took.as_micros() as f64 / 1000.0
}

/// Takes a lane back at once: it gets no work any more, neither by weight nor as the lane of its own of a user.
///
/// This needs no majority of the cluster's servers: each process applies the abort when it hears of it, and holds it until it is
/// written. The response says which processes have applied it, and whether it is written.
#[utoipa::path(post, path = "/api/v1/rollouts/{pool}/abort", tag = "rollouts", request_body = AbortRequest,
    params(("pool" = String, Path)),
    responses((status = 200, body = AbortResponse), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn abort(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
    Extension(who): Extension<Principal>,
    Body(AbortRequest { lane, revision, comment }): Body<AbortRequest>,
) -> Result<Json<AbortResponse>, ApiError> {
    let before = LaneBefore::count(&parts, &pool, lane.as_deref()).await;
    let abort = Abort { pool: pool.clone(), lane, revision, comment, by: who.name().to_owned() };
    let outcome = parts.context.latches.abort(abort, &audience(&parts, None)).await.map_err(refused)?;
    // no job can move while the cluster stores nothing
    let within = if outcome.written.is_some() { parts.timing.deliver } else { Duration::ZERO };
    let taken_back = match before {
        Some(before) => Some(before.taken_back(&parts, &pool, within).await),
        None => None,
    };
    Ok(Json(AbortResponse::new(outcome, taken_back)))
}
