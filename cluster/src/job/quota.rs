//! Limits the open jobs of a page, and of the user or anonymous browser behind it.
//!
//! Owns: one row per user or browser, `quota.…` in the bucket `jobs`, with the jobs that it has submitted through its
//! pages and that were not known to have ended when the row was written. Never: a record. The end of a job does not
//! have to change the row: a full list is checked against the records, and jobs that have ended or are gone are removed
//! from it.
//!
//! So the limit holds when a process exits at any point, and over all nodes together. It is not exact accounting: the
//! row expires a day after the last job was due, and a job without a written record counts for a short time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::quota_writer::QuotaWriter;
use super::records::JobRecords;
use crate::engine::Unavailable;
use crate::id::{Account, Key};

/// Rows that a process caches; above this number, the cache is cleared and all rows are read again.
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
}

/// The limits of open jobs, with the rows that this process has used recently.
pub struct Quotas {
    records: Arc<JobRecords>,
    cache: Mutex<HashMap<Account, Arc<QuotaWriter>>>,
}

impl Quotas {
    pub(super) fn new(records: Arc<JobRecords>) -> Self {
        Self { records, cache: Mutex::default() }
    }

    /// Each change leaves the map consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Account, Arc<QuotaWriter>>> {
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

    fn writer(&self, account: &Account) -> Arc<QuotaWriter> {
        let mut writers = self.lock();
        if let Some(writer) = writers.get(account) {
            return writer.clone();
        }
        if writers.len() >= MOST_ROWS {
            writers.clear();
        }
        let writer = Arc::new(QuotaWriter::new(self.records.clone(), account));
        writers.insert(account.clone(), writer.clone());
        writer
    }

    /// Removes a job of an account from its row, because a page of this process was notified of its end. The row is
    /// written with the next job.
    pub fn is_over(&self, account: &Account, job: Key) {
        let writer = self.lock().get(account).cloned();
        if let Some(writer) = writer {
            writer.is_over(job);
        }
    }
}
