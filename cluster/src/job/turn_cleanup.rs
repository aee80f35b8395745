//! Deletes the turn rows that dead workers leave behind.
//!
//! Owns: one pass over all turn rows after the living workers have changed, a bounded part of it per round. Never: a row
//! that names an attempt which can still be claimed, or runs; the next owner of the user settles that.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::parts::Jobs;
use super::turn::TurnRow;
use crate::engine::{Entry, Precondition, Unavailable, WriteError};
use crate::subject::job_key;

/// Rows per round.
const BATCH: usize = 500;
/// Rows that are checked concurrently.
const AT_ONCE: usize = 64;

/// The state of the cleanup from one round to the next.
#[derive(Debug, Default)]
pub(super) struct TurnCleanup {
    /// Revision up to which this pass has read; `None` between two passes.
    read: Option<u64>,
    /// The state of the worker directory at the beginning of the last pass.
    workers: Option<u64>,
}

impl TurnCleanup {
    /// Runs one round.
    pub(super) async fn run_once(&mut self, jobs: &Jobs) -> Result<(), Unavailable> {
        let workers = *jobs.workers.changes().borrow();
        let read = match self.read {
            Some(read) => read,
            None if self.workers == Some(workers) => return Ok(()),
            None => 0,
        };
        if read == 0 {
            self.workers = Some(workers);
        }
        self.read = Some(read);
        let rows = jobs.records.store.scan(job_key::TURNS, read, BATCH).await?;
        self.read = rows.last().filter(|_| rows.len() == BATCH).map(|last| last.rev);
        let checks = rows.into_iter().map(|row| delete_turn_if_over(jobs, row));
        stream::iter(checks).buffer_unordered(AT_ONCE).try_collect().await
    }
}

/// Deletes the row of a worker that is not alive if its attempt is over. A living worker that this process does not
/// know yet loses nothing but its row: it takes the user again.
pub async fn delete_turn_if_over(jobs: &Jobs, entry: Entry) -> Result<(), Unavailable> {
    let Some(TurnRow { worker, job: Some(named), .. }) = TurnRow::of(&entry) else { return Ok(()) };
    if jobs.workers.roster().is_current(worker) {
        return Ok(());
    }
    if jobs.records.get(named.id).await?.is_some_and(|stored| !stored.record.state.is_terminal()) {
        return Ok(());
    }
    match jobs.records.store.delete(&entry.key, Precondition::Rev(entry.rev)).await {
        Ok(()) | Err(WriteError::Conflict { .. }) => Ok(()),
        Err(_) => Err(Unavailable),
    }
}
