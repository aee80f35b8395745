//! The row of one account that submits jobs through its pages.
//!
//! Owns: the one task that reads and writes the row: jobs that are submitted meanwhile wait for the next write and share
//! it. Never: the limits (`quota`), or which job needs a write before it is admitted (`quota_count`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::quota::{Quota, QuotaError, QuotaRow};
use super::quota_count::{QuotaCount, QuotaWrite, Reservation};
use super::records::JobRecords;
use crate::engine::{Consistency, Precondition, Put, Unavailable, WriteError};
use crate::id::{Account, Key};
use crate::subject::{SubjectToken, job_key};
use crate::wire;

/// How often the write of a row is tried while other writers are faster.
const TRIES: usize = 64;
/// Records that are read concurrently to find jobs that have ended.
const READS: usize = 32;

/// A job that waits to be counted.
struct WaitingReservation {
    reservation: Reservation,
    reply: oneshot::Sender<Result<(), QuotaError>>,
}

/// The next step of the task.
enum QuotaStep {
    /// Counts these jobs, and writes those that are not written yet.
    Count(Vec<WaitingReservation>),
    /// Waits until unwritten jobs have to be written or a job has to be counted.
    Wait(Instant),
    Stop,
}

#[derive(Default)]
struct QuotaState {
    count: QuotaCount,
    /// When the records of its jobs were read last.
    checked: Option<Instant>,
    waiting: Vec<WaitingReservation>,
    /// Whether the task runs. It ends when no job waits and none is unwritten.
    at_work: bool,
}

/// The row of one account.
pub(super) struct QuotaWriter {
    records: Arc<JobRecords>,
    key: String,
    state: Mutex<QuotaState>,
    /// Wakes the task for a job that waits.
    submitted: Notify,
    /// Wakes those that wait for the end of the task.
    stopped: Notify,
}

impl QuotaWriter {
    pub(super) fn new(records: Arc<JobRecords>, account: &Account) -> Self {
        let key = match account {
            Account::User(user) => job_key::quota_of_user(&SubjectToken::new(user)),
            Account::Connection(connection) => job_key::quota_of_connection(*connection),
        };
        Self { records, key, state: Mutex::default(), submitted: Notify::new(), stopped: Notify::new() }
    }

    /// Each change leaves the state consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, QuotaState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a job: at once, or by the next write of the row.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        quota: &Quota,
        job: Key,
        due: u64,
    ) -> Result<(), QuotaError> {
        let added = self.records.now_ms();
        let until = due.max(added) + self.records.timing.job_index.as_millis() as u64;
        let reservation = Reservation { quota: quota.clone(), job, until, added };
        let (outcome, begins) = {
            let mut state = self.lock();
            let period = self.records.timing.quota_write;
            let outcome = if state.count.admit_unwritten(&reservation, Instant::now(), period) {
                None
            } else {
                let (reply, outcome) = oneshot::channel();
                state.waiting.push(WaitingReservation { reservation, reply });
                Some(outcome)
            };
            (outcome, !std::mem::replace(&mut state.at_work, true))
        };
        if begins {
            // a task of its own, because the other reservations wait for it when this caller is gone
            let this = self.clone();
            tokio::spawn(async move { this.run().await });
        }
        let Some(outcome) = outcome else { return Ok(()) };
        self.submitted.notify_one();
        outcome.await.unwrap_or(Err(QuotaError::Unavailable))
    }

    /// Removes a job that has ended.
    pub(super) fn is_over(&self, job: Key) {
        self.lock().count.is_over(job);
    }

    /// Returns whether a job waits or is unwritten.
    pub(super) fn is_at_work(&self) -> bool {
        self.lock().at_work
    }

    /// Waits until no job waits and none is unwritten.
    pub(super) async fn stopped(&self) {
        loop {
            // registered by its creation, so that an end after the check is noticed
            let stopped = self.stopped.notified();
            if !self.is_at_work() {
                return;
            }
            stopped.await;
        }
    }

    /// Counts the jobs that wait and writes the unwritten ones, until there are none.
    async fn run(&self) {
        loop {
            match self.next_step() {
                QuotaStep::Stop => return self.stopped.notify_waiters(),
                QuotaStep::Wait(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = self.submitted.notified() => {}
                },
                QuotaStep::Count(waiting) => {
                    let written = self.count_waiting(waiting).await;
                    if written.is_err() {
                        // unwritten jobs stay counted here, and the next submission tries again as well
                        tokio::select! {
                            () = self.records.wait_to_retry() => {}
                            () = self.submitted.notified() => {}
                        }
                    }
                }
            }
        }
    }

    fn next_step(&self) -> QuotaStep {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            return QuotaStep::Count(std::mem::take(&mut state.waiting));
        }
        match state.count.next_write(self.records.timing.quota_write) {
            None => {
                state.at_work = false;
                QuotaStep::Stop
            }
            Some(due) if due <= Instant::now() => QuotaStep::Count(Vec::new()),
            Some(due) => QuotaStep::Wait(due),
        }
    }

    /// Counts the jobs of a batch and replies to each.
    async fn count_waiting(&self, waiting: Vec<WaitingReservation>) -> Result<(), Unavailable> {
        let (mut batch, replies): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|one| (one.reservation, one.reply)).unzip();
        let read = self.read_if_needed(&batch).await;
        let period = self.records.timing.quota_write;
        let mut writes = Vec::new();
        {
            let now = Instant::now();
            let mut state = self.lock();
            let mut replies = replies.into_iter();
            batch.retain(|reservation| {
                let Some(reply) = replies.next() else { return false };
                if state.count.admit_unwritten(reservation, now, period) {
                    // an error means that the caller is gone; its job counts until the row is checked
                    let _ = reply.send(Ok(()));
                    return false;
                }
                writes.push(reply);
                true
            });
            let due = state.count.next_write(period).is_some_and(|due| due <= now);
            if read.is_ok() && batch.is_empty() && !due {
                return Ok(());
            }
        }
        let counted = match read {
            Ok(()) => self.count(&batch).await,
            Err(Unavailable) => Err(Unavailable),
        };
        for (number, reply) in writes.into_iter().enumerate() {
            let outcome = match &counted {
                Ok(outcomes) => outcomes.get(number).copied().unwrap_or(Err(QuotaError::Unavailable)),
                Err(Unavailable) => Err(QuotaError::Unavailable),
            };
            let _ = reply.send(outcome);
        }
        counted.map(|_| ())
    }

    /// Writes the row with all unwritten jobs and the admitted jobs of a batch, and returns the outcome of each.
    async fn count(&self, batch: &[Reservation]) -> Result<Vec<Result<(), QuotaError>>, Unavailable> {
        for _ in 0..TRIES {
            self.read_if_needed(&[]).await?;
            let full = |write: &QuotaWrite| write.outcomes.iter().any(Result::is_err);
            if self.lock().count.plan_write(batch).is_some_and(|write| full(&write)) && self.may_check() {
                self.forget_ended().await?;
            }
            let write = {
                let mut state = self.lock();
                let Some(write) = state.count.plan_write(batch) else { continue };
                if !state.count.has_unwritten() && write.outcomes.iter().all(Result::is_err) {
                    return Ok(write.outcomes);
                }
                state.count.begin_write();
                write
            };
            let QuotaWrite { row, rev, outcomes } = write;
            match self.write(row, rev).await {
                Ok(()) => return Ok(outcomes),
                // another node was first, or the outcome is unknown: the row is read again
                Err(WriteError::Conflict { .. } | WriteError::Unknown) => {}
                Err(WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
        }
        Err(Unavailable)
    }

    /// Reads the row if it is not known, or is too old for these jobs.
    async fn read_if_needed(&self, batch: &[Reservation]) -> Result<(), Unavailable> {
        let seen = Instant::now();
        if !self.lock().count.needs_read(batch, seen, self.records.timing.quota_write) {
            return Ok(());
        }
        let entry = self.records.store.get(&self.key, Consistency::Latest).await?;
        let rev = entry.as_ref().map(|entry| entry.rev);
        // a row in the format of another release is replaced
        let row = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default();
        self.lock().count.read(row, rev, seen);
        Ok(())
    }

    /// Returns whether the records of a full row may be read now.
    fn may_check(&self) -> bool {
        let pace = self.records.timing.lease_renew / 3;
        let mut state = self.lock();
        let may = state.checked.is_none_or(|checked| checked.elapsed() >= pace);
        if may {
            state.checked = Some(Instant::now());
        }
        may
    }

    async fn write(&self, row: QuotaRow, rev: Option<u64>) -> Result<(), WriteError> {
        let (seen, now) = (Instant::now(), self.records.now_ms());
        let ttl = Duration::from_secs((row.until.saturating_sub(now) / 1000).max(1));
        let expect = rev.map_or(Precondition::Absent, Precondition::Rev);
        let put = Put { ttl: Some(ttl), ..Put::new(self.key.as_str(), wire::encode(&row), expect) };
        let written = self.records.store.put(put).await;
        let mut state = self.lock();
        match written {
            Ok(rev) => state.count.written(row, rev, seen),
            Err(_) => state.count.not_written(),
        }
        written.map(|_| ())
    }

    /// Removes ended jobs from the count. Jobs with an open record stay, and so do recent jobs, because their record
    /// may not be written yet.
    async fn forget_ended(&self) -> Result<(), Unavailable> {
        let recent =
            self.records.now_ms().saturating_sub(self.records.timing.operation.as_millis() as u64 * 2);
        let open = self.lock().count.open();
        let looks = open.into_iter().map(async |(job, _, added)| {
            let stored = self.records.get(job).await?;
            let open = match stored {
                Some(stored) => !stored.record.state.is_terminal(),
                None => added > recent,
            };
            Ok::<_, Unavailable>((job, open))
        });
        let looked: Vec<_> = stream::iter(looks).buffered(READS).collect().await;
        for look in looked {
            let (job, open) = look?;
            if !open {
                self.lock().count.is_over(job);
            }
        }
        Ok(())
    }
}
