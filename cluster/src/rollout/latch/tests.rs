use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::active::{LaneInputs, Reason, decide};
use super::super::lane::RoutingKey;
use super::super::spec::{Fallback, LaneSpec};
use super::super::weight::Weight;
use super::*;

const LANES: [&str; 2] = ["canary", "beta"];

fn document(rev: u64, origin: &str, weights: [u16; 2]) -> RolloutSpec {
    let lane = |(name, buckets): (&str, u16)| LaneSpec::new(name, Weight::of_buckets(buckets).unwrap());
    RolloutSpec {
        rev,
        origin: origin.into(),
        lanes: LANES.into_iter().zip(weights).map(lane).collect(),
        overrides: [("ann".to_owned(), "canary".to_owned()), ("bob".to_owned(), "beta".to_owned())].into(),
        ..RolloutSpec::unwritten("p")
    }
}

fn latch(lane: &str, revision: u64, origin: &str) -> HeldLatch {
    let latch = AbortLatch {
        pool: "p".into(),
        lane: lane.into(),
        revision,
        origin: origin.into(),
        by: "ann".into(),
        comment: String::new(),
    };
    HeldLatch { signed: SignedLatch::new(&latch, |_| String::new()), latch }
}

#[test]
fn a_latch_holds_up_to_its_revision_and_the_next_one_ends_it() {
    let mut latches = LatchSet::default();
    assert_eq!(latches.hold(latch("canary", 3, "o"), None), Holding::Foreign);
    let third = document(3, "o", [1000, 0]);
    assert_eq!(
        latches.hold(latch("canary", 2, "o"), Some(&third)),
        Holding::Passed,
        "an old one, sent again"
    );
    assert_eq!(latches.hold(latch("canary", 3, "o"), Some(&third)), Holding::New);
    assert_eq!(latches.hold(latch("canary", 3, "o"), Some(&third)), Holding::Known);
    assert_eq!(latches.closed(&third), ClosedLanes::from([("canary".to_owned(), 3)]));
    latches.apply(&RolloutSpec { rev: 9, ..RolloutSpec::unwritten("another pool") });
    assert_eq!(latches.list().len(), 1);
    latches.apply(&document(4, "o", [1000, 0]));
    assert!(latches.list().is_empty());
}

#[test]
fn a_latch_means_one_document_although_another_one_may_reach_the_same_revision() {
    let mut latches = LatchSet::default();
    let again = document(1, "a bucket that was created again", [1000, 0]);
    assert_eq!(latches.hold(latch("canary", 40, "o"), Some(&again)), Holding::Foreign);
    assert_eq!(latches.hold(latch("canary", 40, "o"), Some(&document(1, "o", [1000, 0]))), Holding::New);
    latches.apply(&again);
    assert!(latches.list().is_empty());
}

#[test]
fn the_base_lane_stays_open() {
    let mut latches = LatchSet::default();
    let switched = RolloutSpec { base: "canary".into(), lanes: Vec::new(), ..document(2, "o", [0, 0]) };
    assert_eq!(latches.hold(latch("canary", 3, "o"), Some(&switched)), Holding::New, "its process is behind");
    assert!(latches.closed(&switched).is_empty());
}

#[test]
fn a_process_holds_so_many_and_a_later_revision_replaces_one() {
    let mut latches = LatchSet::default();
    let document = document(1, "o", [0, 0]);
    for lane in 0..MAX_LATCHES {
        assert_eq!(latches.hold(latch(&lane.to_string(), 1, "o"), Some(&document)), Holding::New);
    }
    assert_eq!(latches.hold(latch("one more", 1, "o"), Some(&document)), Holding::Full);
    assert_eq!(latches.hold(latch("0", 2, "o"), Some(&document)), Holding::New);
    assert_eq!(latches.list().len(), MAX_LATCHES);
}

/// What a process receives.
#[derive(Debug, Clone)]
enum Received {
    Latch(usize, u64),
    Document([u16; 2]),
}

fn received() -> impl Strategy<Value = Vec<Received>> {
    let latch = (0..2usize, 1..8u64).prop_map(|(lane, revision)| Received::Latch(lane, revision));
    let weights = [0..=5000u16, 0..=5000u16].prop_map(Received::Document);
    prop::collection::vec(prop_oneof![latch, weights], 0..24)
}

proptest! {
    /// For latches and documents in any order, any number of times: exactly the lanes with a latch of the present revision
    /// or a later one are closed, and closing one moves its users to the base and moves nobody else.
    #[test]
    fn latches_only_take_users_back_and_a_later_revision_ends_them(received in received(), user in "[a-z]{1,6}") {
        let mut latches = LatchSet::default();
        let mut present = document(1, "o", [3000, 3000]);
        // what has arrived and was valid then
        let mut arrived: BTreeSet<(usize, u64)> = BTreeSet::new();
        for received in received {
            match received {
                Received::Latch(lane, revision) => {
                    let holding = latches.hold(latch(LANES[lane], revision, "o"), Some(&present));
                    prop_assert_eq!(holding == Holding::Passed, revision < present.rev);
                    if revision >= present.rev {
                        arrived.insert((lane, revision));
                    }
                }
                Received::Document(weights) => {
                    present = document(present.rev + 1, "o", weights);
                    latches.apply(&present);
                    // the watch delivers the same document again after a reconnect
                    latches.apply(&present);
                }
            }
            let closed = latches.closed(&present);
            let expected: BTreeSet<&str> =
                arrived.iter().filter(|(_, revision)| *revision >= present.rev).map(|(lane, _)| LANES[*lane]).collect();
            prop_assert_eq!(closed.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
            for user in [user.as_str(), "ann", "bob"] {
                for fallback in [Fallback::None, Fallback::Base] {
                    let document = RolloutSpec { fallback, ..present.clone() };
                    let unit = RoutingKey::User(user);
                    let without = decide(LaneInputs::of(&document), unit, |_| true);
                    let with = decide(LaneInputs { closed: &closed, ..LaneInputs::of(&document) }, unit, |_| true);
                    match closed.get(&without.lane) {
                        Some(revision) => {
                            prop_assert_eq!((with.lane.as_str(), with.reason), ("stable", Reason::Abort));
                            prop_assert_eq!(with.revision, *revision);
                        }
                        None => prop_assert_eq!(with, without),
                    }
                }
            }
        }
    }

    /// Processes that have received the same latches and documents hold the same, in whatever order each came.
    #[test]
    fn the_order_in_which_latches_arrive_does_not_matter(
        latches_sent in prop::collection::vec((0..2usize, 1..8u64), 0..12),
        revisions in prop::collection::btree_set(1..8u64, 1..4),
        seed in any::<prop::sample::Index>(),
    ) {
        let last = document(*revisions.last().unwrap(), "o", [100, 100]);
        // the documents are already there
        let mut late = LatchSet::default();
        for (lane, revision) in &latches_sent {
            late.hold(latch(LANES[*lane], *revision, "o"), Some(&last));
        }
        // the documents come between the latches, and the latches come in another order and twice
        let mut early = LatchSet::default();
        let mut order = latches_sent.clone();
        let middle = seed.index(order.len() + 1);
        order.rotate_left(middle);
        let mut present = document(1, "o", [100, 100]);
        let mut documents = revisions.iter();
        for (lane, revision) in order.iter().rev().chain(&order) {
            early.hold(latch(LANES[*lane], *revision, "o"), Some(&present));
            if let Some(next) = documents.next() {
                present = document(*next, "o", [100, 100]);
                early.apply(&present);
            }
        }
        early.apply(&last);
        for (lane, revision) in &latches_sent {
            early.hold(latch(LANES[*lane], *revision, "o"), Some(&last));
        }
        prop_assert_eq!(early.closed(&last), late.closed(&last));
    }
}
