//! Limits the open jobs of a page, and of the user or anonymous browser behind it.
//!
//! Owns: one row per user or browser, `quota.…` in the bucket `jobs`, with the jobs that it has submitted through its
//! pages and that were not known to have ended when the row was written. Never: a record. The end of a job does not
//! have to change the row: a full list is checked against the records, and jobs that have ended or are gone are removed
//! from it.
//!
//! While an account is far from its limits, a job is counted in memory first and written within
//! [`Timing::quota_write`](crate::timing::Timing::quota_write) (`quota_count`); a job that has ended by then is never
//! written. What holds:
//!
//! - The limits are exact as long as the pages of an account submit at one node at a time: no two nodes admit jobs of it
//!   within twice that period and the time of a write.
//! - If `n` nodes do, they admit together at most the limit and `n − 1` times a slack of [`Quota::slack`] jobs. The
//!   limit of a page is exact while the page does not move.
//! - A process that is killed forgets at most a slack of jobs of an account. These were admitted within the period and a
//!   write before that, or the engine was unavailable since. A process that stops writes them first
//!   ([`Quotas::write_all`]).
//!
//! It is not exact accounting: the row expires a day after the last job was due, and a job without a written record
//! counts for a short time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::quota_writer::QuotaWriter;
use super::records::JobRecords;
use crate::engine::Unavailable;
use crate::id::{Account, Key};

/// Rows that a process caches; above this number, all rows without an unwritten job are removed and read again.
const MOST_ROWS: usize = 4096;

/// The limits of one submission.
#[derive(Debug, Clone)]
pub struct Quota {
    /// The account that is counted.
    pub account: Account,
    /// Page of the submission.
    pub page: Key,
    /// Maximum number of open jobs of the page.
    pub per_page: usize,
    /// Maximum number of open jobs of the account.
    pub per_account: usize,
}

impl Quota {
    /// Returns how many open jobs a process may count in memory only, for one limit.
    pub const fn slack(limit: usize) -> usize {
        limit / 4
    }
}

/// A job that counts as open: its id, its page, and when it was added, in milliseconds since the Unix epoch.
pub(super) type Place = (Key, Key, u64);

/// The value of a row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct QuotaRow {
    /// When the row expires, in milliseconds since the Unix epoch.
    pub(super) until: u64,
    pub(super) open: Vec<Place>,
}

/// Why a job was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaError {
    /// The page has reached its limit.
    PageFull,
    /// The account has reached its limit.
    AccountFull,
    /// The engine does not reply, or other writers were faster each time.
    Unavailable,
}

impl From<Unavailable> for QuotaError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl QuotaRow {
    /// Returns the exceeded limit, if there is one.
    pub(super) fn full(&self, quota: &Quota) -> Option<QuotaError> {
        if self.open.iter().filter(|(_, page, _)| *page == quota.page).count() >= quota.per_page {
            return Some(QuotaError::PageFull);
        }
        (self.open.len() >= quota.per_account).then_some(QuotaError::AccountFull)
    }

    pub(super) fn contains(&self, job: Key) -> bool {
        self.open.iter().any(|(open, ..)| *open == job)
    }

    pub(super) fn jobs(&self) -> HashSet<Key> {
        self.open.iter().map(|(job, ..)| *job).collect()
    }

    /// Removes a job and returns whether the row contained it.
    pub(super) fn remove(&mut self, job: Key) -> bool {
        let before = self.open.len();
        self.open.retain(|(open, ..)| *open != job);
        self.open.len() < before
    }
}

/// The rows that this process has used recently.
struct QuotaCache {
    writers: HashMap<Account, Arc<QuotaWriter>>,
    /// The number of rows at which rows are removed.
    most: usize,
}

/// The limits of open jobs, with the rows that this process has used recently.
pub struct Quotas {
    records: Arc<JobRecords>,
    cache: Mutex<QuotaCache>,
}

impl Quotas {
    pub(super) fn new(records: Arc<JobRecords>) -> Self {
        let cache = QuotaCache { writers: HashMap::new(), most: MOST_ROWS };
        Self { records, cache: Mutex::new(cache) }
    }

    /// Each change leaves the map consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, QuotaCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a job that is about to be submitted.
    ///
    /// # Errors
    ///
    /// [`QuotaError::PageFull`] or [`QuotaError::AccountFull`] when a limit is reached; [`QuotaError::Unavailable`]
    /// when the engine does not reply.
    pub(super) async fn reserve(&self, quota: &Quota, job: Key, due: u64) -> Result<(), QuotaError> {
        self.writer(&quota.account).reserve(quota, job, due).await
    }

    /// Waits until every job that was counted in memory is written or has ended, for at most [`Timing::deliver`]. Called
    /// before the process exits.
    ///
    /// [`Timing::deliver`]: crate::timing::Timing::deliver
    pub async fn write_all(&self) {
        let writers: Vec<_> = self.lock().writers.values().cloned().collect();
        let all = async {
            for writer in writers {
                writer.stopped().await;
            }
        };
        if tokio::time::timeout(self.records.timing.deliver, all).await.is_err() {
            tracing::warn!("jobs of pages are not counted any more, because the engine is unavailable");
        }
    }

    fn writer(&self, account: &Account) -> Arc<QuotaWriter> {
        let mut cache = self.lock();
        if let Some(writer) = cache.writers.get(account) {
            return writer.clone();
        }
        if cache.writers.len() >= cache.most {
            // a writer at work counts jobs that are in no row yet
            cache.writers.retain(|_, writer| writer.is_at_work());
            cache.most = MOST_ROWS.max(cache.writers.len() * 2);
        }
        let writer = Arc::new(QuotaWriter::new(self.records.clone(), account));
        cache.writers.insert(account.clone(), writer.clone());
        writer
    }

    /// Removes a job of an account from its row, because a page of this process was notified of its end. The row is
    /// written with the next job that has to be written.
    pub fn is_over(&self, account: &Account, job: Key) {
        let writer = self.lock().writers.get(account).cloned();
        if let Some(writer) = writer {
            writer.is_over(job);
        }
    }
}
