//! Pure rules of a lease: claim, renewal, unknown outcome, fence and lapse.
//!
//! A claim is a compare-and-set on the row of a slot; its revision is the epoch. A renewal is a compare-and-set on the
//! last revision. A holder acts until `fence` after *sending* its last acknowledged write. The row expires `ttl` after
//! the engine stored it. `ttl` > `fence`, and the engine stores after the holder sends, so the holder stops before the
//! row expires. All times are of the holder's boot clock, which counts suspension.
//!
//! A write without an answer may be stored now, later or never. The row tells: a row with the operation id of the write,
//! or with the epoch of the holder, was written by the holder. Such a row never moves the fence beyond the sending of
//! the write that stored it.

use std::time::Duration;

use crate::engine::{OperationId, Precondition};

/// The rules that differ between kinds of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long a holder acts after sending its last acknowledged write.
    pub fence: Duration,
    /// Whether a holder that has lapsed renews a row that is still its own, and keeps its epoch. Otherwise it claims the
    /// row anew, with another epoch.
    pub resumes: bool,
}

/// A compare-and-set to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseWrite<S> {
    /// The slot; the write is to its row.
    pub slot: S,
    /// The expected state of the row.
    pub expect: Precondition,
    /// The epoch to write; `None` in a claim.
    pub epoch: Option<u64>,
    /// The id of the write.
    pub op: OperationId,
    /// The time of sending.
    pub sent: Duration,
}

/// A row of the slot, as read after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundLease {
    /// Its revision.
    pub rev: u64,
    /// Its epoch.
    pub epoch: u64,
    /// The id of the write that stored it.
    pub op: OperationId,
}

/// What a process knows about the outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// Acknowledged at this revision.
    Written(u64),
    /// The write was refused or has no answer, and a later read found this row, or none.
    Found(Option<FoundLease>),
    /// No answer: the write may be stored now or a moment later.
    Unknown,
}

/// A lease that this process holds, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease<S> {
    /// The slot.
    pub slot: S,
    /// The revision of the claim.
    pub epoch: u64,
    /// The last known revision of the row that this process wrote.
    pub rev: u64,
    /// The time by which this process must have stopped acting.
    pub fenced_at: Duration,
}

/// The lease of one process.
#[derive(Debug, Clone)]
pub struct LeaseModel<S> {
    terms: LeaseTerms,
    held: Option<HeldLease<S>>,
    last: Option<S>,
    unanswered: Option<LeaseWrite<S>>,
}

impl<S: Copy + Eq> LeaseModel<S> {
    /// Creates the lease of a process that has claimed nothing.
    pub fn new(terms: LeaseTerms) -> Self {
        Self { terms, held: None, last: None, unanswered: None }
    }

    /// Returns the lease if the process may act at `now`.
    pub fn holding(&self, now: Duration) -> Option<HeldLease<S>> {
        self.held.filter(|held| now < held.fenced_at)
    }

    /// Returns the lease, also when it has lapsed.
    pub fn held(&self) -> Option<HeldLease<S>> {
        self.held
    }

    /// Returns the slot that the process holds or has held last.
    pub fn last(&self) -> Option<S> {
        self.last
    }

    /// Returns the write that keeps the held row. `None` when there is no row to keep: the process has to claim a slot.
    pub fn renewal(&self, sent: Duration, op: OperationId) -> Option<LeaseWrite<S>> {
        let HeldLease { slot, epoch, rev, fenced_at } = self.held?;
        let expect = Precondition::Rev(rev);
        if self.terms.resumes || sent < fenced_at {
            return Some(LeaseWrite { slot, expect, epoch: Some(epoch), op, sent });
        }
        Some(self.claim(slot, expect, sent, op))
    }

    /// Returns the claim of a slot. It repeats the operation id of an unanswered claim of the slot, so that the row is
    /// recognised whichever of them stored it.
    pub fn claim(&self, slot: S, expect: Precondition, sent: Duration, op: OperationId) -> LeaseWrite<S> {
        let earlier = self.unanswered.filter(|earlier| earlier.slot == slot && earlier.epoch.is_none());
        LeaseWrite { slot, expect, epoch: None, op: earlier.map_or(op, |earlier| earlier.op), sent }
    }

    /// Applies what is known about the outcome of a write. An acknowledged write moves the fence forward; an unknown
    /// outcome leaves the lease as it is; the row of another process, or no row, ends it.
    pub fn settle(&mut self, write: LeaseWrite<S>, answer: LeaseAnswer) {
        match answer {
            LeaseAnswer::Written(rev) => self.accept(write, rev),
            LeaseAnswer::Unknown => {
                // the first of several writes with one id was sent first
                let earlier = self.unanswered.filter(|earlier| earlier.op == write.op);
                self.unanswered = Some(earlier.unwrap_or(write));
            }
            LeaseAnswer::Found(found) => self.find(write, found),
        }
    }

    fn find(&mut self, write: LeaseWrite<S>, found: Option<FoundLease>) {
        let sent = [self.unanswered, Some(write)].into_iter().flatten();
        let mut sent = sent.filter(|sent| found.is_some_and(|found| found.op == sent.op));
        match (found, sent.next(), &mut self.held) {
            (Some(found), Some(sent), _) => self.accept(sent, found.rev),
            (Some(found), None, Some(held)) if held.slot == write.slot && held.epoch == found.epoch => {
                held.rev = found.rev;
            }
            (_, _, held) => *held = held.filter(|held| held.slot != write.slot),
        }
    }

    fn accept(&mut self, write: LeaseWrite<S>, rev: u64) {
        let fenced_at = write.sent + self.terms.fence;
        self.unanswered = None;
        match (write.epoch, &mut self.held) {
            (None, held) => *held = Some(HeldLease { slot: write.slot, epoch: rev, rev, fenced_at }),
            (Some(epoch), Some(held)) if held.epoch == epoch => {
                *held = HeldLease { rev, fenced_at: held.fenced_at.max(fenced_at), ..*held };
            }
            (Some(_), _) => {}
        }
        self.last = self.held.map(|held| held.slot).or(self.last);
    }
}

#[cfg(test)]
mod tests;
