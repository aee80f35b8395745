//! Records in their bucket: read directly, and changed only by events.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::change::Change;
use super::open_jobs::PendingRow;
use super::owner_cache::OwnerCache;
use super::quota::Quotas;
use super::record::{Affinity, JobState, Record};
use super::transition::{Effect, RecordEvent, TransitionError};
use crate::engine::{
    Bucket, Consistency, Engine, Enqueue, Entry, Kv, Message, Precondition, Put, QueueMessage, Unavailable,
    WriteError,
};
use crate::id::Key;
use crate::peer::PeerClient;
use crate::subject::{SubjectToken, Subjects, job_key, route, worker_leaf};
use crate::timing::Timing;
use crate::wire::{self, Cancel};
use crate::worker::{Workers, partition};

/// The jobs of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    pub(super) engine: Engine,
    pub(super) store: Kv,
    pub(super) subjects: Subjects,
    pub(super) timing: Timing,
    pub(super) workers: Workers,
    pub(super) post: PeerClient,
    pub(super) owners: OwnerCache,
    pub(super) quotas: Quotas,
}

/// Maximum size of a record inside a work item, in bytes: the worker that pulls the item reads a larger one.
const MAX_HINT: usize = 4 * 1024;

/// Maximum size of the metadata of an open row with its record, in bytes: a larger record is read by its worker.
const MAX_ROW: usize = 2 * 1024;

/// A record and its revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredJob {
    /// The record.
    pub record: Record,
    /// Revision of the record.
    pub rev: u64,
}

impl StoredJob {
    /// Encodes the record for its work item, so that a worker can claim it without a read; empty if it is too large.
    pub(super) fn hint(&self) -> Bytes {
        let hint = wire::encode(self);
        if hint.len() <= MAX_HINT { hint } else { Bytes::new() }
    }

    /// Parses the record in a work item, if there is one. The record may have changed since then: the claim is a
    /// compare-and-set on the revision at which it was enqueued, and reads the record when that revision is no longer
    /// current.
    pub(super) fn hinted(hint: &QueueMessage) -> Option<Self> {
        serde_json::from_slice(&hint.payload).ok()
    }
}

/// A record after an event, and the effect to run.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The record after the event.
    pub stored: StoredJob,
    /// The effect to run.
    pub after: Effect,
}

/// Why a record was not changed.
#[derive(Debug)]
pub enum TransitionFailure {
    /// The event is not allowed in the current state of the record.
    Refused(TransitionError, Box<StoredJob>),
    /// The record does not exist.
    Gone,
    /// The engine does not reply; the change may have happened.
    Unavailable,
}

impl Jobs {
    /// Opens the jobs of this engine's cluster. `workers` knows which workers are alive.
    pub fn new(engine: &Engine, subjects: &Subjects, timing: Timing, workers: &Workers) -> Self {
        Self {
            engine: engine.clone(),
            store: engine.kv(Bucket::Jobs),
            subjects: subjects.clone(),
            timing,
            workers: workers.clone(),
            post: PeerClient::new(engine, subjects, timing.deliver),
            owners: OwnerCache::default(),
            quotas: Quotas::default(),
        }
    }

    /// Returns the living workers, as this process sees them.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Returns the record of a job.
    pub async fn get(&self, job: Key) -> Result<Option<StoredJob>, Unavailable> {
        let entry = self.store.get(&job_key::job(job), Consistency::Latest).await?;
        Ok(entry.and_then(stored))
    }

    /// Returns at most `limit` records that were written after a revision, oldest write first.
    pub async fn scan(&self, after_rev: u64, limit: usize) -> Result<Vec<StoredJob>, Unavailable> {
        let entries = self.store.scan(job_key::JOBS, after_rev, limit).await?;
        Ok(entries.into_iter().filter_map(stored).collect())
    }

    /// Cancels a job in any state that is not final; the worker of a running job is requested to stop.
    pub async fn cancel(&self, job: Key) -> Result<Record, TransitionFailure> {
        self.apply_event(job, RecordEvent::Cancel).await
    }

    /// Runs a job again that has failed, was cancelled or is dead.
    pub async fn retry(&self, job: Key) -> Result<Record, TransitionFailure> {
        self.apply_event(job, RecordEvent::Retry).await
    }

    async fn apply_event(&self, job: Key, event: RecordEvent) -> Result<Record, TransitionFailure> {
        let stored = self
            .get(job)
            .await
            .map_err(|Unavailable| TransitionFailure::Unavailable)?
            .ok_or(TransitionFailure::Gone)?;
        let until = Instant::now() + self.timing.deliver;
        let goes_on = |sent| sent && Instant::now() < until;
        let changed = self.change_until_known(Change::new(event), stored, goes_on).await?;
        let record = changed.stored.record.clone();
        self.run_effect(changed).await;
        Ok(record)
    }

    /// Builds the write of a record.
    pub(super) fn put(&self, record: &Record, expect: Precondition) -> Put {
        let ttl = record.state.is_terminal().then_some(self.timing.job_retention);
        Put { ttl, ..Put::new(job_key::job(record.id), record.encode(), expect) }
    }

    /// Runs the effect of a change. None of the steps has to succeed: the reconciler finds a job that was not enqueued,
    /// and the work item or the open row stays until the page has been notified.
    pub(super) async fn run_effect(&self, changed: Transition) {
        let Transition { stored, after } = changed;
        let record = &stored.record;
        match after {
            Effect::Nothing => self.publish(record),
            Effect::Enqueue { delay_ms } => {
                self.publish(record);
                self.enqueue(&stored, Duration::from_millis(delay_ms)).await;
            }
            Effect::CancelWorker(worker) => {
                let subject = self.subjects.worker(worker.id, worker_leaf::CANCEL);
                let message = Message::new(subject, wire::encode(&Cancel { id: record.id }));
                // a worker that does not receive it reads the record at its next extension of the work item
                if let Err(error) = self.engine.publish(message).await {
                    tracing::debug!(job = %record.id, %error, "worker not told that its job is cancelled");
                }
            }
            Effect::NotifyEnd => {
                self.publish(record);
                self.notify_pages(&stored).await;
                self.close(record).await;
            }
        }
    }

    /// Enqueues a job. A step that the engine does not confirm now is repeated in the background, so that a short
    /// outage delays the job only for its own length. If this process exits before that, the reconciler finds the job.
    pub(super) async fn enqueue(&self, stored: &StoredJob, delay: Duration) {
        if self.try_offer(stored, delay).await {
            return;
        }
        tracing::info!(job = %stored.record.id, "job not offered to workers yet");
        let (jobs, stored) = (self.clone(), stored.clone());
        tokio::spawn(async move {
            let until = Instant::now() + jobs.timing.job_retention;
            while Instant::now() < until {
                jobs.wait_to_retry().await;
                if jobs.try_offer(&stored, delay).await {
                    return;
                }
            }
        });
    }

    async fn try_offer(&self, stored: &StoredJob, delay: Duration) -> bool {
        match stored.record.affinity {
            Affinity::Free => self.push(stored, delay).await,
            Affinity::Assigned => self.put_open_row(stored).await,
        }
    }

    pub(super) async fn push(&self, stored: &StoredJob, delay: Duration) -> bool {
        let record = &stored.record;
        let push = Enqueue {
            id: record.id.to_string(),
            route: route(&record.pool, &record.lane),
            payload: stored.hint(),
            not_before: (!delay.is_zero()).then_some(delay),
        };
        self.engine.push(push).await.is_ok()
    }

    /// Writes the open row of an assigned job, which brings the job to the worker that owns the user. An existing row
    /// keeps its position: only the first write decides the order.
    pub(super) async fn put_open_row(&self, stored: &StoredJob) -> bool {
        let record = &stored.record;
        let Some(user) = record.owner() else { return true };
        let key = open_key(record, &user);
        let bare = PendingRow { user, due: record.due, job: None };
        let small = record.state == JobState::Queued && record.data.get().len() <= MAX_ROW;
        let whole = small.then(|| wire::encode(&PendingRow { job: Some(stored.clone()), ..bare.clone() }));
        let meta = whole.filter(|meta| meta.len() <= MAX_ROW).unwrap_or_else(|| wire::encode(&bare));
        let put = Put { meta, ..Put::new(key, "", Precondition::Absent) };
        matches!(self.store.put(put).await, Ok(_) | Err(WriteError::Conflict { .. }))
    }

    /// Deletes the open row of an assigned job that has ended.
    pub(super) async fn close(&self, record: &Record) {
        let Some(user) = record.owner() else { return };
        if let Err(error) = self.store.delete(&open_key(record, &user), Precondition::Any).await {
            // the worker that serves the user finds the row again
            tracing::debug!(job = %record.id, %error, "the open row of a job that is over stays for now");
        }
    }
}

/// Parses an entry. Returns `None` if it is not a record of a known release.
pub(super) fn stored(entry: Entry) -> Option<StoredJob> {
    let record = Record::decode(&entry.value);
    if record.is_none() {
        tracing::warn!(key = entry.key, "job record of an unknown shape ignored");
    }
    Some(StoredJob { record: record?, rev: entry.rev })
}

fn open_key(record: &Record, user: &str) -> String {
    let prefix = job_key::open_of(&record.pool, &record.lane, partition(user), &SubjectToken::new(user));
    format!("{prefix}{}", record.id)
}
