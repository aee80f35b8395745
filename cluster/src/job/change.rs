//! Changes a record and resolves the outcome of a change when its reply was lost.
//!
//! Owns: the one operation id of all tries of a change, and how its result is recognised. Never: which events are
//! allowed (`transition`), and the effects of a change (`parts`).
//!
//! A write without a reply may have happened, and the read that would resolve it can fail as well, because both need
//! the same connection. A later try with another operation id would find the result of the first try and take it for
//! the write of another process. So a [`Change`] is created once and retried with the same operation id.

use tokio::time::Instant;

use super::records::JobRecords;
use super::stored::{StoredJob, Transition, TransitionFailure};
use super::transition::{RecordEvent, apply};
use crate::code::ErrorCode;
use crate::engine::{Consistency, MAX_VALUE, OperationId, Precondition, Put, Unavailable, WriteError};
use crate::wire::HandlerError;

/// One event to apply to one record, however often it is tried.
#[derive(Debug)]
pub struct Change {
    op: OperationId,
    event: RecordEvent,
    /// The write was sent at least once without a reply.
    sent: bool,
}

impl Change {
    /// Prepares a change of one record.
    pub fn new(event: RecordEvent) -> Self {
        Self { op: OperationId::random(), event, sent: false }
    }
}

impl JobRecords {
    /// Applies an event to a record, with one try.
    pub async fn change(
        &self,
        stored: StoredJob,
        event: RecordEvent,
    ) -> Result<Transition, TransitionFailure> {
        self.try_change(&mut Change::new(event), stored).await
    }

    /// Writes the change, and learns within the time of a delivery whether it is written.
    pub(super) async fn change_in_time(
        &self,
        event: RecordEvent,
        stored: StoredJob,
    ) -> Result<Transition, TransitionFailure> {
        let until = Instant::now() + self.timing.deliver;
        let goes_on = |sent| sent && Instant::now() < until;
        self.change_until_known(Change::new(event), stored, goes_on).await
    }

    /// Repeats a change while its outcome is unknown and `goes_on` returns `true`. The argument of `goes_on` is whether
    /// the write was sent without a reply.
    pub async fn change_until_known(
        &self,
        mut change: Change,
        stored: StoredJob,
        goes_on: impl Fn(bool) -> bool,
    ) -> Result<Transition, TransitionFailure> {
        loop {
            match self.try_change(&mut change, stored.clone()).await {
                Err(TransitionFailure::Unavailable) if goes_on(change.sent) => self.wait_to_retry().await,
                outcome => return outcome,
            }
        }
    }

    /// Writes by compare-and-set on the revision of the record; reads it again and repeats while other writers are
    /// faster.
    async fn try_change(
        &self,
        change: &mut Change,
        mut stored: StoredJob,
    ) -> Result<Transition, TransitionFailure> {
        loop {
            let (next, after) = match apply(&stored.record, change.event.clone(), self.now_ms(), &self.timing)
            {
                Ok(applied) => applied,
                Err(_) if change.sent && change.event.is_visible_in(&stored.record) => {
                    return Ok(found(change, stored, self.now_ms()));
                }
                Err(refusal) => return Err(TransitionFailure::Refused(refusal, Box::new(stored))),
            };
            let put = Put { op: change.op, ..self.put(&next, Precondition::Rev(stored.rev)) };
            let key = put.key.clone();
            let doubtful = match self.store.put(put).await {
                Ok(rev) => return Ok(Transition { stored: StoredJob { record: next, rev }, after }),
                Err(WriteError::Conflict { .. }) => false,
                Err(WriteError::Unknown) => true,
                Err(WriteError::Invalid) => {
                    let event = too_large(&change.event).ok_or(TransitionFailure::Unavailable)?;
                    tracing::warn!(job = %stored.record.id, "the end of a job does not fit into its record");
                    // the operation id stays, because an earlier try may have been stored
                    change.event = event;
                    continue;
                }
                Err(WriteError::Down) => return Err(TransitionFailure::Unavailable),
            };
            change.sent |= doubtful;
            let entry = self.store.get(&key, Consistency::Latest).await;
            let entry = entry
                .map_err(|Unavailable| TransitionFailure::Unavailable)?
                .ok_or(TransitionFailure::Gone)?;
            let own = entry.op == change.op;
            stored = StoredJob::parse(entry).ok_or(TransitionFailure::Gone)?;
            if own {
                return Ok(found(change, stored, self.now_ms()));
            }
        }
    }
}

/// Returns the event that ends an attempt in place of one that does not fit into the record, because a try of that one would
/// be refused again and again. Returns `None` for an event that ends none, and for this event itself.
fn too_large(event: &RecordEvent) -> Option<RecordEvent> {
    let message = format!("the end of the job does not fit into its record of at most {MAX_VALUE} bytes");
    let short = HandlerError::new(ErrorCode::TooLarge, message);
    match event {
        RecordEvent::Fail(_, error) if *error == short => None,
        RecordEvent::Succeed(by, _) | RecordEvent::Fail(by, _) | RecordEvent::RetryAfter(by, ..) => {
            Some(RecordEvent::Fail(*by, short))
        }
        _ => None,
    }
}

/// Returns the transition of a change that happened although its reply was lost, with the effect read from the record.
/// The change may have begun from another version than the one that was read last.
fn found(change: &Change, stored: StoredJob, now: u64) -> Transition {
    let after = change.event.effect(&stored.record, now);
    Transition { stored, after }
}
