//! The rules of a lease, and the property that they exist for.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::timing::Timing;

const FENCE: Duration = Timing::PRODUCTION.lease_fence;
const TTL: Duration = Timing::PRODUCTION.lease_ttl;

fn op(number: u128) -> OperationId {
    OperationId(number.to_be_bytes())
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn terms(resumes: bool) -> LeaseTerms {
    LeaseTerms { fence: FENCE, resumes }
}

/// A lease that was claimed at second 1 with revision 10.
fn held(resumes: bool) -> LeaseModel<u8> {
    let mut lease = LeaseModel::new(terms(resumes));
    lease.settle(lease.claim(1, Precondition::Absent, seconds(1), op(1)), LeaseAnswer::Written(10));
    lease
}

#[test]
fn a_renewal_keeps_the_epoch_and_moves_the_fence() {
    let mut lease = held(false);
    let renewal = lease.renewal(seconds(5), op(2)).unwrap();
    assert_eq!((renewal.expect, renewal.epoch), (Precondition::Rev(10), Some(10)));
    lease.settle(renewal, LeaseAnswer::Written(11));
    let expected = HeldLease { slot: 1, epoch: 10, rev: 11, fenced_at: seconds(5) + FENCE };
    assert_eq!(lease.held(), Some(expected));
}

#[test]
fn a_renewal_whose_answer_was_lost_is_found_and_counts_from_its_sending() {
    let mut lease = held(false);
    let first = lease.renewal(seconds(5), op(2)).unwrap();
    lease.settle(first, LeaseAnswer::Unknown);
    assert_eq!(lease.held().unwrap().fenced_at, seconds(1) + FENCE, "an unknown outcome moves no fence");
    // the first one was stored, so the next one is refused
    let second = lease.renewal(seconds(9), op(3)).unwrap();
    let found = FoundLease { rev: 11, epoch: 10, op: op(2) };
    lease.settle(second, LeaseAnswer::Found(Some(found)));
    let expected = HeldLease { slot: 1, epoch: 10, rev: 11, fenced_at: seconds(5) + FENCE };
    assert_eq!(lease.held(), Some(expected));
}

#[test]
fn a_claim_whose_answer_was_lost_is_found_and_counts_from_the_first_sending() {
    let mut lease = LeaseModel::new(terms(true));
    lease.settle(lease.claim(1, Precondition::Absent, seconds(1), op(1)), LeaseAnswer::Unknown);
    let again = lease.claim(1, Precondition::Absent, seconds(4), op(2));
    assert_eq!(again.op, op(1));
    lease.settle(again, LeaseAnswer::Unknown);
    let found = FoundLease { rev: 7, epoch: 7, op: op(1) };
    lease.settle(again, LeaseAnswer::Found(Some(found)));
    let expected = HeldLease { slot: 1, epoch: 7, rev: 7, fenced_at: seconds(1) + FENCE };
    assert_eq!(lease.held(), Some(expected));
}

#[test]
fn a_row_that_an_earlier_write_stored_does_not_move_the_fence() {
    let mut lease = held(true);
    for (at, number) in [(5, 2), (9, 3)] {
        lease.settle(lease.renewal(seconds(at), op(number)).unwrap(), LeaseAnswer::Unknown);
    }
    // the first of both was stored, and nothing tells how long after its sending
    let third = lease.renewal(seconds(13), op(4)).unwrap();
    let found = FoundLease { rev: 11, epoch: 10, op: op(2) };
    lease.settle(third, LeaseAnswer::Found(Some(found)));
    let expected = HeldLease { slot: 1, epoch: 10, rev: 11, fenced_at: seconds(1) + FENCE };
    assert_eq!(lease.held(), Some(expected));
}

#[test]
fn the_row_of_another_process_or_no_row_ends_a_lease() {
    for found in [None, Some(FoundLease { rev: 12, epoch: 12, op: op(9) })] {
        let mut lease = held(true);
        let renewal = lease.renewal(seconds(5), op(2)).unwrap();
        lease.settle(renewal, LeaseAnswer::Found(found));
        assert_eq!((lease.held(), lease.last()), (None, Some(1)));
    }
}

#[test]
fn a_holder_that_has_lapsed_keeps_its_epoch_only_where_the_terms_say_so() {
    let late = seconds(2) + FENCE;
    for (resumes, epoch) in [(true, Some(10)), (false, None)] {
        let lease = held(resumes);
        assert_eq!(lease.holding(late), None);
        let write = lease.renewal(late, op(2)).unwrap();
        assert_eq!((write.expect, write.epoch), (Precondition::Rev(10), epoch));
    }
}

/// A model of the engine: one row per slot, which expires after the engine stored it.
#[derive(Default)]
struct Rows {
    rows: HashMap<u8, (FoundLease, Duration)>,
    last_rev: u64,
}

impl Rows {
    fn apply(&mut self, write: LeaseWrite<u8>, now: Duration) -> Option<u64> {
        let actual = self.get(write.slot, now).map(|row| row.rev);
        let holds = match write.expect {
            Precondition::Any => true,
            Precondition::Absent => actual.is_none(),
            Precondition::Rev(rev) => actual == Some(rev),
        };
        holds.then(|| {
            self.last_rev += 1;
            let epoch = write.epoch.unwrap_or(self.last_rev);
            let row = FoundLease { rev: self.last_rev, epoch, op: write.op };
            self.rows.insert(write.slot, (row, now + TTL));
            self.last_rev
        })
    }

    fn get(&mut self, slot: u8, now: Duration) -> Option<FoundLease> {
        self.rows.retain(|_, (_, expires)| *expires > now);
        self.rows.get(&slot).map(|(row, _)| *row)
    }
}

/// A model of one process: its lease, its writes in transit, and the write whose answer it waits for.
struct Process {
    lease: LeaseModel<u8>,
    travelling: Vec<LeaseWrite<u8>>,
    waiting: Option<LeaseWrite<u8>>,
    answer: Option<Option<u64>>,
    asked: Option<LeaseWrite<u8>>,
}

impl Process {
    fn new(resumes: bool) -> Self {
        let lease = LeaseModel::new(terms(resumes));
        Self { lease, travelling: Vec::new(), waiting: None, answer: None, asked: None }
    }

    /// Sends a renewal, or the claim of the first free slot.
    fn send(&mut self, rows: &mut Rows, now: Duration, op: OperationId) {
        let write = self.lease.renewal(now, op).or_else(|| {
            let free = (1..=2).find(|slot| rows.get(*slot, now).is_none())?;
            Some(self.lease.claim(free, Precondition::Absent, now, op))
        });
        self.travelling.extend(write);
        (self.waiting, self.answer, self.asked) = (write, None, None);
    }

    /// One of its writes in transit reaches the engine, perhaps long after the process has given it up.
    fn arrive(&mut self, rows: &mut Rows, now: Duration, which: usize) {
        if self.travelling.is_empty() {
            return;
        }
        let write = self.travelling.remove(which % self.travelling.len());
        let written = rows.apply(write, now);
        if self.waiting == Some(write) {
            self.answer = Some(written);
        }
    }

    /// The answer reaches the process: an acknowledgement, or a refusal that makes it read the row.
    fn hear(&mut self) {
        let (Some(answer), Some(write)) = (self.answer.take(), self.waiting) else { return };
        self.waiting = None;
        match answer {
            Some(rev) => self.lease.settle(write, LeaseAnswer::Written(rev)),
            None => self.asked = Some(write),
        }
    }

    /// The process waits no longer, and will read the row.
    fn give_up(&mut self) {
        if let Some(write) = self.waiting.take() {
            self.lease.settle(write, LeaseAnswer::Unknown);
            (self.answer, self.asked) = (None, Some(write));
        }
    }

    fn read(&mut self, rows: &mut Rows, now: Duration) {
        if let Some(write) = self.asked.take() {
            self.lease.settle(write, LeaseAnswer::Found(rows.get(write.slot, now)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    /// In each step time passes, and then one process sends, the engine applies one of its writes, the answer arrives
    /// or is lost, or the process reads the row. Delays have any length. Suspension is included, because a stopped
    /// process takes no step.
    #[test]
    fn two_processes_never_hold_one_slot_at_the_same_time(
        resumes: bool,
        steps in prop::collection::vec((0u64..9000, 0usize..3, 0u8..8, 0usize..4), 1..250)
    ) {
        let (mut now, mut rows) = (Duration::ZERO, Rows::default());
        let mut processes: Vec<Process> = (0..3).map(|_| Process::new(resumes)).collect();
        for (at, (pause, who, step, which)) in steps.into_iter().enumerate() {
            now += Duration::from_millis(pause);
            let process = &mut processes[who];
            match step {
                0 | 1 if process.waiting.is_none() => process.send(&mut rows, now, op(at as u128 + 1)),
                2 | 3 => process.arrive(&mut rows, now, which),
                4 | 5 => process.hear(),
                6 => process.give_up(),
                _ => process.read(&mut rows, now),
            }
            let mut held: Vec<_> = processes.iter().filter_map(|process| process.lease.holding(now)).collect();
            for lease in &held {
                let row = rows.get(lease.slot, now);
                prop_assert_eq!(row.map(|row| row.epoch), Some(lease.epoch), "a holder without its row");
            }
            let total = held.len();
            held.sort_unstable_by_key(|lease| lease.slot);
            held.dedup_by_key(|lease| lease.slot);
            prop_assert_eq!(held.len(), total);
        }
    }
}
