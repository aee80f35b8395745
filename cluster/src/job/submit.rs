//! Submits jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::idle_offer::Offer;
use super::parts::Jobs;
use super::quota::{Quota, QuotaError};
use super::record::{JobState, MAX_CONTENT, Record, Waiter};
use super::stored::{StoredJob, TransitionFailure};
use super::transition::RecordEvent;
use crate::engine::{Consistency, Precondition, Put, Unavailable};
use crate::id::{Address, Key};
use crate::subject::job_key;
use crate::trace::TraceParent;
use crate::wire;
use crate::worker::{Affinity, WorkerGroup};

/// A job to submit.
#[derive(Debug)]
pub struct Submission {
    /// Name of the handler.
    pub kind: String,
    /// Argument of the handler.
    pub data: Box<RawValue>,
    /// Worker group that runs the job.
    pub team: WorkerGroup,
    /// Revision of the rollout that decided the lane of the group; 0 without one.
    pub lane_rev: u64,
    /// Selects the lane of a job without a user.
    pub routing: Option<Key>,
    /// Which worker of the group may run it.
    pub affinity: Affinity,
    /// User for whom the job runs.
    pub user: Option<String>,
    /// Page that waits for the job.
    pub page: Option<Address>,
    /// Session of that page.
    pub session: Option<Key>,
    /// Connection of that page.
    pub connection: Option<Key>,
    /// Request id of the page; without one, the page knows the job by the id of the job.
    pub frame: Option<Box<RawValue>>,
    /// Earliest time to run, in milliseconds since the Unix epoch.
    pub run_at: Option<u64>,
    /// The same, from its submission on. With an idempotency key this duration counts, and not the time that it leads to.
    pub run_in: Option<Duration>,
    /// How often the job may run again after a failure.
    pub retries: u32,
    /// Idempotency key: two submissions with the same key are one job.
    pub idempotency: Option<Idempotency>,
    /// Limits that apply to the submission; `None` for no limit.
    pub quota: Option<Quota>,
    /// Trace context of the submitter.
    pub trace: Option<TraceParent>,
}

/// Names a submission, so that it creates one job however often it is sent.
#[derive(Debug)]
pub struct Idempotency {
    /// Scope of the key. Equal keys of different scopes are different, so that no caller can guess the key of another.
    pub scope: String,
    /// Key chosen by the caller.
    pub key: String,
}

/// A submitted job.
#[derive(Debug)]
pub struct Submitted {
    /// Record of the job.
    pub record: Record,
    /// Whether this submission created the job.
    pub fresh: bool,
}

/// Why a job was not submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The same idempotency key was used with other content.
    #[error("this idempotency key was used for another job")]
    Conflict,
    /// The data has more than [`MAX_CONTENT`] bytes.
    #[error("the data of a job has at most {MAX_CONTENT} bytes")]
    TooLarge,
    /// The page has reached its limit of open jobs.
    #[error("too many open jobs of this page")]
    PageFull,
    /// The user or anonymous browser has reached its limit of open jobs.
    #[error("too many open jobs of this user or browser")]
    AccountFull,
    /// The engine does not reply; the submission may have happened.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
}

impl From<Unavailable> for SubmitError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl From<QuotaError> for SubmitError {
    fn from(error: QuotaError) -> Self {
        match error {
            QuotaError::PageFull => Self::PageFull,
            QuotaError::AccountFull => Self::AccountFull,
            QuotaError::Unavailable => Self::Unavailable,
        }
    }
}

/// The value of an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
struct IdempotencyRow {
    job: Key,
    content: String,
}

impl Jobs {
    /// Offers the job to an idle worker, or else writes the record and enqueues it for workers; watchers are not notified,
    /// because no process can watch a new job yet. `accepted` runs when a new job is durable, and before a worker sees the job
    /// of a page. The record is that of the submission: a worker may run the job already.
    pub async fn submit(
        &self,
        submission: Submission,
        accepted: impl FnOnce(&Record),
    ) -> Result<Submitted, SubmitError> {
        if submission.data.get().len() > MAX_CONTENT {
            return Err(SubmitError::TooLarge);
        }
        let by_frame = match (&submission.idempotency, submission.page, &submission.frame) {
            (None, Some(page), Some(frame)) => Some(job_of_frame(page.key, frame.get())),
            _ => None,
        };
        let job = match (&submission.idempotency, by_frame) {
            (Some(idempotency), _) => self.reserve_idempotency_key(idempotency, &submission).await?,
            (None, Some(job)) => job,
            (None, None) => Key::random(),
        };
        let quota = submission.quota.clone();
        let mut record = record(job, submission, self.records.now_ms());
        if let Some(quota) = &quota {
            self.quotas.reserve(quota, job, record.due).await?;
        }
        let offer = self.idle_offers.offer(&record).await;
        let mut created = match (offer, by_frame) {
            (Offer::Taken, _) => None,
            (_, Some(_)) => self.records.create(&record).await?,
            (_, None) => self.create_with_index(&record).await?,
        };
        if created.is_none() && by_frame.is_some() {
            // the page has used this request id for an earlier job
            record.id = Key::random();
            if let Some(quota) = &quota {
                self.quotas.reserve(quota, record.id, record.due).await?;
            }
            created = self.create_with_index(&record).await?;
        }
        if created.is_none() && offer != Offer::Declined {
            // a worker has created it, and its answer may have been lost or late
            accepted(&record);
            return Ok(Submitted { record, fresh: true });
        }
        let Some(rev) = created else {
            let joined = self.add_waiter(record).await?;
            accepted(&joined.record);
            return Ok(joined);
        };
        accepted(&record);
        let delay = Duration::from_millis(record.due.saturating_sub(record.created));
        let stored = StoredJob { record, rev };
        self.dispatcher.enqueue(&stored, delay).await;
        Ok(Submitted { record: stored.record, fresh: true })
    }

    /// Returns the job that a page submitted with one of its request ids.
    pub async fn of_page(&self, page: Key, frame: &str) -> Result<Option<Key>, Unavailable> {
        let entry = self.records.store.get(&job_key::of_page(page, frame), Consistency::Latest).await?;
        if let Some(entry) = entry {
            return Ok(std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()));
        }
        let job = job_of_frame(page, frame);
        Ok(self.records.get(job).await?.map(|_| job))
    }

    /// Returns the job of an idempotency key: a new one if the key is new.
    async fn reserve_idempotency_key(
        &self,
        key: &Idempotency,
        submission: &Submission,
    ) -> Result<Key, SubmitError> {
        let row = IdempotencyRow { job: Key::random(), content: content(submission) };
        let name = job_key::idempotency(&digest(&[&key.scope, &key.key]));
        let put = Put {
            ttl: Some(self.timing.job_index),
            ..Put::new(name.as_str(), wire::encode(&row), Precondition::Absent)
        };
        if self.records.put_until_known(put).await?.is_some() {
            return Ok(row.job);
        }
        let entry =
            self.records.store.get(&name, Consistency::Latest).await?.ok_or(SubmitError::Unavailable)?;
        match serde_json::from_slice::<IdempotencyRow>(&entry.value) {
            Ok(standing) if standing.content == row.content => Ok(standing.job),
            _ => Err(SubmitError::Conflict),
        }
    }

    /// Writes an index from the request id of the page to the job, so that the page can cancel the job by that id and
    /// request its end when it reconnects. A job with the id that [`job_of_frame`] returns needs none.
    async fn index_by_frame(&self, record: &Record) -> Result<(), SubmitError> {
        let Some(asker) = record.askers.first() else { return Ok(()) };
        let key = job_key::of_page(asker.page.key, asker.frame.get());
        let ahead = Duration::from_secs(record.due.saturating_sub(record.created) / 1000);
        let ttl = Some(self.timing.job_index + ahead);
        let put = Put { ttl, ..Put::new(key, record.id.to_string(), Precondition::Any) };
        self.records.put_until_known(put).await?;
        Ok(())
    }

    /// Creates the record and the index to it.
    async fn create_with_index(&self, record: &Record) -> Result<Option<u64>, SubmitError> {
        let (indexed, created) = tokio::join!(self.index_by_frame(record), self.records.create(record));
        indexed?;
        Ok(created?)
    }

    /// Handles a repeated submission: returns the existing job and adds one more page that waits for it.
    async fn add_waiter(&self, wanted: Record) -> Result<Submitted, SubmitError> {
        let entry = self.records.store.get(&job_key::job(wanted.id), Consistency::Latest).await?;
        let standing = entry.and_then(StoredJob::parse).ok_or(SubmitError::Unavailable)?;
        let asker = wanted.askers.into_iter().next();
        let Some(asker) = asker else { return Ok(Submitted { record: standing.record, fresh: false }) };
        match self.records.change_in_time(RecordEvent::AddWaiter(asker), standing).await {
            Ok(changed) => Ok(Submitted { record: changed.stored.record, fresh: false }),
            // the job has ended, so the caller reads its end from this record; or too many pages wait for it
            Err(TransitionFailure::Refused(_, stored)) => {
                Ok(Submitted { record: stored.record, fresh: false })
            }
            Err(_) => Err(SubmitError::Unavailable),
        }
    }
}

fn record(id: Key, submission: Submission, created: u64) -> Record {
    let frame = submission.frame.unwrap_or_else(|| named(id));
    let (session, connection) = (submission.session, submission.connection);
    let asker = submission.page.map(|page| Waiter { page, frame, session, connection });
    let run_in = submission.run_in.map(|after| created.saturating_add(after.as_millis() as u64));
    let due = submission.run_at.or(run_in).unwrap_or(created).max(created);
    Record {
        id,
        kind: submission.kind,
        data: submission.data,
        state: if due > created { JobState::Scheduled } else { JobState::Queued },
        attempts: 0,
        losses: 0,
        retries: submission.retries,
        retried: 0,
        progress: None,
        result: None,
        error: None,
        worker: None,
        release: None,
        cancelling: false,
        keyed: submission.idempotency.is_some(),
        affinity: submission.affinity,
        pool: submission.team.pool,
        lane: submission.team.lane,
        lane_rev: submission.lane_rev,
        routing: submission.routing,
        user: submission.user,
        askers: asker.into_iter().collect(),
        trace: submission.trace,
        created,
        due,
        started: None,
        ended: None,
    }
}

/// Returns the id of the first job that a page submits with a request id, so that the job is found without an index.
fn job_of_frame(page: Key, frame: &str) -> Key {
    let hash = Sha256::new().chain_update(page.bits().to_be_bytes()).chain_update(frame).finalize();
    Key::from_bits(hash.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
}

/// Returns the id of a job as a JSON string.
fn named(id: Key) -> Box<RawValue> {
    // base62 needs no escapes
    RawValue::from_string(format!("\"{id}\"")).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns a digest of the content that makes two submissions the same job.
fn content(submission: &Submission) -> String {
    let user = submission.user.as_deref().unwrap_or_default();
    let run_at = submission.run_at.map(|at| at.to_string()).unwrap_or_default();
    let retries = submission.retries.to_string();
    let run_in = submission.run_in.map(|after| after.as_millis().to_string());
    let data = submission.data.get();
    let mut parts = vec![submission.kind.as_str(), data, user, &submission.team.pool, &run_at, &retries];
    // an earlier release knows no such part: keys from before an update stay valid
    parts.extend(run_in.as_deref());
    digest(&parts)
}

/// Hashes each part with its length, so that different lists of parts have different digests.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
