//! The assignment of users to workers, as this worker sees it.
//!
//! Owns: which lane a user is in, which worker of the lane the user is assigned to for a method, and which partitions
//! this worker follows. Never: the turn row, which decides when two workers see it differently (`user_turns`).

use std::collections::BTreeSet;

use pagewire_cluster::id::Key;
use pagewire_cluster::job::{JobState, Record};
use pagewire_cluster::rollout::{LaneMove, Rollouts, RoutingKey, WaitingWork};
use pagewire_cluster::worker::{WorkerGroup, Workers};

/// The assignment of users, for one worker.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) workers: Workers,
    pub(crate) rollouts: Rollouts,
    pub(crate) group: WorkerGroup,
    pub(crate) id: Key,
}

impl Assignment {
    /// Returns the group of the lane that a user is in.
    fn group_of(&self, user: &str) -> WorkerGroup {
        let pool = self.group.pool.as_str();
        let serves = |lane: &str| self.workers.roster().serves(&WorkerGroup::new(pool, lane));
        WorkerGroup::new(pool, self.rollouts.explain(pool, RoutingKey::User(user), serves).lane)
    }

    /// Returns the worker that a user is assigned to for a method, or the home of the user without one; `None` when the
    /// lane of the user has no worker for it that accepts new work.
    pub(crate) fn worker_of(&self, user: &str, method: Option<&str>) -> Option<Key> {
        let group = self.group_of(user);
        self.workers.roster().choose(&group, user, method)
    }

    /// Returns the worker that a user is assigned to for the kind of a job. A row of an older release names none: its
    /// job belongs to the home of the user.
    pub(crate) fn worker_of_kind(&self, user: &str, kind: &str) -> Option<Key> {
        self.worker_of(user, Some(kind).filter(|kind| !kind.is_empty()))
    }

    /// Returns the lane to which a free job that waits moves; `None` if it stays.
    pub(crate) fn move_of(&self, record: &Record) -> Option<LaneMove> {
        let work = WaitingWork {
            unit: record.routing_key(),
            lane: &record.lane,
            revision: record.lane_rev,
            began: record.attempts > 0,
        };
        let pool = self.group.pool.as_str();
        let waits = matches!(record.state, JobState::Scheduled | JobState::Queued);
        let serves = |lane: &str| self.workers.roster().serves(&WorkerGroup::new(pool, lane));
        self.rollouts.move_of(pool, work, serves).filter(|_| waits)
    }

    /// Returns the partitions with users who are assigned to this worker, for at least one of its methods.
    pub(crate) fn partitions(&self) -> BTreeSet<u8> {
        self.workers.roster().partitions_of(&self.group, self.id)
    }

    /// Returns whether a worker has a method, as far as this process knows.
    pub(crate) fn has(&self, worker: Key, method: &str) -> bool {
        self.workers.roster().has(worker, method)
    }
}
