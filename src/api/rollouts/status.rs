//! The JSON of a rollout: its configuration and its observed effect.

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pagewire_cluster::id::{Key, NodeNumber};
use pagewire_cluster::rollout::analysis::{LaneReport, PoolReport};
use pagewire_cluster::rollout::{
    self, AutoPromotion, Fallback, OnRegression, Propagation, RolloutPlan, RolloutSpec, TargetRule, Weight,
};
use pagewire_cluster::wire::{AbortLatch, RolloutState};
use serde::{Deserialize, Serialize};

use super::super::pages::rfc3339;
use super::limits::{self, LimitsMembers};
use super::servers::LaneServers;
use super::taken_back::TakenBack;

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
    /// `hash` or `latched`: whether users stay in a lane that they are in when its weight falls.
    enrolment: &'static str,
    /// Whether a page may choose the lane of its user.
    self_service: bool,
    /// Rules that send users to a lane by what is known of them, in order.
    #[schema(value_type = Vec<Object>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targeting: Vec<TargetRule>,
    /// How many processes run the work of each lane, and how many users have it, for the lanes that limit it.
    #[serde(skip_serializing_if = "LimitsMembers::is_empty")]
    limits: LimitsMembers,
    /// The lane that grows by steps, or did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanResponse>,
    /// Determines the bucket of each user.
    salt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    /// The comparison by which the last change was decided, if no operator did.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<LaneReport>,
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
    /// `{hold_s, margin}`: when it goes on without an operator. Absent for never.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    auto: Option<AutoPromotion>,
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
    /// `pause` or `abort`: what happens when the lane does worse than the base lane. Absent for `pause`, and in a change for
    /// what it was.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on_regression: Option<OnRegression>,
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
    /// The live workers of the pool that are processes of their own.
    workers: Vec<WorkerRevision>,
    /// The lanes that have a weight, compared with the base lane: `{lane, release, since, units, failed, base_units,
    /// base_failed, evidence, metrics: [{metric, units, base_units, evidence}], needs}`. A unit is a user or a connection. From
    /// an `evidence` of 100 on the lane counts as worse; `needs` is how many more units a promotion needs, `null` for never.
    /// Empty until the leader has compared them.
    #[schema(value_type = Vec<Object>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    analysis: Vec<LaneReport>,
    /// In the response to an abort: what it has taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) taken_back: Option<TakenBack>,
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
    /// Rules that send users to the lane.
    rules: usize,
    /// Users who stay in the lane, which are those that `max_users` of `limits` counts. Absent unless `enrolment` is `latched`.
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<usize>,
    /// Percent of the work that was assigned by this revision; `null` while there was none.
    observed: Option<f64>,
    /// Calls, jobs and requests of mounts assigned by this revision.
    assigned: u64,
    /// Live workers of the lane that take new work; for the pool of a mount, its processes that are ready.
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
    /// Workers of the pool that have applied this revision.
    workers: usize,
    /// Live workers of the pool that are processes of their own.
    of_workers: usize,
    /// Milliseconds from sending the change until all nodes and workers had applied it; `null` if that was not observed.
    took_ms: Option<f64>,
    /// The node or the id of the worker that reported it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct NodeState {
    #[schema(example = "p01")]
    node: String,
    /// The revision that the node has applied; `null` if it does not respond.
    revision: Option<u64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct WorkerRevision {
    worker: String,
    /// Its name, which need not be unique.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    lane: String,
    /// The revision that the worker has applied; `null` if it does not respond, as one of an older release.
    revision: Option<u64>,
}

impl From<RolloutSpec> for RolloutResponse {
    fn from(document: RolloutSpec) -> Self {
        let lane = |lane: rollout::LaneSpec| {
            let rollout::LaneSpec { name, weight, on_regression } = lane;
            LaneResponse { name, weight, on_regression }
        };
        Self {
            pool: document.pool,
            revision: document.rev,
            base: document.base,
            lanes: document.lanes.into_iter().map(lane).collect(),
            fallback: document.fallback.text(),
            enrolment: document.enrolment.mode.text(),
            self_service: document.enrolment.self_service,
            targeting: document.targeting,
            limits: limits::of_document(document.limits),
            plan: document.plan.map(PlanResponse::from),
            salt: document.salt,
            comment: document.comment,
            evidence: document.evidence,
            updated_by: document.updated_by,
            updated_at: (document.rev > 0).then(|| rfc3339(document.updated)),
        }
    }
}

impl From<RolloutPlan> for PlanResponse {
    fn from(RolloutPlan { lane, steps, step, state, auto }: RolloutPlan) -> Self {
        Self { lane, steps, step, state: state.text(), auto }
    }
}

impl RolloutStatus {
    /// The status of a document, from the states of the nodes, what serves its lanes, and their comparison.
    pub(super) fn new(
        document: RolloutSpec,
        spread: &Propagation,
        servers: LaneServers<'_>,
        analysis: Option<PoolReport>,
        users: impl Fn(&str) -> Option<usize>,
    ) -> Self {
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
            let service = servers.of_lane(lane, *lane == document.base);
            LaneShare {
                lane: lane.clone(),
                weight,
                overrides: document.overridden(lane),
                rules: document.targeted(lane),
                users: users(lane),
                observed: (all > 0).then(|| (assigned as f64 * 10_000.0 / all as f64).round() / 100.0),
                assigned,
                workers: service.count,
                releases: service.releases,
            }
        };
        let split: Vec<_> = weights.into_iter().zip(counts).map(share).collect();
        Self {
            warnings: split.iter().filter_map(|share| share.warning(&document, servers)).collect(),
            split,
            applied: Applied {
                nodes: spread.applied(),
                of: spread.nodes.len(),
                workers: spread.applied_by_workers(),
                of_workers: spread.workers.len(),
                took_ms: spread.took.map(|took| took.as_micros() as f64 / 1000.0),
                slowest: spread.slowest.clone(),
            },
            nodes: spread.nodes.iter().map(NodeState::of).collect(),
            workers: spread.workers.iter().map(|worker| WorkerRevision::of(worker, servers)).collect(),
            taken_back: None,
            analysis: analysis.map(|report| report.lanes).unwrap_or_default(),
            rollout: document.into(),
        }
    }

    /// Warns of aborts of this pool that are not written yet.
    pub(super) fn warn_of(&mut self, latches: &[AbortLatch]) {
        let own = latches.iter().filter(|latch| latch.pool == self.rollout.pool);
        let warning = |AbortLatch { lane, by, .. }: &AbortLatch| {
            format!("lane {lane} gets no work: {by} has aborted it, which is not written yet")
        };
        self.warnings.extend(own.map(warning));
    }

    /// Adds a problem that an operator should know.
    pub(super) fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }

    /// The response, with the revision as its `ETag`.
    pub(super) fn respond(self) -> Response {
        ([(header::ETAG, format!("\"{}\"", self.rollout.revision))], Json(self)).into_response()
    }
}

impl LaneShare {
    /// Returns a warning when the lane has users and nothing that serves it.
    fn warning(&self, document: &RolloutSpec, servers: LaneServers<'_>) -> Option<String> {
        if self.workers > 0 || (self.weight == Weight::default() && self.overrides == 0 && self.rules == 0) {
            return None;
        }
        let lane = &self.lane;
        let then = match document.fallback {
            Fallback::Base if *lane != document.base => "the base lane does the work of its users",
            _ => servers.consequence(),
        };
        let users = match self.overrides {
            0 => String::new(),
            1 => " and 1 user of its own".to_owned(),
            count => format!(" and {count} users of its own"),
        };
        let rules = match self.rules {
            0 => String::new(),
            1 => ", 1 rule".to_owned(),
            count => format!(", {count} rules"),
        };
        let share = self.weight.percent();
        let lacking = servers.lacking();
        Some(format!("lane {lane} has {share}% of the users{users}{rules} and no {lacking}: {then}"))
    }
}

impl NodeState {
    fn of((node, state): &(NodeNumber, Option<RolloutState>)) -> Self {
        Self { node: node.to_string(), revision: state.as_ref().map(|state| state.revision) }
    }
}

impl WorkerRevision {
    fn of((worker, state): &(Key, Option<RolloutState>), servers: LaneServers<'_>) -> Self {
        let row = servers.worker(*worker).unwrap_or_default();
        Self {
            worker: worker.to_string(),
            name: row.name,
            lane: row.lane,
            revision: state.as_ref().map(|state| state.revision),
        }
    }
}
