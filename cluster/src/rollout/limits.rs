//! The limits of a lane: how many processes run its work, and how many users have it by their buckets.
//!
//! Owns: the limits in the document, the share of one worker of them, and how many processes a lane should have. Never:
//! starting or ending a process, or which users are admitted (`admission`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Rollouts;
use super::enrolment_rules::EnrolmentMode;
use super::kept::EDGE;
use super::spec::{LaneSpec, RolloutSpec, SpecError};

/// Maximum number of processes in a limit.
const MAX_PROCESSES: u32 = 10_000;
/// Maximum number of users in a limit, so that the admitted users of a lane are one small row.
const MAX_USERS: u32 = 1000;
/// The feature of a document with a limit on the users of a lane.
pub(super) const USER_LIMIT: &str = "user_limit";

/// How many processes run the work of a lane, in all workers together: the children of workers that have children, and the
/// other workers themselves; and how many users have the lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneLimits {
    /// Processes that there are always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_processes: Option<u32>,
    /// The most processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_processes: Option<u32>,
    /// The most users who have the lane by their buckets, from its start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_users: Option<u32>,
}

/// The limits of each lane that has some.
pub type LimitsByLane = BTreeMap<String, LaneLimits>;

/// The limits of the children of one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitShare {
    /// Children that there are always.
    pub min: Option<usize>,
    /// The most children.
    pub max: Option<usize>,
}

/// The work of one kind of processes of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneDemand {
    /// Pieces of work that one process runs at a time; 0 if the lane has none.
    pub slots: u64,
    /// Pieces of work that run, or wait for a process or a slot.
    pub work: u64,
}

/// The limits of a lane are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limits of lane {0} are not 1 to {MAX_PROCESSES} processes and 1 to {MAX_USERS} users, or the minimum is above the maximum"
)]
pub struct InvalidLimits(String);

/// Why a lane has no limit on its users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserLimitError {
    /// Users of the pool do not stay in their lanes, so that they cannot be counted.
    #[error("max_users of lane {0} needs users who stay in their lane: set enrolment to latched")]
    Hash(String),
    /// The lane takes all users of no other lane.
    #[error("lane {0} is the base lane, which takes all other users: it has no max_users")]
    Base(String),
    /// Pages are placed without being admitted.
    #[error("the lanes of pool {EDGE} are nodes, which have no max_users")]
    Nodes,
}

impl LaneLimits {
    /// Returns the part of one worker of `workers` that run the lane. All parts together are at least the minimum and at
    /// most the maximum, except that each worker has one child at least.
    pub fn share(self, workers: usize) -> LimitShare {
        let workers = workers.max(1);
        let share = |limit: Option<u32>, part: fn(usize, usize) -> usize| {
            limit.map(|limit| part(limit as usize, workers).max(1))
        };
        LimitShare {
            min: share(self.min_processes, usize::div_ceil),
            max: share(self.max_processes, |a, b| a / b),
        }
    }

    /// Returns how many processes the lane should have: enough slots for its work, within the limits.
    pub fn wanted(self, demands: impl IntoIterator<Item = LaneDemand>) -> u64 {
        let needed = |demand: LaneDemand| match demand.slots {
            0 => demand.work.min(1),
            slots => demand.work.div_ceil(slots),
        };
        let needed = demands.into_iter().map(needed).sum::<u64>();
        let (min, max) = (self.min_processes.unwrap_or(0), self.max_processes.unwrap_or(u32::MAX));
        needed.clamp(min.into(), u64::from(max).max(min.into()))
    }

    fn is_valid(self) -> bool {
        let valid = |limit: Option<u32>| limit.is_none_or(|limit| (1..=MAX_PROCESSES).contains(&limit));
        let ordered = self.min_processes.is_none()
            || self.max_processes.is_none_or(|max| self.min_processes <= Some(max));
        let users = self.max_users.is_none_or(|most| (1..=MAX_USERS).contains(&most));
        valid(self.min_processes) && valid(self.max_processes) && ordered && users
    }
}

/// Returns the limits of the next revision: the wanted ones, else the present ones of lanes that it still has.
///
/// # Errors
///
/// [`SpecError::UnknownLane`] for a lane that it does not have, [`SpecError::Limits`] for invalid limits.
pub(super) fn revised(
    present: &LimitsByLane,
    wanted: Option<LimitsByLane>,
    base: &str,
    lanes: &[LaneSpec],
) -> Result<LimitsByLane, SpecError> {
    let is_lane = |name: &str| name == base || lanes.iter().any(|lane| lane.name == name);
    let Some(mut wanted) = wanted else {
        // a lane that has become the base takes all users
        let users = |lane: &str, limits: &LaneLimits| limits.max_users.filter(|_| lane != base);
        let kept = present.iter().filter(|(lane, _)| is_lane(lane));
        let kept = kept
            .map(|(lane, limits)| (lane.clone(), LaneLimits { max_users: users(lane, limits), ..*limits }));
        return Ok(kept.filter(|(_, limits)| *limits != LaneLimits::default()).collect());
    };
    wanted.retain(|_, limits| *limits != LaneLimits::default());
    for (lane, limits) in &wanted {
        if !is_lane(lane) {
            return Err(SpecError::UnknownLane(lane.clone()));
        }
        if !limits.is_valid() {
            return Err(InvalidLimits(lane.clone()).into());
        }
    }
    Ok(wanted)
}

/// Checks that the users of each lane with a limit on them can be counted.
///
/// # Errors
///
/// [`UserLimitError`] for the first lane whose users cannot.
pub(super) fn check_users(document: &RolloutSpec) -> Result<(), UserLimitError> {
    let Some(lane) = document.user_limits().next() else { return Ok(()) };
    if document.pool == EDGE {
        return Err(UserLimitError::Nodes);
    }
    if let Some(base) = document.user_limits().find(|lane| *lane == document.base) {
        return Err(UserLimitError::Base(base.to_owned()));
    }
    if document.enrolment.mode != EnrolmentMode::Latched {
        return Err(UserLimitError::Hash(lane.to_owned()));
    }
    Ok(())
}

impl RolloutSpec {
    /// Returns the most users who have a lane by their buckets; `None` for any number.
    pub fn max_users(&self, lane: &str) -> Option<usize> {
        self.limits.get(lane).and_then(|limits| limits.max_users).map(|most| most as usize)
    }

    /// Returns the lanes with a limit on their users.
    pub(super) fn user_limits(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().filter(|(_, limits)| limits.max_users.is_some()).map(|(lane, _)| lane.as_str())
    }
}

impl Rollouts {
    /// Returns the limits of a lane.
    pub fn limits(&self, pool: &str, lane: &str) -> LaneLimits {
        let split = self.split(pool);
        split.and_then(|split| split.document.limits.get(lane).copied()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::{RolloutSpec, RolloutUpdate};
    use super::super::weight::Weight;
    use super::*;

    fn limits(min_processes: Option<u32>, max_processes: Option<u32>) -> LaneLimits {
        LaneLimits { min_processes, max_processes, max_users: None }
    }

    #[test]
    fn a_document_keeps_the_limits_of_its_lanes_only() {
        let revise = |document: &RolloutSpec, wanted| document.revise(wanted, "s".into(), "ann", 1);
        let canary = LaneSpec::new("canary", Weight::default());
        let both: LimitsByLane =
            [("canary".to_owned(), limits(Some(2), None)), ("stable".to_owned(), limits(None, Some(8)))]
                .into();
        let wanted = RolloutUpdate {
            lanes: Some(vec![canary]),
            limits: Some(both.clone()),
            ..RolloutUpdate::default()
        };
        let first = revise(&RolloutSpec::unwritten("p"), wanted).unwrap();
        assert_eq!(RolloutSpec::decode(&first.encode()).unwrap().limits, both);
        assert_eq!(revise(&first, RolloutUpdate::default()).unwrap().limits, both);
        let without =
            revise(&first, RolloutUpdate { lanes: Some(vec![]), ..RolloutUpdate::default() }).unwrap();
        assert_eq!(without.limits.into_keys().collect::<Vec<_>>(), ["stable"]);
        let restored = revise(&first, RolloutSpec::unwritten("p").restored()).unwrap();
        assert!(restored.limits.is_empty());
        let set = |lane: &str, of| {
            let limits = Some([(lane.to_owned(), of)].into());
            revise(&first, RolloutUpdate { limits, ..RolloutUpdate::default() }).map(|next| next.limits.len())
        };
        assert_eq!(set("canary", LaneLimits::default()), Ok(0));
        assert_eq!(set("beta", limits(Some(1), None)), Err(SpecError::UnknownLane("beta".into())));
        for invalid in [
            limits(Some(3), Some(2)),
            limits(Some(0), None),
            limits(None, Some(0)),
            limits(None, Some(10_001)),
        ] {
            assert_eq!(set("canary", invalid), Err(InvalidLimits("canary".into()).into()));
        }
    }

    #[test]
    fn a_lane_should_have_slots_for_its_work_within_its_limits() {
        let wanted = |limits: LaneLimits, slots, work| limits.wanted([LaneDemand { slots, work }]);
        let none = LaneLimits::default();
        assert_eq!([wanted(none, 0, 0), wanted(none, 0, 900), wanted(none, 8, 16)], [0, 1, 2]);
        assert_eq!([wanted(none, 8, 17), wanted(limits(None, Some(2)), 8, 99)], [3, 2]);
        assert_eq!([wanted(limits(Some(2), None), 0, 0), wanted(limits(Some(2), Some(4)), 1, 3)], [2, 3]);
    }

    proptest! {
        #[test]
        fn the_shares_of_all_workers_keep_the_limits_together(min in 1u32..50, more in 0u32..50, workers in 1usize..20) {
            let max = min + more;
            let share = limits(Some(min), Some(max)).share(workers);
            prop_assert!(share.min.unwrap() * workers >= min as usize);
            prop_assert!(share.max.unwrap() * workers <= (max as usize).max(workers));
            prop_assert!(share.max.unwrap() >= 1);
        }
    }
}
