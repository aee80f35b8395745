//! Changing a record, and learning what became of a change whose answer was lost.
//!
//! Owns: the one operation id of all tries of a change, and how it is recognised. Never: what may happen
//! (`transition`), and what follows (`store`).
//!
//! A write without an answer has perhaps happened, and the read that would tell can fail as well, because both need
//! the same connection. A later try with another operation id would meet the first one's result and take it for the
//! work of another process. So a [`Change`] is made once and tried as often as it takes.

use tokio::time::{Instant, timeout};

use super::store::{Fence, Jobs, StoredJob, Transition, TransitionFailure, stored};
use super::transition::{RecordEvent, apply};
use super::unix_ms;
use crate::engine::{
    BatchOp, ConnectionState, Consistency, OperationId, Precondition, Put, Resolution, Unavailable,
    WriteError,
};
use crate::id::Key;

/// One event that is to happen to one record, however often that is tried.
#[derive(Debug)]
pub(super) struct Change {
    op: OperationId,
    event: RecordEvent,
    /// It was sent once without an answer.
    sent: bool,
}

impl Change {
    pub(super) fn new(event: RecordEvent) -> Self {
        Self { op: OperationId::random(), event, sent: false }
    }
}

impl Jobs {
    /// Lets an event happen to a record, trying once.
    pub(super) async fn change(
        &self,
        stored: StoredJob,
        event: RecordEvent,
        fence: Option<&Fence>,
    ) -> Result<Transition, TransitionFailure> {
        self.try_change(&mut Change::new(event), stored, fence).await
    }

    /// Repeats a change while the engine does not say what became of it, as long as `goes_on`, which is told whether it
    /// was sent without an answer.
    pub(super) async fn change_until_known(
        &self,
        mut change: Change,
        stored: StoredJob,
        fence: Option<&Fence>,
        goes_on: impl Fn(bool) -> bool,
    ) -> Result<Transition, TransitionFailure> {
        loop {
            match self.try_change(&mut change, stored.clone(), fence).await {
                Err(TransitionFailure::Unavailable) if goes_on(change.sent) => self.wait_to_retry().await,
                outcome => return outcome,
            }
        }
    }

    /// Compare-and-set on the revision of the record, read again and repeated while others are faster.
    async fn try_change(
        &self,
        change: &mut Change,
        mut stored: StoredJob,
        fence: Option<&Fence>,
    ) -> Result<Transition, TransitionFailure> {
        loop {
            let (next, after) = match apply(&stored.record, change.event.clone(), unix_ms(), &self.timing) {
                Ok(applied) => applied,
                Err(_) if change.sent && change.event.is_visible_in(&stored.record) => {
                    return Ok(self::found(change, stored));
                }
                Err(refusal) => return Err(TransitionFailure::Refused(refusal, Box::new(stored))),
            };
            let put = Put { op: change.op, ..self.put(&next, Precondition::Rev(stored.rev)) };
            let key = put.key.clone();
            let written = match fence {
                None => self.store.put(put).await,
                Some(Fence { key, rev }) => {
                    let check = BatchOp::Check { key: key.clone(), rev: *rev };
                    self.store.commit(vec![BatchOp::Put(put), check]).await
                }
            };
            let doubtful = match written {
                // a commit answers the bucket's revision: if the record's own is lower, the next change finds it
                Ok(rev) => return Ok(Transition { stored: StoredJob { record: next, rev }, after }),
                Err(WriteError::Conflict { .. }) => false,
                Err(WriteError::Unknown) => true,
                Err(WriteError::Down | WriteError::Invalid) => return Err(TransitionFailure::Unavailable),
            };
            change.sent |= doubtful;
            let entry = self.store.get(&key, Consistency::Latest).await;
            let entry = entry
                .map_err(|Unavailable| TransitionFailure::Unavailable)?
                .ok_or(TransitionFailure::Gone)?;
            let (own, rev) = (entry.op == change.op, entry.rev);
            let seen = std::mem::replace(&mut stored, self::stored(entry).ok_or(TransitionFailure::Gone)?);
            if own {
                return Ok(self::found(change, stored));
            }
            if fence.is_some() && !doubtful && rev == seen.rev {
                return Err(TransitionFailure::Fenced);
            }
        }
    }

    /// Writes a row, and finds out what became of it if that is not said at once: its revision, or `None` when another
    /// row stands there. `Down`: not written, or not known in time.
    pub(super) async fn put_until_known(&self, put: Put) -> Result<Option<u64>, Unavailable> {
        let until = Instant::now() + self.timing.deliver;
        let mut sent = false;
        loop {
            match self.store.put(put.clone()).await {
                Ok(rev) => return Ok(Some(rev)),
                Err(WriteError::Conflict { .. }) => {
                    match self.store.resolve_unknown(&put.key, put.op).await {
                        Ok(Resolution::Written { rev }) => return Ok(Some(rev)),
                        Ok(Resolution::Other { .. }) => return Ok(None),
                        Err(Unavailable) => {}
                    }
                }
                Err(WriteError::Unknown) => sent = true,
                Err(WriteError::Down) if sent => {}
                Err(WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
            if Instant::now() >= until {
                return Err(Unavailable);
            }
            self.wait_to_retry().await;
        }
    }

    /// The record of a job, read as soon as the engine answers.
    pub async fn get_when_up(&self, job: Key) -> Option<StoredJob> {
        loop {
            match self.get(job).await {
                Ok(stored) => return stored,
                Err(Unavailable) => self.wait_to_retry().await,
            }
        }
    }

    /// Between two tries: until the engine is back if it is away, for a moment otherwise.
    pub async fn wait_to_retry(&self) {
        let mut link = self.engine.link();
        let up = |link: &ConnectionState| matches!(link, ConnectionState::Up { .. });
        let pause = self.timing.lease_renew / 3;
        if up(&link.borrow()) {
            return tokio::time::sleep(pause / 10).await;
        }
        // an error: the engine is gone and its link never changes again
        let gone = matches!(timeout(pause, link.wait_for(up)).await, Ok(Err(_)));
        if gone {
            tokio::time::sleep(pause).await;
        }
    }
}

/// A change that happened although nobody said so. The record says what it led to: it may have begun from another
/// version than the one that was read last.
fn found(change: &Change, stored: StoredJob) -> Transition {
    let after = change.event.effect(&stored.record, unix_ms());
    Transition { stored, after }
}
