//! Why a job waits, as the API shows it.
//!
//! Owns: what is read to answer it: the living workers, the rollout, the turn of the user, and the counts of the
//! leader. Never: the answer itself (`pagewire_cluster::job::obstacle`).

use pagewire_cluster::id::Key;
use pagewire_cluster::job::{
    JobState, Obstacle, Record, WaitingJobs, WaitingWorkView, group_of_user, obstacle,
};
use pagewire_cluster::registry::leader_in;
use pagewire_cluster::wire::WaitingJobsList;
use pagewire_cluster::worker::{Affinity, WorkerGroup};
use serde::Serialize;

use super::super::ApiState;
use crate::command::Context;

/// Why a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(in crate::api) struct Waiting {
    /// For programs: `no_worker`, `lane_closed`, `no_worker_of_type`, `no_handler`, `user_busy` or `not_due`.
    #[schema(example = "no_worker")]
    code: &'static str,
    /// For people.
    message: String,
}

impl From<Obstacle> for Waiting {
    fn from(obstacle: Obstacle) -> Self {
        Self { code: obstacle.code(), message: obstacle.to_string() }
    }
}

/// Returns why a job waits, as far as this node knows without a read.
pub(super) fn waits_for(context: &Context, record: &Record) -> Option<Waiting> {
    reason(context, record, None).map(Waiting::from)
}

/// Returns why a job waits. For a job that nothing else holds up, reads which job of its user runs.
pub(super) async fn find_reason(context: &Context, record: &Record) -> Option<Waiting> {
    let known = waits_for(context, record);
    if known.is_some() || !record.state.is_waiting() {
        return known;
    }
    // without the engine the reason is unknown
    let running = context.jobs.running_beside(record).await.ok().flatten();
    reason(context, record, running).map(Waiting::from)
}

/// Returns the counts of the jobs that have not ended, as the leader has them; `None` when it does not reply.
pub(in crate::api) async fn jobs_at_leader(parts: &ApiState) -> Option<WaitingJobsList> {
    let leader = leader_in(&parts.registry.view())?;
    let jobs = parts.context.jobs.waiting_at(leader).await;
    jobs.inspect_err(|error| tracing::debug!(?error, "the leader counts no jobs")).ok()
}

/// Returns why no worker can run the jobs of a group.
pub(in crate::api) fn group_waits_for(context: &Context, jobs: &WaitingJobs) -> Option<Waiting> {
    let WaitingJobs { pool, lane, .. } = jobs;
    let affinity = jobs.affinity();
    let closed_by = context.rollouts.closed_by(pool, lane);
    // the user of an assigned job is in another lane when this one gets no work
    let (lane, closed_by) = match closed_by {
        Some(_) if affinity == Affinity::Assigned => (context.rollouts.base_of(pool), None),
        closed_by => (lane.clone(), closed_by),
    };
    let group = WorkerGroup::new(pool.as_str(), lane);
    let view =
        WaitingWorkView { affinity, kind: None, is_early: false, group: &group, closed_by, running: None };
    obstacle(&view, &context.workers.roster()).map(Waiting::from)
}

fn reason(context: &Context, record: &Record, running: Option<Key>) -> Option<Obstacle> {
    if !record.state.is_waiting() {
        return None;
    }
    let group = group_of(context, record);
    let view = WaitingWorkView {
        affinity: record.affinity,
        kind: Some(&record.kind),
        is_early: record.state == JobState::Scheduled && record.due > context.jobs.records.now_ms(),
        group: &group,
        closed_by: context.rollouts.closed_by(&group.pool, &group.lane),
        running,
    };
    obstacle(&view, &context.workers.roster())
}

/// Returns the workers that may run a job: of its lane, or, for an assigned job, of the lane that its user is in.
fn group_of(context: &Context, record: &Record) -> WorkerGroup {
    let Some(owner) = record.owner() else { return record.team() };
    group_of_user(&record.pool, &owner, &context.rollouts, &context.workers)
}
