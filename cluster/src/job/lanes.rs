//! The lane of a job and of its user, by the rollout of its pool and the living workers.
//!
//! Owns: what of a record decides its lane. Never: the rule (`rollout`), or the move of a job.

use super::record::Record;
use crate::rollout::{LaneMove, Rollouts, RoutingKey, WaitingWork};
use crate::worker::{WorkerGroup, Workers};

/// Returns the workers of the lane that the owner of assigned work is in.
pub fn group_of_user(pool: &str, owner: &str, rollouts: &Rollouts, workers: &Workers) -> WorkerGroup {
    let serves = |lane: &str| workers.serve(pool, lane);
    WorkerGroup::new(pool, rollouts.explain(pool, RoutingKey::of_owner(owner), serves).lane)
}

/// Returns the lane to which a free job moves; `None` if it stays, or does not wait.
pub fn lane_move(record: &Record, rollouts: &Rollouts, workers: &Workers) -> Option<LaneMove> {
    let pool = record.pool.as_str();
    let work = WaitingWork {
        unit: record.routing_key(),
        lane: &record.lane,
        revision: record.lane_rev,
        began: record.attempts > 0,
    };
    rollouts.move_of(pool, work, |lane| workers.serve(pool, lane)).filter(|_| record.state.is_waiting())
}
