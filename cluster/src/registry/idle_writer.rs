//! Single writes of idle rows, while other nodes write them at the same time.
//!
//! Owns: the revision that a write of an idle row expects, and its repetition with the latest one. Never: the order of
//! these writes and the row of a page (`rows`), or the rule (`idle`).

use super::idle::{Expirable, IdleRow, IdleState, Lifetimes, PageRemoval};
use crate::clock::ClusterClock;
use crate::engine::{Consistency, Kv, Precondition, Unavailable, WriteError};

/// How often a row is written with the latest revision, because another process was faster.
const ATTEMPTS: usize = 8;

/// The idle rows in the engine.
pub(super) struct IdleWriter<'a> {
    pub(super) rows: &'a Kv,
    pub(super) lifetimes: &'a Lifetimes,
    pub(super) clock: &'a ClusterClock,
}

impl IdleWriter<'_> {
    /// Returns the states that this node has seen. A row that it has seen ending is read, because the session or
    /// connection may have ended since then and exist again.
    pub(super) async fn current(&self, mut seen: Vec<IdleState>) -> Result<Vec<IdleState>, Unavailable> {
        for state in seen.iter_mut().filter(|state| state.ending) {
            *state = self.latest(state.of).await?;
        }
        Ok(seen)
    }

    /// Writes the idle row of one session or connection of a page that leaves, with its full lifetime and a new
    /// revision. A row that is ending gets a new revision too: otherwise a node that has not received the row of the page
    /// could remove it before the page has left. Returns the state of a row that was absent before.
    pub(super) async fn write(
        &self,
        leaving: &PageRemoval,
        seen: IdleState,
    ) -> Result<Option<IdleState>, WriteError> {
        let mut state = seen;
        for _ in 0..ATTEMPTS {
            let row = leaving.idle_row(state.of).put_off(self.lifetimes, self.clock.now_ms());
            let row = IdleRow { ending: state.ending, ..row };
            match self.rows.put(row.put(state.expect())).await {
                Ok(rev) => return Ok(state.rev.is_none().then_some(IdleState { rev: Some(rev), ..state })),
                Err(WriteError::Conflict { .. }) => {
                    state = self.latest(state.of).await.map_err(|Unavailable| WriteError::Down)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(WriteError::Conflict { actual: None })
    }

    /// Deletes the idle row of a page that has joined, at the revision that was read before the row of the page was
    /// written. A newer row is left behind. Returns whether the session or connection is ending.
    pub(super) async fn replace(&self, before: IdleState) -> Result<bool, Unavailable> {
        let Some(rev) = before.rev else { return Ok(false) };
        match self.rows.delete(&before.of.key(), Precondition::Rev(rev)).await {
            Ok(()) => Ok(false),
            // without an outcome the row may have been marked before
            Err(_) => self.latest(before.of).await.map(|state| state.ending),
        }
    }

    /// Deletes a row that was created for a page whose row was already gone or has changed. If the session has ended
    /// meanwhile, it does not end a second time. A page that has left since then has given the row a new revision.
    pub(super) async fn take_back(&self, created: IdleState) {
        if let Some(rev) = created.rev {
            // a row that stays is postponed or ends when it is due
            let _ = self.rows.delete(&created.of.key(), Precondition::Rev(rev)).await;
        }
    }

    async fn latest(&self, of: Expirable) -> Result<IdleState, Unavailable> {
        let entry = self.rows.get(&of.key(), Consistency::Latest).await?;
        let row = entry.as_ref().and_then(|entry| IdleRow::decode(&entry.meta));
        Ok(IdleState { of, rev: entry.map(|entry| entry.rev), ending: row.is_some_and(|row| row.ending) })
    }
}
