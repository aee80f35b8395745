//! The writer of one tree in one process. Pure.
//!
//! Owns: the order of the writes that this process accepts, and the result of each. Never: calls the engine; returns
//! the call to make and receives its outcome.
//!
//! At most one call is in flight. Writes that arrive meanwhile wait and form the next batch, which becomes one put.
//! The put expects the version that the batch was drafted on. When another writer was first, the tree is read and the
//! batch drafted again. The version in memory may be old. A batch that changes nothing, or that removes the tree, is
//! therefore drafted on a version that was read after the batch arrived. When a response is lost, the tree is read,
//! and the operation id and the [`OpHistory`] show whether the batch was written. When they do not show it, its writes
//! fail with [`StateError::Uncertain`].

use std::collections::VecDeque;

use bytes::Bytes;

use super::batch::{DraftWrite, PendingVersion, StoreEffect};
use super::record::{Base, Meta, OpHistory, TreeVersion};
use super::{LARGE_TREE, MAX_WAITING, MAX_WAITING_BYTES, StateError};
use crate::engine::{OperationId, Precondition, Unavailable, WriteError};

/// Maximum number of times a batch is drafted again because other writers were first.
const MAX_ROUNDS: u32 = 100;
/// Maximum number of lost responses to one batch in a row.
const MAX_LOST_REPLIES: u32 = 4;

/// A version of a tree, or none.
pub(super) type Found = Option<TreeVersion>;

/// The engine call that a writer requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WriterRequest {
    /// Reads the tree as last acknowledged.
    Read,
    /// Writes a new version.
    Put {
        expect: Precondition,
        op: OperationId,
        meta: Bytes,
        value: Bytes,
        ttl: Option<std::time::Duration>,
        /// Whether the tree becomes a large one with this version.
        large: bool,
    },
    /// Deletes the tree.
    Delete { rev: u64 },
}

/// The output of a writer after one input.
#[derive(Debug)]
pub(super) struct WriterStep<T> {
    /// Call to make; `None` when one is in flight or there is no work left.
    pub(super) call: Option<WriterRequest>,
    /// Results to send to callers: the revision, or the error.
    pub(super) replies: Vec<(T, Result<u64, StateError>)>,
}

/// Writes that become one version.
#[derive(Debug)]
struct WriteBatch<T> {
    writes: Vec<(DraftWrite, T)>,
    rounds: u32,
}

/// A batch that is being written.
#[derive(Debug)]
struct InFlightWrite<T> {
    batch: WriteBatch<T>,
    draft: PendingVersion,
    /// Version that the batch was drafted on.
    base: Option<Base>,
    /// History of the version that the batch makes.
    history: OpHistory,
    op: OperationId,
    /// Whether the batch puts a version; otherwise it deletes the tree.
    puts: bool,
    /// Number of lost responses so far. If it is above 0, the batch may already be written.
    lost_replies: u32,
}

#[derive(Debug)]
enum Stage<T> {
    Idle,
    Reading(WriteBatch<T>),
    Writing(InFlightWrite<T>),
    Settling(InFlightWrite<T>),
}

/// The writer of one tree; see the module. `T` identifies the caller of a write.
#[derive(Debug)]
pub(super) struct TreeWriter<T> {
    /// Version after the last call, which may be old by now. `None` when not even that is known.
    known: Option<Found>,
    waiting: VecDeque<(DraftWrite, T)>,
    weight: usize,
    stage: Stage<T>,
}

impl<T> TreeWriter<T> {
    /// Creates a writer that knows a version, or nothing.
    pub(super) fn new(known: Option<Found>) -> Self {
        Self { known, waiting: VecDeque::new(), weight: 0, stage: Stage::Idle }
    }

    /// Returns whether the writer has no work.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Takes the last known version out of an idle writer.
    pub(super) fn take_known(&mut self) -> Option<Found> {
        self.known.take()
    }

    /// Accepts a write. `op` is a fresh operation id, here and in the other methods.
    pub(super) fn enqueue(&mut self, write: DraftWrite, ticket: T, op: OperationId) -> WriterStep<T> {
        let weight = write.weight();
        // a write that is too large for any queue is accepted, so that it fails with the limit that it exceeds
        let heavy = self.weight + weight > MAX_WAITING_BYTES && !self.waiting.is_empty();
        if heavy || self.waiting.len() >= MAX_WAITING {
            return WriterStep { call: None, replies: vec![(ticket, Err(StateError::Overloaded))] };
        }
        self.weight += weight;
        self.waiting.push_back((write, ticket));
        if self.is_idle() {
            self.begin(Vec::new(), op)
        } else {
            WriterStep { call: None, replies: Vec::new() }
        }
    }

    /// Processes the response to [`WriterRequest::Read`].
    pub(super) fn read(&mut self, found: Result<Found, Unavailable>, op: OperationId) -> WriterStep<T> {
        match (std::mem::replace(&mut self.stage, Stage::Idle), found) {
            (Stage::Reading(batch), Ok(found)) => self.draft(batch, found, true, op),
            (Stage::Reading(batch), Err(Unavailable)) => self.fail(batch, StateError::Unavailable, op),
            (Stage::Settling(in_flight), Ok(found)) => self.resolve(in_flight, found, op),
            (Stage::Settling(in_flight), Err(Unavailable)) => {
                self.fail(in_flight.batch, StateError::Uncertain, op)
            }
            (stage, _) => self.ignore(stage),
        }
    }

    /// Processes the response to [`WriterRequest::Put`] or [`WriterRequest::Delete`]. A deletion has the revision 0.
    pub(super) fn on_written(&mut self, outcome: Result<u64, WriteError>, op: OperationId) -> WriterStep<T> {
        let mut in_flight = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Writing(in_flight) => in_flight,
            stage => return self.ignore(stage),
        };
        match outcome {
            Ok(rev) => self.committed(in_flight, rev, None, op),
            Err(WriteError::Conflict { .. }) if in_flight.lost_replies == 0 => {
                self.retry_after_conflict(in_flight.batch, op)
            }
            Err(WriteError::Conflict { .. } | WriteError::Unknown) => {
                in_flight.lost_replies += 1;
                self.stage = Stage::Settling(in_flight);
                WriterStep { call: Some(WriterRequest::Read), replies: Vec::new() }
            }
            Err(WriteError::Down | WriteError::Invalid) => {
                let refusal =
                    if in_flight.lost_replies > 0 { StateError::Uncertain } else { StateError::Unavailable };
                self.fail(in_flight.batch, refusal, op)
            }
        }
    }

    /// Starts the next batch after the one before it is finished.
    fn begin(&mut self, mut replies: Vec<(T, Result<u64, StateError>)>, op: OperationId) -> WriterStep<T> {
        if self.waiting.is_empty() {
            return WriterStep { call: None, replies };
        }
        self.weight = 0;
        let batch = WriteBatch { writes: self.waiting.drain(..).collect(), rounds: 0 };
        let step = match self.known.take() {
            Some(known) => self.draft(batch, known, false, op),
            None => self.read_current(batch),
        };
        replies.extend(step.replies);
        WriterStep { call: step.call, replies }
    }

    fn read_current(&mut self, batch: WriteBatch<T>) -> WriterStep<T> {
        self.stage = Stage::Reading(batch);
        WriterStep { call: Some(WriterRequest::Read), replies: Vec::new() }
    }

    /// Drafts a batch on a version. `fresh` is whether the version was read after the batch arrived.
    fn draft(&mut self, batch: WriteBatch<T>, found: Found, fresh: bool, op: OperationId) -> WriterStep<T> {
        let (base, tree) = found.map(TreeVersion::split).unzip();
        let writes = batch.writes.iter().map(|(write, _)| write);
        let draft = PendingVersion::new(base.as_ref(), tree.unwrap_or_default(), writes);
        match draft.effect(base.is_some()) {
            StoreEffect::Nothing if fresh => {
                let replies = replies(batch, &draft, base.as_ref().map_or(0, Base::revision));
                self.known = Some(base.map(|base| base.with(draft.tree)));
                self.begin(replies, op)
            }
            // a deletion leaves no history either: to conclude from another tree that the deletion is done, the tree to
            // delete must have existed when the batch arrived
            StoreEffect::Nothing | StoreEffect::Delete if !fresh => self.read_current(batch),
            effect => {
                let history = base.as_ref().map(Base::history).unwrap_or_default();
                self.write(InFlightWrite {
                    batch,
                    draft,
                    base,
                    history,
                    op,
                    puts: effect == StoreEffect::Put,
                    lost_replies: 0,
                })
            }
        }
    }

    fn write(&mut self, in_flight: InFlightWrite<T>) -> WriterStep<T> {
        let InFlightWrite { draft, base, history, op, .. } = &in_flight;
        let base_rev = rev(base);
        let call = if in_flight.puts {
            let was_large = base.as_ref().is_some_and(|base| base.large);
            WriterRequest::Put {
                expect: if base_rev > 0 { Precondition::Rev(base_rev) } else { Precondition::Absent },
                op: *op,
                meta: Meta::encode(base_rev, draft.ttl(), &draft.fences, draft.is_absent(), &draft.events),
                value: TreeVersion::encode(&draft.tree, history),
                ttl: draft.ttl(),
                large: draft.tree.size() > LARGE_TREE && !was_large,
            }
        } else {
            WriterRequest::Delete { rev: base_rev }
        };
        self.stage = Stage::Writing(in_flight);
        WriterStep { call: Some(call), replies: Vec::new() }
    }

    /// Finishes a batch that was written at `rev`. `now` is the current version, if it was read since.
    fn committed(
        &mut self,
        in_flight: InFlightWrite<T>,
        rev: u64,
        now: Option<Found>,
        op: OperationId,
    ) -> WriterStep<T> {
        let InFlightWrite { batch, draft, history, op: by, puts, .. } = in_flight;
        let absent = draft.is_absent();
        let replies = replies(batch, &draft, if absent { 0 } else { rev });
        let written = || {
            let ttl = draft.ttl();
            let PendingVersion { tree, fences, .. } = draft;
            puts.then_some(TreeVersion { rev, op: by, ttl, fences, absent, history, tree })
        };
        self.known = Some(now.unwrap_or_else(written));
        self.begin(replies, op)
    }

    /// Drafts a batch again because another writer was first.
    fn retry_after_conflict(&mut self, mut batch: WriteBatch<T>, op: OperationId) -> WriterStep<T> {
        batch.rounds += 1;
        if batch.rounds > MAX_ROUNDS {
            self.fail(batch, StateError::Overloaded, op)
        } else {
            self.read_current(batch)
        }
    }

    fn fail(&mut self, batch: WriteBatch<T>, refusal: StateError, op: OperationId) -> WriterStep<T> {
        let replies = batch.writes.into_iter().map(|(_, ticket)| (ticket, Err(refusal))).collect();
        self.begin(replies, op)
    }

    /// Decides after a lost response, from the version that was read.
    fn resolve(&mut self, in_flight: InFlightWrite<T>, found: Found, op: OperationId) -> WriterStep<T> {
        match resolve_unknown(&in_flight, found.as_ref()) {
            BatchOutcome::Written(rev) => self.committed(in_flight, rev, Some(found), op),
            BatchOutcome::Repeat if in_flight.lost_replies >= MAX_LOST_REPLIES => {
                self.fail(in_flight.batch, StateError::Uncertain, op)
            }
            BatchOutcome::Repeat => self.write(in_flight),
            BatchOutcome::Lost => {
                let mut batch = in_flight.batch;
                batch.rounds += 1;
                self.draft(batch, found, true, op)
            }
            BatchOutcome::Unknown => self.fail(in_flight.batch, StateError::Uncertain, op),
        }
    }

    /// Ignores a response that no call is waiting for.
    fn ignore(&mut self, stage: Stage<T>) -> WriterStep<T> {
        self.stage = stage;
        WriterStep { call: None, replies: Vec::new() }
    }
}

fn rev(base: &Option<Base>) -> u64 {
    base.as_ref().map_or(0, |base| base.rev)
}

/// Returns the results of a batch. A conflict names the revision after the batch.
fn replies<T>(batch: WriteBatch<T>, draft: &PendingVersion, rev: u64) -> Vec<(T, Result<u64, StateError>)> {
    let reply = |refused: &Option<StateError>| match refused {
        None => Ok(rev),
        Some(StateError::Conflict { .. }) => Err(StateError::Conflict { revision: rev }),
        Some(refusal) => Err(*refusal),
    };
    batch
        .writes
        .into_iter()
        .zip(&draft.refused)
        .map(|((_, ticket), refused)| (ticket, reply(refused)))
        .collect()
}

/// Outcome of a batch with a lost response.
enum BatchOutcome {
    Written(u64),
    /// The version that the batch was drafted on is still current: repeat the call.
    Repeat,
    /// The batch was not written and cannot be written any more.
    Lost,
    Unknown,
}

fn resolve_unknown<T>(in_flight: &InFlightWrite<T>, found: Option<&TreeVersion>) -> BatchOutcome {
    let InFlightWrite { base, op, puts, .. } = in_flight;
    let base = rev(base);
    let Some(found) = found else {
        return match (*puts, base) {
            (false, _) => BatchOutcome::Written(0),
            (true, 0) => BatchOutcome::Repeat,
            // the tree was removed, before or after the batch
            (true, _) => BatchOutcome::Unknown,
        };
    };
    let written = if found.op == *op { Some(found.rev) } else { found.history.written_by(*op) };
    match written.filter(|_| *puts) {
        Some(rev) => BatchOutcome::Written(rev),
        None if found.rev == base => BatchOutcome::Repeat,
        None if found.history.has(base) => BatchOutcome::Lost,
        // another tree, created since the removal
        None if !puts && found.history.is_complete() => BatchOutcome::Written(0),
        None => BatchOutcome::Unknown,
    }
}

#[cfg(test)]
mod tests;
