//! A document that this process applies, and the number of assignments by it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::admission::{PoolAdmissions, bounded};
use super::enrolment::Enrolment;
use super::lane::RoutingKey;
use super::latch::ClosedLanes;
use super::spec::{Fallback, RolloutSpec};
use crate::wire::LaneCount;

/// Reason why a unit is in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its lane is taken back by an abort, which may not be in the document yet.
    Abort,
    /// It has a lane of its own.
    Override,
    /// The page of the call keeps the lane.
    Pin,
    /// A rule sends it to the lane.
    Targeting,
    /// A page of the user has chosen the lane.
    Choice,
    /// The user stays in the lane until its rollout ends.
    Latched,
    /// Its bucket belongs to the lane.
    Weight,
    /// Its bucket belongs to a lane that has as many users as it may.
    Full,
    /// Its bucket belongs to a lane with a limit on its users, to which it is not admitted.
    NotAdmitted,
    /// Its bucket belongs to no other lane.
    Base,
    /// Its lane has no living workers.
    Fallback,
}

impl Reason {
    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Override => "override",
            Self::Pin => "pin",
            Self::Targeting => "targeting",
            Self::Choice => "choice",
            Self::Latched => "latched",
            Self::Weight => "weight",
            Self::Full => "full",
            Self::NotAdmitted => "not_admitted",
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
    /// Whether it is the base lane.
    pub is_base: bool,
    /// Reason for the lane.
    pub reason: Reason,
    /// Bucket of the unit.
    pub bucket: u16,
    /// Revision that decided it; 0 for a pool without a document.
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
#[derive(Debug, Clone)]
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

/// A document with the lanes that latches close, and the number of assignments by it.
#[derive(Debug)]
pub(super) struct ActiveRollout {
    pub(super) document: RolloutSpec,
    pub(super) closed: ClosedLanes,
    counters: Vec<LaneCounter>,
}

/// The number of assignments to one lane for one reason.
#[derive(Debug, Clone)]
struct LaneCounter {
    lane: String,
    reason: Reason,
    count: AssignmentCounter,
}

impl ActiveRollout {
    pub(super) fn new(document: RolloutSpec, counts: &AssignmentCounts) -> Self {
        let counter = |lane: &str, reason| {
            let count = counts.tally(&document.pool, lane, reason);
            LaneCounter { lane: lane.to_owned(), reason, count }
        };
        let lanes = document.lanes.iter().flat_map(|lane| {
            let overridden = (document.overridden(&lane.name) > 0).then_some(Reason::Override);
            let targeted = (document.targeted(&lane.name) > 0).then_some(Reason::Targeting);
            let enrolled = (!document.enrolment.is_unused()).then_some([Reason::Choice, Reason::Latched]);
            let enrolled = enrolled.into_iter().flatten().map(Some);
            let reasons =
                [Some(Reason::Weight), Some(Reason::Pin), overridden, targeted].into_iter().chain(enrolled);
            reasons.flatten().map(|reason| counter(&lane.name, reason)).collect::<Vec<_>>()
        });
        let overridden = (document.overridden(&document.base) > 0).then_some(Reason::Override);
        let targeted = (document.targeted(&document.base) > 0).then_some(Reason::Targeting);
        let chosen = document.enrolment.self_service.then_some(Reason::Choice);
        let is_limited = document.user_limits().next().is_some();
        let limited = [Reason::Full, Reason::NotAdmitted].into_iter().filter(|_| is_limited).map(Some);
        let base =
            [Some(Reason::Base), Some(Reason::Pin), Some(Reason::Fallback), overridden, targeted, chosen];
        let base = base.into_iter().chain(limited).flatten();
        let base = base.map(|reason| counter(&document.base, reason));
        Self { counters: lanes.chain(base).collect(), closed: ClosedLanes::new(), document }
    }

    /// Returns the same document with these lanes closed. Its counts go on.
    pub(super) fn closing(&self, closed: ClosedLanes, counts: &AssignmentCounts) -> Self {
        let (document, mut counters) = (self.document.clone(), self.counters.clone());
        if !closed.is_empty() && counters.iter().all(|counter| counter.reason != Reason::Abort) {
            let count = counts.tally(&document.pool, &document.base, Reason::Abort);
            counters.push(LaneCounter { lane: document.base.clone(), reason: Reason::Abort, count });
        }
        Self { document, closed, counters }
    }

    /// Returns what decides the lane of a unit.
    pub(super) fn inputs<'a>(&'a self, enrolment: Option<&'a Enrolment>) -> LaneInputs<'a> {
        LaneInputs { closed: &self.closed, enrolment, ..LaneInputs::of(&self.document) }
    }

    /// Counts an assignment by this document.
    pub(super) fn count(&self, assigned: LaneAssignment) -> LaneAssignment {
        let counter = self.counters.iter();
        let mut counter = counter.filter(|of| of.reason == assigned.reason && of.lane == assigned.lane);
        if let Some(counter) = counter.next() {
            counter.count.add();
        }
        assigned
    }

    /// Returns the number of assignments by this document, the base lane last.
    pub(super) fn observed(&self) -> Vec<LaneCount> {
        let names = self.document.lanes.iter().map(|lane| &lane.name).chain([&self.document.base]);
        let count = |lane: &String| {
            let own = self.counters.iter().filter(|counter| counter.lane == *lane);
            LaneCount { lane: lane.clone(), count: own.map(|counter| counter.count.since()).sum() }
        };
        names.map(count).collect()
    }
}

/// What decides the lane of a unit: nothing else does.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneInputs<'a> {
    pub(super) document: &'a RolloutSpec,
    /// Lanes that are taken back although the document gives them users.
    pub(super) closed: &'a ClosedLanes,
    /// What is remembered of the unit.
    pub(super) enrolment: Option<&'a Enrolment>,
    /// Who is admitted to the lanes of the pool that have a limit on their users.
    pub(super) admitted: &'a PoolAdmissions,
}

static NONE: ClosedLanes = ClosedLanes::new();
static NOBODY: PoolAdmissions = PoolAdmissions::new();

impl<'a> LaneInputs<'a> {
    /// Returns the inputs for a document by itself.
    pub(super) fn of(document: &'a RolloutSpec) -> Self {
        Self { document, closed: &NONE, enrolment: None, admitted: &NOBODY }
    }
}

/// Returns the lane of a unit: that of an override, else that of the first rule that it meets, else the one that it has chosen or
/// stays in, else that of its bucket if it is admitted there; the base if that lane is closed. `serves` returns whether a lane has a
/// living worker; it is called only when the document falls back to the base.
pub(super) fn decide(
    inputs: LaneInputs<'_>,
    unit: RoutingKey<'_>,
    serves: impl FnOnce(&str) -> bool,
) -> LaneAssignment {
    let LaneInputs { document, enrolment, .. } = inputs;
    let bucket = unit.bucket(&document.salt);
    let matches = enrolment.map(|enrolment| &enrolment.matches);
    let chosen = if let Some(lane) = own_lane(document, unit) {
        (lane, Reason::Override)
    } else if let Some(lane) = document.target(unit, matches) {
        (lane, Reason::Targeting)
    } else {
        let place = document.place(bucket);
        let by_hash = document.lane(place);
        let reason = if place.is_none() { Reason::Base } else { Reason::Weight };
        inputs.enrolled(unit, by_hash).unwrap_or((by_hash, reason))
    };
    bounded(inputs, unit, settle(inputs, chosen, bucket, serves))
}

/// Returns the lane that a user has as its own.
pub(super) fn own_lane<'a>(document: &'a RolloutSpec, unit: RoutingKey<'_>) -> Option<&'a str> {
    match unit {
        RoutingKey::User(user) => document.overrides.get(user).map(String::as_str),
        RoutingKey::Connection(_) => None,
    }
}

/// Returns the assignment to a lane; to the base lane if that lane is closed, or has no living workers and the document falls
/// back.
pub(super) fn settle(
    LaneInputs { document, closed, .. }: LaneInputs<'_>,
    (lane, reason): (&str, Reason),
    bucket: u16,
    serves: impl FnOnce(&str) -> bool,
) -> LaneAssignment {
    if let Some(revision) = closed.get(lane) {
        let (lane, revision) = (document.base.clone(), document.rev.max(*revision));
        return LaneAssignment { lane, is_base: true, reason: Reason::Abort, bucket, revision };
    }
    let falls_back = lane != document.base && document.fallback == Fallback::Base && !serves(lane);
    let (lane, reason) = if falls_back { (&*document.base, Reason::Fallback) } else { (lane, reason) };
    let is_base = lane == document.base;
    LaneAssignment { lane: lane.to_owned(), is_base, reason, bucket, revision: document.rev }
}

#[cfg(test)]
mod tests {
    use super::super::spec::LaneSpec;
    use super::super::weight::Weight;
    use super::*;

    fn document(canary: u16, fallback: Fallback) -> RolloutSpec {
        let lane = LaneSpec::new("canary", Weight::of_buckets(canary).unwrap());
        RolloutSpec { rev: 1, lanes: vec![lane], fallback, ..RolloutSpec::unwritten("p") }
    }

    #[test]
    fn work_falls_back_only_where_the_document_says_so_and_nobody_serves_its_lane() {
        let assigned = |canary, fallback, serves| {
            let assigned =
                decide(LaneInputs::of(&document(canary, fallback)), RoutingKey::User("ann"), |lane| {
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
    fn a_lane_of_its_own_comes_before_the_bucket_of_a_user_and_falls_back_as_well() {
        let overrides = [("ann".to_owned(), "canary".to_owned()), ("bob".to_owned(), "stable".to_owned())];
        let assigned = |canary, fallback, user: &str, serves| {
            let document = RolloutSpec { overrides: overrides.clone().into(), ..document(canary, fallback) };
            let assigned = decide(LaneInputs::of(&document), RoutingKey::User(user), |_| serves);
            (assigned.lane, assigned.reason.text())
        };
        let lane = |name: &str, reason| (name.to_owned(), reason);
        assert_eq!(assigned(0, Fallback::None, "ann", false), lane("canary", "override"), "a preview at 0 %");
        assert_eq!(assigned(10_000, Fallback::None, "bob", true), lane("stable", "override"));
        assert_eq!(assigned(10_000, Fallback::None, "eve", true), lane("canary", "weight"));
        assert_eq!(assigned(0, Fallback::Base, "ann", false), lane("stable", "fallback"));
        let document = RolloutSpec { overrides: overrides.clone().into(), ..document(0, Fallback::None) };
        let active = ActiveRollout::new(document, &AssignmentCounts::default());
        for user in ["ann", "bob", "eve"] {
            active.count(decide(active.inputs(None), RoutingKey::User(user), |_| true));
        }
        let observed: Vec<_> = active.observed().into_iter().map(|lane| (lane.lane, lane.count)).collect();
        assert_eq!(observed, [("canary".to_owned(), 1), ("stable".to_owned(), 2)]);
    }

    #[test]
    fn a_new_revision_counts_from_nothing_and_the_totals_go_on() {
        let counts = AssignmentCounts::default();
        let split = ActiveRollout::new(document(10_000, Fallback::Base), &counts);
        for serves in [true, true, false] {
            split.count(decide(split.inputs(None), RoutingKey::User("ann"), |_| serves));
        }
        let observed =
            |split: &ActiveRollout| split.observed().into_iter().map(|lane| lane.count).collect::<Vec<_>>();
        assert_eq!(observed(&split), [2, 1]);
        let next = ActiveRollout::new(document(0, Fallback::Base), &counts);
        next.count(decide(next.inputs(None), RoutingKey::User("ann"), |_| true));
        assert_eq!(observed(&next), [0, 1]);
        let totals: Vec<_> =
            counts.list().into_iter().map(|(_, lane, reason, count)| (lane, reason.text(), count)).collect();
        let row = |lane: &str, reason, count| (lane.to_owned(), reason, count);
        assert_eq!(
            totals,
            [
                row("canary", "pin", 0),
                row("canary", "weight", 2),
                row("stable", "pin", 0),
                row("stable", "base", 1),
                row("stable", "fallback", 1)
            ]
        );
    }

    #[test]
    fn an_abort_that_is_no_revision_yet_comes_before_everything_and_keeps_the_counts() {
        let overrides = [("ann".to_owned(), "canary".to_owned())];
        let counts = AssignmentCounts::default();
        let document = RolloutSpec { overrides: overrides.into(), ..document(10_000, Fallback::Base) };
        let before = ActiveRollout::new(document, &counts);
        before.count(decide(before.inputs(None), RoutingKey::User("eve"), |_| true));
        let after = before.closing(ClosedLanes::from([("canary".to_owned(), 4)]), &counts);
        for user in ["ann", "eve"] {
            let assigned = after
                .count(decide(after.inputs(None), RoutingKey::User(user), |_| panic!("the base is served")));
            assert_eq!((&*assigned.lane, assigned.reason.text(), assigned.revision), ("stable", "abort", 4));
        }
        let observed: Vec<_> = after.observed().into_iter().map(|lane| lane.count).collect();
        assert_eq!(observed, [1, 2]);
    }
}
