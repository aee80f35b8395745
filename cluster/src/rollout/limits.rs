//! The limits of a lane: how many processes run its work.
//!
//! Owns: the limits in the document, the share of one worker of them, and how many processes a lane should have. Never:
//! starting or ending a process. A limit on users is left out, because no node knows exactly and at every moment which users
//! a lane has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Rollouts;
use super::spec::{LaneSpec, SpecError};

/// Maximum number of processes in a limit.
const MAX_PROCESSES: u32 = 10_000;

/// How many processes run the work of a lane, in all workers together: the children of workers that have children, and the
/// other workers themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneLimits {
    /// Processes that there are always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_processes: Option<u32>,
    /// The most processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_processes: Option<u32>,
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
#[error("the limits of lane {0} are not 1 to {MAX_PROCESSES} processes, or the minimum is above the maximum")]
pub struct InvalidLimits(String);

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
        valid(self.min_processes) && valid(self.max_processes) && ordered
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
        let kept = present.iter().filter(|(lane, _)| is_lane(lane));
        return Ok(kept.map(|(lane, limits)| (lane.clone(), *limits)).collect());
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
        LaneLimits { min_processes, max_processes }
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
