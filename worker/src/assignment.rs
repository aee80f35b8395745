//! The assignment of users to workers, as this worker sees it.
//!
//! Owns: which lane a user is in, which worker of the lane the user is assigned to for a method, and which partitions
//! this worker follows. Never: the turn row, which decides when two workers see it differently (`user_turns`).

use std::collections::BTreeSet;

use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Record, group_of_user, lane_move};
use pagewire_cluster::rollout::{LaneMove, Rollouts};
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
    /// Returns the worker that a user is assigned to for a method, or the home of the user without one; `None` when the
    /// lane of the user has no worker for it that accepts new work.
    pub(crate) fn worker_of(&self, user: &str, method: Option<&str>) -> Option<Key> {
        let group = group_of_user(&self.group.pool, user, &self.rollouts, &self.workers);
        self.workers.roster().choose(&group, user, method)
    }

    /// Returns the worker of a lane of this pool that serves the calls of a user which keep that lane, whichever lane the user
    /// is in; `None` without a worker of that lane that has the method and accepts new work.
    pub(crate) fn worker_in(&self, lane: &str, user: &str, method: &str) -> Option<Key> {
        let group = WorkerGroup::new(self.group.pool.as_str(), lane);
        self.workers.roster().choose(&group, user, Some(method))
    }

    /// Returns whether this worker is one of a lane.
    pub(crate) fn is_lane(&self, lane: &str) -> bool {
        self.group.lane == lane
    }

    /// Returns whether a worker is one of this lane, as far as this process knows.
    pub(crate) fn is_in_lane(&self, worker: Key) -> bool {
        self.workers.roster().row(worker).is_some_and(|row| row.lane == self.group.lane)
    }

    /// Returns the worker that a user is assigned to for the kind of a job. A row of an older release names none: its
    /// job belongs to the home of the user.
    pub(crate) fn worker_of_kind(&self, user: &str, kind: &str) -> Option<Key> {
        self.worker_of(user, Some(kind).filter(|kind| !kind.is_empty()))
    }

    /// Returns the lane to which a free job that waits moves; `None` if it stays.
    pub(crate) fn move_of(&self, record: &Record) -> Option<LaneMove> {
        lane_move(record, &self.rollouts, &self.workers)
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
