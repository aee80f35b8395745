//! Commits that keep the rule of `idle`, while other nodes commit at the same time.
//!
//! Owns: the idle rows that a commit expects, and its repetition with the latest ones. Never: what is written.

use super::idle::{Expirable, IdleRow, IdleState};
use crate::engine::{BatchOp, Consistency, Kv, Unavailable, WriteError};

/// How often a commit is retried with the current rows, because another process was faster.
const ATTEMPTS: usize = 8;

/// A commit that depends on the idle rows of sessions and connections.
pub(super) struct IdleCommit<'a> {
    pub(super) rows: &'a Kv,
    pub(super) of: &'a [Expirable],
}

/// The revision that a commit returned.
pub(super) enum CommittedRows {
    /// Revision of the one row.
    One(u64),
    /// No revision, because several rows were written.
    Several,
}

impl IdleCommit<'_> {
    /// Commits the batch that `plan` derives from the idle rows: first from those that this node has seen, then from the
    /// latest ones.
    pub(super) async fn run(
        &self,
        seen: Vec<IdleState>,
        plan: impl Fn(&[IdleState]) -> Option<Vec<BatchOp>>,
    ) -> Result<CommittedRows, WriteError> {
        let mut states = seen;
        if states.iter().any(|state| state.ending) {
            // it may have ended since then and exist again
            states = self.latest().await.map_err(|Unavailable| WriteError::Down)?;
        }
        for _ in 0..ATTEMPTS {
            let batch = plan(&states).ok_or(WriteError::Conflict { actual: None })?;
            let conflict = match self.write(batch).await {
                Err(conflict @ WriteError::Conflict { .. }) => conflict,
                outcome => return outcome,
            };
            let before = std::mem::take(&mut states);
            states = self.latest().await.map_err(|Unavailable| conflict)?;
            if states == before {
                // the row of the page itself is not as expected
                return Err(conflict);
            }
        }
        Err(WriteError::Conflict { actual: None })
    }

    async fn write(&self, mut batch: Vec<BatchOp>) -> Result<CommittedRows, WriteError> {
        if batch.is_empty() {
            return Ok(CommittedRows::Several);
        }
        match (batch.pop(), batch.is_empty()) {
            (Some(BatchOp::Put(put)), true) => self.rows.put(put).await.map(CommittedRows::One),
            (Some(BatchOp::Delete { key, expect }), true) => {
                self.rows.delete(&key, expect).await.map(|()| CommittedRows::Several)
            }
            (last, _) => {
                batch.extend(last);
                self.rows.commit(batch).await.map(|_| CommittedRows::Several)
            }
        }
    }

    async fn latest(&self) -> Result<Vec<IdleState>, Unavailable> {
        let mut states = Vec::with_capacity(self.of.len());
        for &of in self.of {
            let entry = self.rows.get(&of.key(), Consistency::Latest).await?;
            let ending =
                entry.as_ref().and_then(|entry| IdleRow::decode(&entry.meta)).is_some_and(|row| row.ending);
            states.push(IdleState { of, rev: entry.map(|entry| entry.rev), ending });
        }
        Ok(states)
    }
}
