//! Which pages stay in a lane of nodes. Pure.
//!
//! Owns: the rule by which a page that was opened in a lane keeps it. Never: the lane of a new page (`active`), or which
//! node serves it. A page keeps its lane until it ends, so a weight that rises moves no page. A lane that was taken back
//! keeps none.

use std::sync::Arc;

use super::Rollouts;
use super::active::{ActiveRollout, LaneAssignment, own_lane};
use super::analysis::is_by_hash;
use super::lane::RoutingKey;
use super::spec::RolloutSpec;
use super::weight::Weight;

/// The pool whose rollout decides the lanes of pages, which are lanes of nodes.
pub const EDGE: &str = "edge";

impl RolloutSpec {
    /// Returns whether a unit that is in a lane may stay in it: the lane is the base, has a weight, is the unit's own, or
    /// was the base before a switch.
    pub fn keeps(&self, lane: &str, unit: RoutingKey<'_>) -> bool {
        let is_own = own_lane(self, unit) == Some(lane);
        let has_weight = self.weight(lane) > Weight::default();
        lane == self.base || is_own || has_weight || self.lingering.contains(lane)
    }
}

/// The rule of the document of a pool that this process has applied, and of the aborts that are not in it yet.
pub struct LaneRule {
    rollouts: Rollouts,
    applied: Arc<ActiveRollout>,
}

impl LaneRule {
    /// Returns the rule of a pool; `None` for a pool without a document.
    pub fn of(rollouts: &Rollouts, pool: &str) -> Option<Self> {
        let applied = rollouts.split(pool)?;
        Some(Self { rollouts: rollouts.clone(), applied })
    }

    /// Returns whether a unit that is in a lane may stay in it.
    pub fn keeps(&self, lane: &str, unit: RoutingKey<'_>) -> bool {
        let ActiveRollout { document, closed, .. } = &*self.applied;
        let is_sent = || self.rollouts.explain(&document.pool, unit, |_| true).lane == lane;
        !closed.contains_key(lane) && (document.keeps(lane, unit) || is_sent())
    }

    /// Returns the revision that has put a unit into its lane by its hash alone; 0 if something else has.
    pub fn revision_of_hash(&self, assigned: &LaneAssignment) -> u64 {
        let document = &self.applied.document;
        if is_by_hash(document, assigned) { document.rev } else { 0 }
    }

    /// Returns the base lane.
    pub fn base(&self) -> &str {
        &self.applied.document.base
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::RolloutStep;
    use super::super::spec::{LaneSpec, RolloutUpdate};
    use super::*;
    use crate::id::Key;

    fn document(weight: f64) -> RolloutSpec {
        let weight = Weight::of_percent(weight).unwrap();
        let lanes = vec![LaneSpec::new("green", weight)];
        RolloutSpec { lanes, base: "blue".into(), ..RolloutSpec::unwritten("edge") }
    }

    fn step(document: &RolloutSpec, step: RolloutStep) -> RolloutSpec {
        let wanted = RolloutUpdate { step: Some(step), ..RolloutUpdate::default() };
        document.revise(wanted, "salt".into(), "ann", 7).unwrap()
    }

    fn keeps(document: &RolloutSpec, lane: &str) -> bool {
        document.keeps(lane, RoutingKey::Connection(Key::from_bits(1)))
    }

    #[test]
    fn a_page_keeps_a_lane_with_any_weight_and_loses_one_that_was_taken_back() {
        for (weight, kept) in [(0.0, false), (0.01, true), (100.0, true)] {
            let document = document(weight);
            assert_eq!((keeps(&document, "green"), keeps(&document, "blue")), (kept, true), "{weight}");
            assert!(!keeps(&document, "red"), "a lane that the document does not have");
        }
    }

    #[test]
    fn a_user_keeps_a_lane_of_its_own_without_a_weight() {
        let mut document = document(0.0);
        document.overrides.insert("ann".into(), "green".into());
        assert!(document.keeps("green", RoutingKey::User("ann")));
        assert!(!document.keeps("green", RoutingKey::User("bob")));
    }

    #[test]
    fn a_base_before_a_switch_keeps_its_pages_until_it_is_aborted_or_undone() {
        let before = document(0.0);
        let switched = step(&before, RolloutStep::Switch { lane: "green".into() });
        assert!(keeps(&switched, "blue") && keeps(&switched, "green"));
        let aborted = step(&switched, RolloutStep::Abort { lane: Some("blue".into()) });
        assert!(!keeps(&aborted, "blue") && keeps(&aborted, "green"));
        let undone = switched.revise(before.restored(), String::new(), "ann", 8).unwrap();
        assert!(keeps(&undone, "blue") && !keeps(&undone, "green"), "an undo takes the lane back");
        let back = step(&switched, RolloutStep::Switch { lane: "blue".into() });
        assert_eq!(back.lingering.iter().collect::<Vec<_>>(), ["green"]);
    }
}
