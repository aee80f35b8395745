//! What a process tells the nodes about the work of a lane, once in each interval.
//!
//! Owns: the shapes of these messages. Never: what follows from them (`evidence`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metric::{LaneWork, Metric};

/// Finished work of one lane and release, from one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneDigest {
    /// Pool of the lane.
    pub pool: String,
    /// The lane.
    pub lane: String,
    /// Release that did the work.
    pub release: String,
    /// One row for each revision of the rollout that decided the lane of the work.
    pub rows: Vec<DigestRow>,
    /// How long work of the base lane took: the number of pieces of work by `duration_class`. Empty for other lanes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub durations: BTreeMap<LaneWork, BTreeMap<u8, u32>>,
}

/// Units whose lane was decided by one revision. A unit is a user or connection, as a hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestRow {
    /// The revision.
    pub revision: u64,
    /// Units that had finished work for the first time in this process.
    pub units: Vec<u64>,
    /// Units that had a fault for the first time in this process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<Metric, Vec<u64>>,
}

/// Returns the class of a duration: four for each doubling of the microseconds.
pub(super) fn duration_class(us: u64) -> u8 {
    // at most 4 × 64
    ((us.max(1) as f64).log2() * 4.0).floor().clamp(0.0, 255.0) as u8
}

/// Returns the longest duration of a class, in microseconds.
pub(super) fn longest_of_class(class: u8) -> u64 {
    ((f64::from(class) + 1.0) / 4.0).exp2().ceil() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_is_at_most_a_fifth_shorter_than_the_longest_of_its_class(us in 1u64..86_400_000_000) {
            let longest = longest_of_class(duration_class(us));
            prop_assert!(us <= longest && longest as f64 <= us as f64 * 1.2 + 1.0, "{us} {longest}");
        }
    }
}
