//! Which work is evidence. Pure.
//!
//! Owns: whether a lane is compared with the base lane, and whether a unit is in its lane by its hash alone. A unit that
//! an operator has put into a lane says nothing about the lanes, because the choice may have to do with the unit.

use sha2::{Digest, Sha256};

use super::super::{LaneAssignment, Reason, RolloutSpec, RoutingKey};

/// A unit that is evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ComparedUnit {
    /// Names the unit to other processes without telling who it is.
    pub(super) hash: u64,
    /// The revision that decided its lane.
    pub(super) revision: u64,
    /// Whether its lane is the base lane.
    pub(super) is_base: bool,
}

/// Returns whether a lane has something to be compared with.
pub(super) fn compares(document: &RolloutSpec, lane: &str) -> bool {
    match lane == document.base {
        true => document.lanes.iter().any(|lane| lane.weight.buckets() > 0),
        false => document.weight(lane).buckets() > 0,
    }
}

/// Returns the unit of a piece of work that ran in `lane`; `None` if it is no evidence. `assigned` returns the lane that the unit
/// has now, whether it has workers or not, and `revision` the revision that decided the lane of the work; without one it has to be the same lane.
pub(super) fn compared(
    document: &RolloutSpec,
    lane: &str,
    unit: RoutingKey<'_>,
    assigned: impl FnOnce() -> LaneAssignment,
    revision: Option<u64>,
) -> Option<ComparedUnit> {
    if !compares(document, lane) {
        return None;
    }
    let assigned = assigned();
    let by_hash = is_by_hash(document, &assigned);
    let is_there = revision.is_some() || assigned.lane == lane;
    let unit = ComparedUnit {
        hash: hash(&document.salt, unit),
        revision: revision.unwrap_or(document.rev),
        is_base: lane == document.base,
    };
    (by_hash && is_there).then_some(unit)
}

/// Returns whether its hash alone has put a unit into its lane.
pub(in crate::rollout) fn is_by_hash(document: &RolloutSpec, assigned: &LaneAssignment) -> bool {
    match assigned.reason {
        Reason::Weight | Reason::Base => true,
        // of those that stay, only those that would be there anyway
        Reason::Latched => document.lane(document.place(assigned.bucket)) == assigned.lane,
        _ => false,
    }
}

fn hash(salt: &str, unit: RoutingKey<'_>) -> u64 {
    let name = match unit {
        RoutingKey::User(user) => ("user", user.to_owned()),
        RoutingKey::Connection(connection) => ("connection", connection.to_string()),
    };
    let hash = Sha256::new().chain_update(salt).chain_update([1]).chain_update(name.0);
    let hash = hash.chain_update([0]).chain_update(name.1).finalize();
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::super::active::{LaneInputs, decide};
    use super::super::super::{LaneSpec, Weight};
    use super::*;

    fn document(canary: u16) -> RolloutSpec {
        let lane = LaneSpec::new("canary", Weight::of_buckets(canary).unwrap());
        let overrides = [("eve".to_owned(), "canary".to_owned())].into();
        RolloutSpec { rev: 4, lanes: vec![lane], overrides, ..RolloutSpec::unwritten("p") }
    }

    #[test]
    fn only_units_that_their_hash_has_put_into_a_compared_lane_are_evidence() {
        let ann = RoutingKey::User("ann");
        let unit = |canary, lane, unit, revision| {
            let document = document(canary);
            let assigned = || decide(LaneInputs::of(&document), unit, |_| true);
            compared(&document, lane, unit, assigned, revision)
        };
        let found = unit(10_000, "canary", ann, None).unwrap();
        assert_eq!((found.revision, found.is_base), (4, false));
        assert_eq!(unit(10_000, "canary", RoutingKey::User("eve"), None), None, "an operator chose her lane");
        assert_eq!(unit(10_000, "stable", ann, None), None, "she has just left this lane");
        assert_eq!(
            unit(10_000, "stable", ann, Some(3)).map(|unit| (unit.revision, unit.is_base)),
            Some((3, true))
        );
        assert_eq!(unit(0, "stable", ann, None), None, "nothing to compare with");
        assert_eq!(unit(10_000, "gone", ann, Some(3)), None);
        assert_ne!(hash("a", ann), hash("b", ann));
    }
}
