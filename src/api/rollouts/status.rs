//! The JSON of a rollout: its configuration and its observed effect.

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pagewire_cluster::id::NodeNumber;
use pagewire_cluster::rollout::{self, Propagation, RolloutPlan, RolloutSpec, Weight};
use pagewire_cluster::wire::RolloutState;
use serde::{Deserialize, Serialize};

use super::super::pages::rfc3339;
use super::lane_members::LaneMembers;

/// The rollout document of a pool.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct RolloutResponse {
    #[schema(example = "default")]
    pool: String,
    /// Number of changes, which is also the `ETag`. 0 without a document.
    revision: u64,
    /// The lane of all users that belong to no other lane.
    #[schema(example = "stable")]
    base: String,
    lanes: Vec<LaneResponse>,
    /// `none` or `base`: where the work of a lane without live workers runs.
    fallback: &'static str,
    /// The lane that grows by steps, or did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanResponse>,
    /// Determines the bucket of each user.
    salt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    /// The author of the last change.
    #[serde(skip_serializing_if = "String::is_empty")]
    updated_by: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
}

/// How a lane grows.
#[derive(Serialize, utoipa::ToSchema)]
struct PlanResponse {
    #[schema(example = "canary")]
    lane: String,
    /// The weights in percent, one after the other.
    #[schema(value_type = Vec<f64>)]
    steps: Vec<Weight>,
    /// The position of the current one, from 0.
    step: usize,
    /// `running`, `paused`, `completed` or `aborted`.
    state: &'static str,
}

/// A lane in addition to the base. The first one grows from the lowest bucket, the second from the highest.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LaneResponse {
    #[schema(example = "canary")]
    pub(super) name: String,
    /// Percent of the users, in steps of 0.01.
    #[schema(value_type = f64, example = 10)]
    pub(super) weight: Weight,
}

/// A rollout and how far the cluster has applied it.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct RolloutStatus {
    #[serde(flatten)]
    rollout: RolloutResponse,
    /// Configured and observed share of each lane, the base lane last.
    split: Vec<LaneShare>,
    applied: Applied,
    nodes: Vec<NodeState>,
    /// Problems that an operator should know, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct LaneShare {
    lane: String,
    /// Configured percent.
    #[schema(value_type = f64)]
    weight: Weight,
    /// Users who have the lane as their own, independent of their bucket.
    overrides: usize,
    /// Percent of the work that was assigned by this revision; `null` while there was none.
    observed: Option<f64>,
    /// Calls and jobs assigned by this revision.
    assigned: u64,
    /// Live workers of the lane that take new work.
    workers: usize,
    /// Their releases, the newest worker's first.
    releases: Vec<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Applied {
    /// Nodes that have applied this revision.
    nodes: usize,
    /// Live nodes.
    of: usize,
    /// Milliseconds from sending the change until all nodes had applied it; `null` if that was not observed.
    took_ms: Option<f64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct NodeState {
    #[schema(example = "p01")]
    node: String,
    /// The revision that the node has applied; `null` if it does not respond.
    revision: Option<u64>,
}

impl From<RolloutSpec> for RolloutResponse {
    fn from(document: RolloutSpec) -> Self {
        let lane = |lane: rollout::LaneSpec| LaneResponse { name: lane.name, weight: lane.weight };
        Self {
            pool: document.pool,
            revision: document.rev,
            base: document.base,
            lanes: document.lanes.into_iter().map(lane).collect(),
            fallback: document.fallback.text(),
            plan: document.plan.map(PlanResponse::from),
            salt: document.salt,
            comment: document.comment,
            updated_by: document.updated_by,
            updated_at: (document.rev > 0).then(|| rfc3339(document.updated)),
        }
    }
}

impl From<RolloutPlan> for PlanResponse {
    fn from(RolloutPlan { lane, steps, step, state }: RolloutPlan) -> Self {
        Self { lane, steps, step, state: state.text() }
    }
}

impl RolloutStatus {
    /// The status of a document, from the states of the nodes and the live workers.
    pub(super) fn new(document: RolloutSpec, spread: &Propagation, members: &LaneMembers) -> Self {
        let count = |lane: &str| {
            let current = spread.nodes.iter().filter_map(|(_, state)| state.as_ref());
            let current = current.filter(|state| state.revision == document.rev);
            let observed = current.flat_map(|state| &state.observed);
            observed.filter(|observed| observed.lane == lane).map(|observed| observed.count).sum::<u64>()
        };
        let lanes = document.lanes.iter().map(|lane| (&lane.name, lane.weight));
        let weights: Vec<_> = lanes.chain([(&document.base, document.remainder())]).collect();
        let counts: Vec<u64> = weights.iter().map(|(lane, _)| count(lane)).collect();
        let all: u64 = counts.iter().sum();
        let share = |((lane, weight), assigned): ((&String, Weight), u64)| {
            let (workers, releases) = members.releases(lane);
            LaneShare {
                lane: lane.clone(),
                weight,
                overrides: document.overridden(lane),
                observed: (all > 0).then(|| (assigned as f64 * 10_000.0 / all as f64).round() / 100.0),
                assigned,
                workers,
                releases,
            }
        };
        let split: Vec<_> = weights.into_iter().zip(counts).map(share).collect();
        Self {
            warnings: split.iter().filter_map(|share| share.warning(&document, members)).collect(),
            split,
            applied: Applied {
                nodes: spread.applied(),
                of: spread.nodes.len(),
                took_ms: spread.took.map(|took| took.as_micros() as f64 / 1000.0),
            },
            nodes: spread.nodes.iter().map(NodeState::of).collect(),
            rollout: document.into(),
        }
    }

    /// The response, with the revision as its `ETag`.
    pub(super) fn respond(self) -> Response {
        ([(header::ETAG, format!("\"{}\"", self.rollout.revision))], Json(self)).into_response()
    }
}

impl LaneShare {
    /// Returns a warning when the lane has users and no live workers.
    fn warning(&self, document: &RolloutSpec, members: &LaneMembers) -> Option<String> {
        if self.workers > 0 || (self.weight == Weight::default() && self.overrides == 0) {
            return None;
        }
        let lane = &self.lane;
        let (name, then) = (members.name(), members.consequence(document, lane));
        let users = match self.overrides {
            0 => String::new(),
            1 => " and 1 user of its own".to_owned(),
            count => format!(" and {count} users of its own"),
        };
        let share = self.weight.percent();
        Some(format!("lane {lane} has {share}% of the users{users} and no living {name}: {then}"))
    }
}

impl NodeState {
    fn of((node, state): &(NodeNumber, Option<RolloutState>)) -> Self {
        Self { node: node.to_string(), revision: state.as_ref().map(|state| state.revision) }
    }
}
