//! Submitting a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::change::Change;
use super::quota::Quota;
use super::record::{Affinity, JobState, MAX_CONTENT, Record, Waiter};
use super::store::{Jobs, StoredJob, TransitionFailure, stored};
use super::transition::RecordEvent;
use super::unix_ms;
use crate::engine::{Consistency, Precondition, Put, Unavailable};
use crate::id::{Address, Key};
use crate::subject::job_key;
use crate::wire;
use crate::worker::WorkerGroup;

/// Work to do.
#[derive(Debug)]
pub struct Submission {
    /// The handler's name.
    pub kind: String,
    /// The handler's argument.
    pub data: Box<RawValue>,
    /// Whose workers.
    pub team: WorkerGroup,
    /// Which of them.
    pub affinity: Affinity,
    /// For whom.
    pub user: Option<String>,
    /// The page that waits for it.
    pub page: Option<Address>,
    /// The page's own id of the request; without one it knows the job by the job's id.
    pub frame: Option<Box<RawValue>>,
    /// Not before, in milliseconds since the Unix epoch.
    pub run_at: Option<u64>,
    /// How often it may run again after a failure.
    pub retries: u32,
    /// The same key twice is one job.
    pub idempotency: Option<Idempotency>,
    /// What it is counted for; `None` for what is not.
    pub quota: Option<Quota>,
}

/// Names a submission, so that it happens once however often it is sent.
#[derive(Debug)]
pub struct Idempotency {
    /// Keys of different scopes never meet: one caller cannot guess another's.
    pub scope: String,
    /// The caller's own key.
    pub key: String,
}

/// A submitted job.
#[derive(Debug)]
pub struct Submitted {
    /// Its record.
    pub record: Record,
    /// Whether this submission made it.
    pub fresh: bool,
}

/// Why a job was not submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The same idempotency key came with other content.
    #[error("this idempotency key was used for another job")]
    Conflict,
    /// More than [`MAX_CONTENT`].
    #[error("the data of a job has at most {MAX_CONTENT} bytes")]
    TooLarge,
    /// The page has as many open jobs as it may.
    #[error("too many open jobs of this page")]
    PageFull,
    /// The user or anonymous browser has as many open jobs as it may.
    #[error("too many open jobs of this user or browser")]
    AccountFull,
    /// The engine does not answer; it may have happened.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
}

impl From<Unavailable> for SubmitError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// What an idempotency key stands for.
#[derive(Debug, Serialize, Deserialize)]
struct IdempotencyRow {
    job: Key,
    content: String,
}

impl Jobs {
    /// Writes the record, then says that it waits: to workers, for nobody can watch it yet. When `accepted` runs the job is durable and no worker has heard
    /// of it yet.
    pub async fn submit(
        &self,
        submission: Submission,
        accepted: impl FnOnce(&Record),
    ) -> Result<Submitted, SubmitError> {
        if submission.data.get().len() > MAX_CONTENT {
            return Err(SubmitError::TooLarge);
        }
        let job = match &submission.idempotency {
            None => Key::random(),
            Some(idempotency) => self.reserve_idempotency_key(idempotency, &submission).await?,
        };
        let quota = submission.quota.clone();
        let record = record(job, submission);
        if let Some(quota) = quota {
            self.reserve(&quota, job, record.due).await?;
        }
        let pointed = self.index_by_frame(&record);
        let created = self.create(&record);
        let (pointed, created) = tokio::join!(pointed, created);
        pointed?;
        let Some(rev) = created? else {
            let joined = self.add_waiter(record).await?;
            accepted(&joined.record);
            return Ok(joined);
        };
        accepted(&record);
        let delay = Duration::from_millis(record.due.saturating_sub(record.created));
        let stored = StoredJob { record, rev };
        self.enqueue(&stored, delay).await;
        Ok(Submitted { record: stored.record, fresh: true })
    }

    /// The job that a page meant by one of its frame ids.
    pub async fn of_page(&self, page: Key, frame: &str) -> Result<Option<Key>, Unavailable> {
        let entry = self.store.get(&job_key::of_page(page, frame), Consistency::Latest).await?;
        Ok(entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok()))
    }

    /// The job of an idempotency key: a fresh one if the key is.
    async fn reserve_idempotency_key(
        &self,
        key: &Idempotency,
        submission: &Submission,
    ) -> Result<Key, SubmitError> {
        let row = IdempotencyRow { job: Key::random(), content: content(submission) };
        let name = job_key::idempotency(&digest(&[&key.scope, &key.key]));
        let put = Put {
            ttl: Some(self.timing.job_retention),
            ..Put::new(name.as_str(), wire::encode(&row), Precondition::Absent)
        };
        if self.put_until_known(put).await?.is_some() {
            return Ok(row.job);
        }
        let entry = self.store.get(&name, Consistency::Latest).await?.ok_or(SubmitError::Unavailable)?;
        match serde_json::from_slice::<IdempotencyRow>(&entry.value) {
            Ok(standing) if standing.content == row.content => Ok(standing.job),
            _ => Err(SubmitError::Conflict),
        }
    }

    /// The page may name the job by its frame id: to cancel it, and to ask for its end when it comes back.
    async fn index_by_frame(&self, record: &Record) -> Result<(), SubmitError> {
        let Some(asker) = record.askers.first() else { return Ok(()) };
        let key = job_key::of_page(asker.page.key, asker.frame.get());
        let ahead = Duration::from_secs(record.due.saturating_sub(record.created) / 1000);
        let ttl = Some(self.timing.job_retention + ahead);
        let put = Put { ttl, ..Put::new(key, record.id.to_string(), Precondition::Any) };
        self.put_until_known(put).await?;
        Ok(())
    }

    /// The record's revision; `None` when it is there already.
    async fn create(&self, record: &Record) -> Result<Option<u64>, SubmitError> {
        Ok(self.put_until_known(self.put(record, Precondition::Absent)).await?)
    }

    /// The same submission again: the job that stands, and one more page that waits for it.
    async fn add_waiter(&self, wanted: Record) -> Result<Submitted, SubmitError> {
        let entry = self.store.get(&job_key::job(wanted.id), Consistency::Latest).await?;
        let standing = entry.and_then(stored).ok_or(SubmitError::Unavailable)?;
        let asker = wanted.askers.into_iter().next();
        let Some(asker) = asker else { return Ok(Submitted { record: standing.record, fresh: false }) };
        let until = Instant::now() + self.timing.deliver;
        let goes_on = |sent| sent && Instant::now() < until;
        match self
            .change_until_known(Change::new(RecordEvent::AddWaiter(asker)), standing, None, goes_on)
            .await
        {
            Ok(changed) => Ok(Submitted { record: changed.stored.record, fresh: false }),
            // it is over: the caller reads its end here
            Err(TransitionFailure::Refused(_, stored)) => {
                Ok(Submitted { record: stored.record, fresh: false })
            }
            Err(_) => Err(SubmitError::Unavailable),
        }
    }
}

fn record(id: Key, submission: Submission) -> Record {
    let frame = submission.frame.unwrap_or_else(|| named(id));
    let asker = submission.page.map(|page| Waiter { page, frame });
    let created = unix_ms();
    let due = submission.run_at.unwrap_or(created).max(created);
    Record {
        id,
        kind: submission.kind,
        data: submission.data,
        state: if due > created { JobState::Scheduled } else { JobState::Queued },
        attempts: 0,
        retries: submission.retries,
        progress: None,
        result: None,
        error: None,
        worker: None,
        release: None,
        cancelling: false,
        affinity: submission.affinity,
        pool: submission.team.pool,
        lane: submission.team.lane,
        user: submission.user,
        askers: asker.into_iter().collect(),
        created,
        due,
        started: None,
        ended: None,
    }
}

/// The id of a job as a JSON string.
fn named(id: Key) -> Box<RawValue> {
    // base62 needs no escapes
    RawValue::from_string(format!("\"{id}\"")).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// What makes two submissions the same work.
fn content(submission: &Submission) -> String {
    let user = submission.user.as_deref().unwrap_or_default();
    let run_at = submission.run_at.map(|at| at.to_string()).unwrap_or_default();
    let retries = submission.retries.to_string();
    digest(&[&submission.kind, submission.data.get(), user, &submission.team.pool, &run_at, &retries])
}

/// Each part with its length, so that no two lists of parts look alike.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
