//! The row of one account that submits jobs through its pages.
//!
//! Owns: the row as this process knows it, and the one task that writes it: jobs that are submitted meanwhile wait for the
//! next write and share it. Never: the limits (`quota`).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::quota::{Quota, QuotaError, QuotaRow};
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
struct Reservation {
    quota: Quota,
    job: Key,
    due: u64,
    reply: oneshot::Sender<Result<(), QuotaError>>,
}

/// What this process knows of the row.
#[derive(Default)]
struct QuotaState {
    /// `None`: the row has to be read.
    row: Option<QuotaRow>,
    /// Revision of the row; `None` if it does not exist.
    rev: Option<u64>,
    /// Jobs that have ended since the row was written.
    ended: HashSet<Key>,
    /// When the records of its jobs were read last.
    checked: Option<Instant>,
    waiting: Vec<Reservation>,
    /// Whether the task runs that writes the row.
    writing: bool,
}

/// The row of one account.
pub(super) struct QuotaWriter {
    records: Arc<JobRecords>,
    key: String,
    state: Mutex<QuotaState>,
}

impl QuotaWriter {
    pub(super) fn new(records: Arc<JobRecords>, account: &Account) -> Self {
        let key = match account {
            Account::User(user) => job_key::quota_of_user(&SubjectToken::new(user)),
            Account::Connection(connection) => job_key::quota_of_connection(*connection),
        };
        Self { records, key, state: Mutex::default() }
    }

    /// Each change leaves the state consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, QuotaState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a job.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        quota: &Quota,
        job: Key,
        due: u64,
    ) -> Result<(), QuotaError> {
        let (reply, outcome) = oneshot::channel();
        let begins = {
            let mut state = self.lock();
            state.waiting.push(Reservation { quota: quota.clone(), job, due, reply });
            !std::mem::replace(&mut state.writing, true)
        };
        if begins {
            // a task of its own, because the other reservations wait for it when this caller is gone
            let this = self.clone();
            tokio::spawn(async move { while this.write_next().await {} });
        }
        outcome.await.unwrap_or(Err(QuotaError::Unavailable))
    }

    /// Removes a job that has ended.
    pub(super) fn is_over(&self, job: Key) {
        let mut state = self.lock();
        let counted = state.row.as_mut().is_some_and(|row| {
            let before = row.open.len();
            row.open.retain(|(open, ..)| *open != job);
            row.open.len() < before
        });
        if counted || state.writing {
            state.ended.insert(job);
        }
    }

    /// Writes the row with all jobs that wait. Returns `false` when no job waits any more.
    async fn write_next(&self) -> bool {
        let batch = {
            let mut state = self.lock();
            if state.waiting.is_empty() {
                state.writing = false;
                return false;
            }
            std::mem::take(&mut state.waiting)
        };
        let outcomes = self.count(&batch).await;
        for (number, reservation) in batch.into_iter().enumerate() {
            let outcome = match &outcomes {
                Ok(outcomes) => outcomes.get(number).copied().unwrap_or(Err(QuotaError::Unavailable)),
                Err(Unavailable) => Err(QuotaError::Unavailable),
            };
            // an error means that the caller is gone; its job counts until the row is checked
            let _ = reservation.reply.send(outcome);
        }
        true
    }

    /// Counts the jobs of a batch and returns the outcome of each.
    async fn count(&self, batch: &[Reservation]) -> Result<Vec<Result<(), QuotaError>>, Unavailable> {
        for _ in 0..TRIES {
            let (mut row, rev) = self.current().await?;
            let now = self.records.now_ms();
            let mut outcomes = admit(&mut row, batch, now);
            if outcomes.iter().any(Result::is_err) && self.may_check() {
                let (mut checked, _) = self.current().await?;
                self.forget_ended(&mut checked).await?;
                row = checked.clone();
                self.lock().row = Some(checked);
                outcomes = admit(&mut row, batch, now);
            }
            let index = self.records.timing.job_index.as_millis() as u64;
            let counted = batch.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            let until = counted.map(|(reservation, _)| reservation.due.max(now) + index).max();
            let Some(until) = until else { return Ok(outcomes) };
            row.until = row.until.max(until);
            match self.write(row, rev, now).await {
                Ok(()) => return Ok(outcomes),
                // another node was first, or the outcome is unknown: the row is read again
                Err(WriteError::Conflict { .. } | WriteError::Unknown) => self.lock().row = None,
                Err(WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
        }
        Err(Unavailable)
    }

    /// Returns the row without the jobs that have ended, and its revision.
    async fn current(&self) -> Result<(QuotaRow, Option<u64>), Unavailable> {
        let known = { self.lock().row.is_some() };
        if !known {
            let entry = self.records.store.get(&self.key, Consistency::Latest).await?;
            let rev = entry.as_ref().map(|entry| entry.rev);
            // a row in the format of another release is replaced
            let row = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default();
            let mut state = self.lock();
            (state.row, state.rev) = (Some(row), rev);
        }
        let mut state = self.lock();
        let ended = state.ended.clone();
        let row = state.row.get_or_insert_default();
        row.open.retain(|(open, ..)| !ended.contains(open));
        let row = row.clone();
        Ok((row, state.rev))
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

    async fn write(&self, row: QuotaRow, rev: Option<u64>, now: u64) -> Result<(), WriteError> {
        let ttl = Duration::from_secs((row.until.saturating_sub(now) / 1000).max(1));
        let expect = rev.map_or(Precondition::Absent, Precondition::Rev);
        let put = Put { ttl: Some(ttl), ..Put::new(self.key.as_str(), wire::encode(&row), expect) };
        let rev = self.records.store.put(put).await?;
        let mut state = self.lock();
        // what has ended during the write is in the stored row until the next write
        state.ended.retain(|job| row.open.iter().any(|(open, ..)| open == job));
        (state.row, state.rev) = (Some(row), Some(rev));
        Ok(())
    }

    /// Removes ended jobs from a row. Jobs with an open record stay, and so do recent jobs, because their record may
    /// not be written yet.
    async fn forget_ended(&self, row: &mut QuotaRow) -> Result<(), Unavailable> {
        let recent =
            self.records.now_ms().saturating_sub(self.records.timing.operation.as_millis() as u64 * 2);
        let places = std::mem::take(&mut row.open);
        let looks = places.into_iter().map(async |place| {
            let stored = self.records.get(place.0).await?;
            let open = match stored {
                Some(stored) => !stored.record.state.is_terminal(),
                None => place.2 > recent,
            };
            Ok::<_, Unavailable>((place, open))
        });
        let looked: Vec<_> = stream::iter(looks).buffered(READS).collect().await;
        for look in looked {
            let (place, open) = look?;
            if open {
                row.open.push(place);
            }
        }
        Ok(())
    }
}

/// Adds the jobs of a batch to a row, in their order, and returns the outcome of each.
fn admit(row: &mut QuotaRow, batch: &[Reservation], now: u64) -> Vec<Result<(), QuotaError>> {
    let admit_one = |Reservation { quota, job, .. }: &Reservation| {
        if row.open.iter().any(|(open, ..)| open == job) {
            return Ok(());
        }
        match row.full(quota) {
            Some(full) => Err(full),
            None => {
                row.open.push((*job, quota.page, now));
                Ok(())
            }
        }
    };
    batch.iter().map(admit_one).collect()
}
