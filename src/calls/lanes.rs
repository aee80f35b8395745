//! The lanes of calls and jobs.
//!
//! Owns: which rule of a rollout decides a lane, and whether a page binds its calls to one. Never: the rules themselves
//! (`pagewire_cluster::rollout`).

use pagewire_cluster::rollout::{Admissions, LaneAssignment, LanePins, Rollouts, RoutingKey};
use pagewire_cluster::worker::{WorkerGroup, Workers};

use super::CallRequest;

/// How the lane of a call binds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneBond {
    /// A worker that sees a later rollout may send it to another lane.
    Loose,
    /// Its page keeps the lane, which is that of its user, too.
    Kept,
    /// Its page keeps the lane, and its user is in another one: a worker serves the call without owning the user.
    Visiting,
}

/// The lane of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallLane {
    pub(super) group: WorkerGroup,
    pub(super) bond: LaneBond,
}

/// Decides the lanes of calls and jobs. Cheap to clone.
#[derive(Clone)]
pub(super) struct WorkLanes {
    pub(super) rollouts: Rollouts,
    pub(super) workers: Workers,
}

impl WorkLanes {
    /// Returns the lane that runs the work of a routing key, and counts it.
    pub(super) fn of(&self, pool: &str, unit: RoutingKey<'_>) -> LaneAssignment {
        self.rollouts.lane_for(pool, unit, |lane| self.workers.serve(pool, lane))
    }

    /// Asks for the lane of a user's bucket where only admitted users have it, before work of the user is placed.
    pub(super) async fn admit(&self, pool: &str, unit: RoutingKey<'_>, pins: Option<&LanePins>) {
        let serves = |lane: &str| self.workers.serve(pool, lane);
        Admissions::new(&self.rollouts).admit(pool, unit, pins, serves).await;
    }

    /// Returns what decides the lane of a call, and the workers of that lane without counting it.
    pub(super) fn before_placing<'a>(
        &self,
        call: &'a CallRequest,
        pool: &str,
    ) -> (RoutingKey<'a>, WorkerGroup) {
        let unit = RoutingKey::of(call.user.as_deref(), call.connection);
        (unit, self.explain_call(call, pool, unit))
    }

    /// Returns the workers of the lane of a call without counting it.
    fn explain_call(&self, call: &CallRequest, pool: &str, unit: RoutingKey<'_>) -> WorkerGroup {
        let serves = |lane: &str| self.workers.serve(pool, lane);
        let assigned = match &call.pins {
            Some(pins) => pins.explain(&self.rollouts, pool, unit, serves),
            None => self.rollouts.explain(pool, unit, serves),
        };
        WorkerGroup::new(pool, assigned.lane)
    }

    /// Returns the lane of a call that runs on workers, and counts it. The page that makes the call keeps the lane.
    pub(super) fn of_call(&self, call: &CallRequest, pool: &str, unit: RoutingKey<'_>) -> CallLane {
        let (assigned, bond) = match &call.pins {
            Some(pins) if self.rollouts.has_pool(pool) => {
                let serves = |lane: &str| self.workers.serve(pool, lane);
                let assigned = pins.assign(&self.rollouts, pool, unit, serves);
                let is_home = self.rollouts.explain(pool, unit, serves).lane == assigned.lane;
                (assigned, if is_home { LaneBond::Kept } else { LaneBond::Visiting })
            }
            _ => (self.of(pool, unit), LaneBond::Loose),
        };
        CallLane { group: WorkerGroup::new(pool, assigned.lane), bond }
    }
}
