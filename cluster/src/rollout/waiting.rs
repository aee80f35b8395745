//! Work that waits while the rollout of its pool changes.
//!
//! Owns: whether such work moves to another lane. Never: the move itself.

use super::Rollouts;
use super::active::{LaneInputs, Reason, decide};
use super::lane::RoutingKey;
use super::latch::ClosedLanes;
use super::spec::RolloutSpec;

/// Work that waits for a worker.
#[derive(Debug, Clone, Copy)]
pub struct WaitingWork<'a> {
    /// The entity that stays in one lane.
    pub unit: RoutingKey<'a>,
    /// Lane in which the work waits.
    pub lane: &'a str,
    /// Revision of the rollout that decided this lane.
    pub revision: u64,
    /// Whether an attempt has begun: such work stays in its lane until the lane is taken back.
    pub began: bool,
}

/// The lane to which waiting work moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneMove {
    /// Name of the lane.
    pub lane: String,
    /// Revision of the rollout that decides it.
    pub revision: u64,
}

impl Rollouts {
    /// Returns the lane to which work that waits moves by the rollout that this process has applied; `None` if it
    /// stays. Only a process with a later revision than the one that decided the lane moves the work again, or one that
    /// holds a latch of that revision or a later one, so that two processes do not send it to and fro. `serves` returns whether a lane has a living worker.
    pub fn move_of(
        &self,
        pool: &str,
        work: WaitingWork<'_>,
        serves: impl Fn(&str) -> bool,
    ) -> Option<LaneMove> {
        self.with_inputs(pool, work.unit, |_, inputs| move_by(inputs, work, serves))
    }

    /// Returns whether a lane of a pool gets new work.
    pub fn is_open(&self, pool: &str, lane: &str) -> bool {
        match self.split(pool) {
            Some(split) => is_open(&split.document, &split.closed, lane),
            None => is_open(&RolloutSpec::unwritten(pool), &ClosedLanes::new(), lane),
        }
    }

    /// Returns the revision of a pool's rollout that gives a lane no work; `None` if the lane gets work. Without a
    /// rollout only the base lane gets work.
    pub fn closed_by(&self, pool: &str, lane: &str) -> Option<u64> {
        (!self.is_open(pool, lane)).then(|| self.revision(pool))
    }

    /// Returns the base lane of a pool.
    pub fn base_of(&self, pool: &str) -> String {
        self.split(pool).map_or_else(|| super::BASE.to_owned(), |split| split.document.base.clone())
    }
}

fn move_by(inputs: LaneInputs<'_>, work: WaitingWork<'_>, serves: impl Fn(&str) -> bool) -> Option<LaneMove> {
    let LaneInputs { document, closed, .. } = inputs;
    let assigned = decide(inputs, work.unit, &serves);
    // a later revision than the latch has given the lane this work
    let latched = closed.get(work.lane).copied().filter(|revision| work.revision <= *revision);
    let falls_back = assigned.reason == Reason::Fallback && !serves(work.lane);
    if document.rev <= work.revision && !falls_back && latched.is_none() {
        return None;
    }
    let lane = match work.began {
        true if is_open(document, closed, work.lane) && !falls_back => return None,
        true => document.base.clone(),
        false => assigned.lane,
    };
    let revision = document.rev.max(work.revision).max(latched.unwrap_or_default());
    (lane != work.lane).then_some(LaneMove { lane, revision })
}

/// Returns whether a lane gets new work.
pub(super) fn is_open(document: &RolloutSpec, closed: &ClosedLanes, lane: &str) -> bool {
    let is_used = document.weight(lane).buckets() > 0
        || document.overridden(lane) > 0
        || document.targeted(lane) > 0
        || (document.enrolment.self_service && document.enrolment.started.contains_key(lane));
    lane == document.base || (is_used && !closed.contains_key(lane))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::{Fallback, LaneSpec};
    use super::super::weight::Weight;
    use super::*;

    fn document(rev: u64, canary: u16, fallback: Fallback) -> RolloutSpec {
        let lane = LaneSpec::new("canary", Weight::of_buckets(canary).unwrap());
        RolloutSpec { rev, lanes: vec![lane], fallback, ..RolloutSpec::unwritten("p") }
    }

    fn work(lane: &str, revision: u64, began: bool) -> WaitingWork<'_> {
        WaitingWork { unit: RoutingKey::User("ann"), lane, revision, began }
    }

    fn to(lane: &str, revision: u64) -> Option<LaneMove> {
        Some(LaneMove { lane: lane.into(), revision })
    }

    #[test]
    fn a_lane_that_is_taken_back_gives_its_waiting_work_and_its_retries_to_the_base() {
        let back = document(2, 0, Fallback::None);
        assert_eq!(move_by(LaneInputs::of(&back), work("canary", 1, false), |_| true), to("stable", 2));
        assert_eq!(move_by(LaneInputs::of(&back), work("canary", 1, true), |_| true), to("stable", 2));
        assert_eq!(
            move_by(LaneInputs::of(&back), work("canary", 2, true), |_| true),
            None,
            "an operator has sent it there"
        );
        assert_eq!(move_by(LaneInputs::of(&back), work("gone", 1, true), |_| true), to("stable", 2));
    }

    #[test]
    fn work_that_never_began_follows_its_user_and_work_that_began_stays() {
        let grown = document(2, 10_000, Fallback::None);
        assert_eq!(move_by(LaneInputs::of(&grown), work("stable", 1, false), |_| true), to("canary", 2));
        assert_eq!(move_by(LaneInputs::of(&grown), work("stable", 1, true), |_| true), None);
        assert_eq!(move_by(LaneInputs::of(&grown), work("canary", 1, true), |_| true), None);
        assert_eq!(move_by(LaneInputs::of(&grown), work("stable", 2, false), |_| true), None);
        assert_eq!(
            move_by(LaneInputs::of(&grown), work("stable", 3, false), |_| true),
            None,
            "this process is behind"
        );
    }

    #[test]
    fn work_falls_back_from_a_lane_without_workers_only_where_the_document_says_so() {
        let stands = |lane: &str| lane == "stable";
        let fallback = document(1, 10_000, Fallback::Base);
        assert_eq!(move_by(LaneInputs::of(&fallback), work("canary", 1, false), stands), to("stable", 1));
        assert_eq!(move_by(LaneInputs::of(&fallback), work("canary", 1, true), stands), to("stable", 1));
        assert_eq!(
            move_by(LaneInputs::of(&fallback), work("stable", 1, false), |_| true),
            None,
            "it does not move back"
        );
        let strict = document(1, 10_000, Fallback::None);
        assert_eq!(move_by(LaneInputs::of(&strict), work("canary", 1, false), stands), None);
    }

    #[test]
    fn a_latch_moves_what_waits_and_what_is_retried_once_and_not_what_a_later_revision_has_decided() {
        let closed = ClosedLanes::from([("canary".to_owned(), 3)]);
        // a process that is behind the latch and one that is not
        for document in [document(2, 10_000, Fallback::None), document(3, 10_000, Fallback::None)] {
            for began in [false, true] {
                for decided in [1, 3] {
                    let moved = move_by(
                        LaneInputs { closed: &closed, ..LaneInputs::of(&document) },
                        work("canary", decided, began),
                        |_| true,
                    );
                    assert_eq!(moved, to("stable", 3));
                }
                let later = move_by(
                    LaneInputs { closed: &closed, ..LaneInputs::of(&document) },
                    work("canary", 4, began),
                    |_| true,
                );
                assert_eq!(later, None, "this process is behind a later rollout");
                let back = move_by(LaneInputs::of(&document), work("stable", 3, began), |_| true);
                assert_eq!(back, None, "a process without the latch does not send it back");
            }
        }
        let aborted = document(4, 0, Fallback::None);
        assert_eq!(move_by(LaneInputs::of(&aborted), work("stable", 3, false), |_| true), None);
        assert!(!is_open(&document(3, 10_000, Fallback::None), &closed, "canary"));
        assert!(is_open(&document(3, 10_000, Fallback::None), &closed, "stable"));
    }

    proptest! {
        /// Processes at any revisions move the work in any order; each move needs a later revision, so there is an end.
        #[test]
        fn work_is_not_sent_to_and_fro(seen in prop::collection::vec((1u64..6, 0usize..3), 0..60)) {
            let weights = [0u16, 10_000, 0, 10_000, 0, 10_000];
            let (mut lane, mut revision, mut moves) = ("stable".to_owned(), 0, 0);
            for (rev, _) in seen {
                let document = document(rev, weights[rev as usize], Fallback::None);
                if let Some(moved) = move_by(LaneInputs::of(&document), work(&lane, revision, false), |_| true) {
                    prop_assert!(moved.revision > revision);
                    (lane, revision, moves) = (moved.lane, moved.revision, moves + 1);
                }
            }
            prop_assert!(moves <= 5);
        }
    }
}
