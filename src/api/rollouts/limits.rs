//! The JSON of the limits of lanes.

use std::collections::BTreeMap;

use pagewire_cluster::rollout::{LaneLimits, LimitsByLane};
use serde::{Deserialize, Serialize};

/// How many processes run the work of a lane, in all workers together, and how many users have it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LimitsMember {
    /// Processes that there are always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    min_processes: Option<u32>,
    /// The most processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 4)]
    max_processes: Option<u32>,
    /// The most users who have the lane by their buckets. Needs `enrolment` to be `latched`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 50)]
    max_users: Option<u32>,
}

/// The limits by the name of the lane.
pub(in crate::api) type LimitsMembers = BTreeMap<String, LimitsMember>;

pub(super) fn of_request(limits: LimitsMembers) -> LimitsByLane {
    let limits = limits.into_iter().map(|(lane, limits)| {
        let LimitsMember { min_processes, max_processes, max_users } = limits;
        (lane, LaneLimits { min_processes, max_processes, max_users })
    });
    limits.collect()
}

pub(super) fn of_document(limits: LimitsByLane) -> LimitsMembers {
    let limits = limits.into_iter().map(|(lane, limits)| {
        let LaneLimits { min_processes, max_processes, max_users } = limits;
        (lane, LimitsMember { min_processes, max_processes, max_users })
    });
    limits.collect()
}
