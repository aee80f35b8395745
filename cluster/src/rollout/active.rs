//! A document that this process applies, and the number of assignments by it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::lane::RoutingKey;
use super::spec::{Fallback, RolloutSpec};
use crate::wire::LaneCount;

/// Reason why a unit is in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its bucket belongs to the lane.
    Weight,
    /// Its bucket belongs to no other lane.
    Base,
    /// The lane of its bucket has no living workers.
    Fallback,
}

impl Reason {
    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Base => "base",
            Self::Fallback => "fallback",
        }
    }
}

/// The lane that a unit's work is assigned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneAssignment {
    /// Name of the lane.
    pub lane: String,
    /// Reason for the lane.
    pub reason: Reason,
    /// Bucket of the unit.
    pub bucket: u16,
    /// Revision of the document; 0 for a pool without one.
    pub revision: u64,
}

/// Number of assignments by this process since it started.
#[derive(Debug, Default)]
pub(super) struct AssignmentCounts(Mutex<BTreeMap<(String, String, Reason), Arc<AtomicU64>>>);

impl AssignmentCounts {
    fn tally(&self, pool: &str, lane: &str, reason: Reason) -> AssignmentCounter {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = counts.entry((pool.to_owned(), lane.to_owned(), reason)).or_default().clone();
        AssignmentCounter { before: total.load(Ordering::Relaxed), total }
    }

    /// Returns pool, lane, reason and number of assignments.
    pub(super) fn list(&self) -> Vec<(String, String, Reason, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((pool, lane, reason), total): (&(String, String, Reason), &Arc<AtomicU64>)| {
            (pool.clone(), lane.clone(), *reason, total.load(Ordering::Relaxed))
        };
        counts.iter().map(row).collect()
    }
}

/// A running total, and its value when the document was applied.
#[derive(Debug)]
struct AssignmentCounter {
    total: Arc<AtomicU64>,
    before: u64,
}

impl AssignmentCounter {
    fn add(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    fn since(&self) -> u64 {
        self.total.load(Ordering::Relaxed) - self.before
    }
}

/// A document and its tallies: one for each lane in order, one for the base, and one for work that fell back to the
/// base.
#[derive(Debug)]
pub(super) struct ActiveRollout {
    pub(super) document: RolloutSpec,
    lanes: Vec<AssignmentCounter>,
    base: AssignmentCounter,
    fallback: AssignmentCounter,
}

impl ActiveRollout {
    pub(super) fn new(document: RolloutSpec, counts: &AssignmentCounts) -> Self {
        let tally = |lane: &str, reason| counts.tally(&document.pool, lane, reason);
        Self {
            lanes: document.lanes.iter().map(|lane| tally(&lane.name, Reason::Weight)).collect(),
            base: tally(&document.base, Reason::Base),
            fallback: tally(&document.base, Reason::Fallback),
            document,
        }
    }

    /// Assigns a unit and counts it.
    pub(super) fn assign(&self, unit: RoutingKey<'_>, serves: impl FnOnce(&str) -> bool) -> LaneAssignment {
        let (assigned, place) = decide(&self.document, unit, serves);
        match (assigned.reason, place.and_then(|index| self.lanes.get(index))) {
            (Reason::Weight, Some(tally)) => tally.add(),
            (Reason::Fallback, _) => self.fallback.add(),
            _ => self.base.add(),
        }
        assigned
    }

    /// Returns the number of assignments by this document, the base lane last.
    pub(super) fn observed(&self) -> Vec<LaneCount> {
        let lanes =
            self.document.lanes.iter().zip(&self.lanes).map(|(lane, tally)| (&lane.name, tally.since()));
        let base = (&self.document.base, self.base.since() + self.fallback.since());
        lanes.chain([base]).map(|(lane, count)| LaneCount { lane: lane.clone(), count }).collect()
    }
}

/// Returns the lane of a unit, and the position of the lane of its bucket. `serves` returns whether a lane has a
/// living worker; it is called only when the document falls back to the base.
pub(super) fn decide(
    document: &RolloutSpec,
    unit: RoutingKey<'_>,
    serves: impl FnOnce(&str) -> bool,
) -> (LaneAssignment, Option<usize>) {
    let bucket = unit.bucket(&document.salt);
    let place = document.place(bucket);
    let lane = document.lane(place);
    let (lane, reason) = match place {
        None => (lane, Reason::Base),
        Some(_) if document.fallback == Fallback::Base && !serves(lane) => {
            (&*document.base, Reason::Fallback)
        }
        Some(_) => (lane, Reason::Weight),
    };
    (LaneAssignment { lane: lane.to_owned(), reason, bucket, revision: document.rev }, place)
}

#[cfg(test)]
mod tests {
    use super::super::spec::LaneSpec;
    use super::super::weight::Weight;
    use super::*;

    fn document(canary: u16, fallback: Fallback) -> RolloutSpec {
        let lane = LaneSpec { name: "canary".into(), weight: Weight::of_buckets(canary).unwrap() };
        RolloutSpec { rev: 1, lanes: vec![lane], fallback, ..RolloutSpec::unwritten("p") }
    }

    #[test]
    fn work_falls_back_only_where_the_document_says_so_and_nobody_serves_its_lane() {
        let assigned = |canary, fallback, serves| {
            let (assigned, _) = decide(&document(canary, fallback), RoutingKey::User("ann"), |lane| {
                assert_eq!(lane, "canary", "the base has nothing to fall back to");
                serves
            });
            (assigned.lane, assigned.reason)
        };
        let canary = ("canary".to_owned(), Reason::Weight);
        assert_eq!(assigned(10_000, Fallback::None, false), canary, "a canary that is not there shows");
        assert_eq!(assigned(10_000, Fallback::Base, true), canary);
        assert_eq!(assigned(10_000, Fallback::Base, false), ("stable".to_owned(), Reason::Fallback));
        assert_eq!(assigned(0, Fallback::Base, false), ("stable".to_owned(), Reason::Base));
    }

    #[test]
    fn a_new_revision_counts_from_nothing_and_the_totals_go_on() {
        let counts = AssignmentCounts::default();
        let split = ActiveRollout::new(document(10_000, Fallback::Base), &counts);
        for serves in [true, true, false] {
            split.assign(RoutingKey::User("ann"), |_| serves);
        }
        let observed =
            |split: &ActiveRollout| split.observed().into_iter().map(|lane| lane.count).collect::<Vec<_>>();
        assert_eq!(observed(&split), [2, 1]);
        let next = ActiveRollout::new(document(0, Fallback::Base), &counts);
        next.assign(RoutingKey::User("ann"), |_| true);
        assert_eq!(observed(&next), [0, 1]);
        let totals: Vec<_> =
            counts.list().into_iter().map(|(_, lane, reason, count)| (lane, reason.text(), count)).collect();
        let row = |lane: &str, reason, count| (lane.to_owned(), reason, count);
        assert_eq!(
            totals,
            [row("canary", "weight", 2), row("stable", "base", 1), row("stable", "fallback", 1)]
        );
    }
}
