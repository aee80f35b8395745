//! Runs the next job of a user at its owner.
//!
//! Owns: the claim of the first job that is due, and what becomes of it when the claim fails. Never: which user is next
//! (`affinity`), or the turn row (`user_turns`).

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::job::{Jobs, StoredJob, TransitionError};
use pagewire_cluster::worker::WorkerId;
use tokio::sync::oneshot;

use super::attempt::{AttemptEnd, JobSource};
use super::claim::Claims;
use super::open_jobs::OpenRow;
use super::open_queue::OpenQueue;
use super::slots::Slot;
use super::turn::TurnOutcome;
use super::user_turns::UserTurns;
use super::work::WorkerParts;

/// What the task of a user does next.
#[derive(Debug)]
pub(crate) enum NextStep {
    /// No job of the user is to be run here now.
    Done,
    /// Another worker owns the user.
    Leave(WorkerId),
    /// Wait for this time or for a wake-up.
    Wait(Duration),
    /// Wait until the engine replies again.
    Retry,
    /// Look again at once.
    Again,
}

/// Runs the jobs of the users of one worker.
pub(crate) struct TurnRunner {
    pub(crate) parts: Arc<WorkerParts>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) turns: Arc<UserTurns>,
    pub(crate) open: Arc<OpenQueue>,
}

impl TurnRunner {
    fn jobs(&self) -> &Jobs {
        &self.parts.jobs
    }

    /// Runs the job of a user that is next to its end.
    pub(crate) async fn run_next(&self, user: &Arc<str>, row: OpenRow, slot: Slot) -> NextStep {
        let known = self.open.lock().take_record(row.id);
        let read = match known {
            Some(known) => known,
            None => match self.jobs().records.get(row.id).await {
                Ok(Some(read)) => read,
                Ok(None) => return self.forget(&row).await,
                Err(Unavailable) => return NextStep::Retry,
            },
        };
        let pause = NextStep::Wait(self.jobs().timing.lease_renew);
        let Some(me) = self.parts.active() else { return pause };
        // registered before the claim is written, so that no written claim is without a registration
        let Some(running) = self.parts.running.begin(row.id) else { return NextStep::Retry };
        match self.turns.claim(user, self.parts.claimant(me), &read).await {
            Ok(TurnOutcome::Claimed(claimed)) => {
                let (ended, end) = oneshot::channel();
                let source = JobSource::Row { rev: row.rev, ended };
                self.claims.start(*claimed, me, source, running, slot).await;
                // an error means that the attempt was dropped, which is an end as well
                if let Ok(end) = end.await {
                    self.ended(user, &row, &end);
                }
                NextStep::Again
            }
            Ok(TurnOutcome::Elsewhere(owner)) => NextStep::Leave(owner),
            Ok(TurnOutcome::Blocked(named)) => self.take(*named).await,
            Ok(TurnOutcome::Owned | TurnOutcome::Released | TurnOutcome::Moved) => NextStep::Again,
            Ok(TurnOutcome::Unavailable) => NextStep::Retry,
            // a job that waits for its next try stands aside
            Err(TransitionError::NotDue(ms)) => {
                self.open.wait(&row, self.parts.now_ms() + ms);
                NextStep::Again
            }
            Err(TransitionError::Running(_)) => {
                // giving back a claim of this worker registers the job
                drop(running);
                self.take(read).await
            }
            // the job has ended, but the worker that ended it may have been killed before it notified the pages
            Err(_) => {
                self.jobs().notifier.notify_pages(&read).await;
                self.forget(&row).await
            }
        }
    }

    /// Applies the end of an attempt before the watch does.
    fn ended(&self, user: &str, row: &OpenRow, end: &AttemptEnd) {
        self.turns.settled(user, row.id);
        match end {
            // its row is being deleted, and is looked at again if that fails
            AttemptEnd::Over => {
                self.open.wait(row, self.parts.now_ms() + self.jobs().timing.redelivery.as_millis() as u64);
            }
            AttemptEnd::Again { due } if *due > self.parts.now_ms() => self.open.wait(row, *due),
            AttemptEnd::Again { .. } | AttemptEnd::Lost => {}
        }
    }

    /// Takes a job from the worker that its record names, if that worker does not run it any more.
    async fn take(&self, stored: StoredJob) -> NextStep {
        let Some(worker) = stored.record.worker else { return NextStep::Again };
        match self.claims.mark_lost(stored, worker).await {
            Some(changed) => {
                self.jobs().run_effect(changed).await;
                NextStep::Again
            }
            None => NextStep::Wait(self.jobs().timing.lease_renew),
        }
    }

    /// Deletes the row of a job that has ended. The row was known before the record was read, so that it is not the row
    /// of a later run.
    async fn forget(&self, row: &OpenRow) -> NextStep {
        match self.jobs().records.store.delete(&row.key, Precondition::Rev(row.rev)).await {
            Ok(()) | Err(WriteError::Conflict { .. }) => {
                self.open.lock().forget(row);
                NextStep::Again
            }
            Err(_) => NextStep::Wait(self.jobs().timing.lease_renew),
        }
    }
}
