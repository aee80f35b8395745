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
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::records::JobRecords;
use crate::engine::{Consistency, Precondition, Put, Unavailable, WriteError};
use crate::id::{Account, Key};
use crate::subject::{SubjectToken, job_key};
use crate::wire;

/// Rows that a process caches; above this number, the cache is cleared and all rows are read again.
const MOST_ROWS: usize = 4096;
/// How often the write of a row is tried while other writers are faster.
const TRIES: usize = 64;
/// Records that are read concurrently to find jobs that have ended.
const READS: usize = 32;

fn row_key(account: &Account) -> String {
    match account {
        Account::User(user) => job_key::quota_of_user(&SubjectToken::new(user)),
        Account::Connection(connection) => job_key::quota_of_connection(*connection),
    }
}

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
type Place = (Key, Key, u64);

/// The value of a row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Row {
    /// When the row expires, in milliseconds since the Unix epoch.
    until: u64,
    open: Vec<Place>,
}

/// A row as this process has read or written it last.
#[derive(Debug, Clone, Default)]
struct CachedQuota {
    row: Row,
    /// `None`: the row does not exist.
    rev: Option<u64>,
    /// When the records of its jobs were read last.
    checked: Option<Instant>,
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

impl Row {
    /// Returns the exceeded limit, if there is one.
    fn full(&self, quota: &Quota) -> Option<QuotaError> {
        if self.open.iter().filter(|(_, page, _)| *page == quota.page).count() >= quota.per_page {
            return Some(QuotaError::PageFull);
        }
        (self.open.len() >= quota.per_account).then_some(QuotaError::AccountFull)
    }
}

/// The limits of open jobs, with the rows that this process has used recently.
pub struct Quotas {
    records: Arc<JobRecords>,
    cache: Mutex<HashMap<Account, CachedQuota>>,
}

impl Quotas {
    pub(super) fn new(records: Arc<JobRecords>) -> Self {
        Self { records, cache: Mutex::default() }
    }

    /// Each change leaves the map consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Account, CachedQuota>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, account: &Account, known: CachedQuota) {
        let mut rows = self.lock();
        if rows.len() >= MOST_ROWS && !rows.contains_key(account) {
            rows.clear();
        }
        rows.insert(account.clone(), known);
    }

    /// Counts a job that is about to be submitted.
    ///
    /// # Errors
    ///
    /// [`QuotaError::PageFull`] or [`QuotaError::AccountFull`] when a limit is reached; [`QuotaError::Unavailable`]
    /// when the engine does not reply.
    pub(super) async fn reserve(&self, quota: &Quota, job: Key, due: u64) -> Result<(), QuotaError> {
        let account = &quota.account;
        for _ in 0..TRIES {
            let cached = self.lock().get(account).cloned();
            let mut known = match cached {
                Some(known) => known,
                None => self.read(account).await?,
            };
            if known.row.open.iter().any(|(open, ..)| *open == job) {
                return Ok(());
            }
            if known.row.full(quota).is_some() {
                let pace = self.records.timing.lease_renew / 3;
                if known.checked.is_none_or(|checked| checked.elapsed() >= pace) {
                    self.forget_ended(&mut known.row).await?;
                    known.checked = Some(Instant::now());
                    self.remember(account, known.clone());
                }
                if let Some(full) = known.row.full(quota) {
                    return Err(full);
                }
            }
            let now = self.records.now_ms();
            known.row.open.push((job, quota.page, now));
            known.row.until =
                known.row.until.max(due.max(now) + self.records.timing.job_index.as_millis() as u64);
            if self.write(account, known, now).await? {
                return Ok(());
            }
        }
        Err(QuotaError::Unavailable)
    }

    /// Removes a job of an account from the cached row, because a page of this process was notified of its end.
    pub fn is_over(&self, account: &Account, job: Key) {
        if let Some(known) = self.lock().get_mut(account) {
            known.row.open.retain(|(open, ..)| *open != job);
        }
    }

    async fn read(&self, account: &Account) -> Result<CachedQuota, Unavailable> {
        let Some(entry) = self.records.store.get(&row_key(account), Consistency::Latest).await? else {
            return Ok(CachedQuota::default());
        };
        // a row in the format of another release is replaced
        let row = serde_json::from_slice(&entry.value).unwrap_or_default();
        Ok(CachedQuota { row, rev: Some(entry.rev), checked: None })
    }

    /// Writes a row. Returns `false` when another writer was first or the outcome is unknown: the row has to be read
    /// again.
    async fn write(&self, account: &Account, mut known: CachedQuota, now: u64) -> Result<bool, QuotaError> {
        let ttl = Duration::from_secs((known.row.until.saturating_sub(now) / 1000).max(1));
        let expect = known.rev.map_or(Precondition::Absent, Precondition::Rev);
        let put = Put { ttl: Some(ttl), ..Put::new(row_key(account), wire::encode(&known.row), expect) };
        match self.records.store.put(put).await {
            Ok(rev) => {
                known.rev = Some(rev);
                self.remember(account, known);
                Ok(true)
            }
            Err(WriteError::Conflict { .. } | WriteError::Unknown) => {
                self.lock().remove(account);
                Ok(false)
            }
            Err(WriteError::Down | WriteError::Invalid) => Err(QuotaError::Unavailable),
        }
    }

    /// Removes ended jobs from a row. Jobs with an open record stay, and so do recent jobs, because their record may
    /// not be written yet.
    async fn forget_ended(&self, row: &mut Row) -> Result<(), Unavailable> {
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
