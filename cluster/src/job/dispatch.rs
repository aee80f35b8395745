//! Offers jobs to their workers.
//!
//! Owns: the writes of the work item of a free job and of the open row of an assigned one, and how long they are
//! repeated. Never: the state of a job; a worker that takes a work item or a row claims the record.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::open_row::OpenJobRow;
use super::record::{Affinity, JobState, Record};
use super::records::JobRecords;
use super::stored::StoredJob;
use super::work_route::item_route;
use crate::engine::{Engine, Enqueue, Precondition, Put, Unavailable, WriteError};
use crate::subject::{SubjectToken, job_key};
use crate::wire;
use crate::worker::partition;

/// Maximum size of the metadata of an open row with its record, in bytes: a larger record is read by its worker.
const MAX_ROW: usize = 2 * 1024;

/// Offers jobs to their workers.
pub struct JobDispatcher {
    pub(super) engine: Engine,
    pub(super) records: Arc<JobRecords>,
}

impl JobDispatcher {
    /// Enqueues a job. A step that the engine does not confirm now is repeated in the background, so that a short
    /// outage delays the job only for its own length. If this process exits before that, the reconciler finds the job.
    pub(super) async fn enqueue(self: &Arc<Self>, stored: &StoredJob, delay: Duration) {
        if self.try_offer(stored, delay).await {
            return;
        }
        tracing::info!(job = %stored.record.id, "job not offered to workers yet");
        let (this, stored) = (self.clone(), stored.clone());
        tokio::spawn(async move {
            let until = Instant::now() + this.records.timing.job_index;
            while Instant::now() < until {
                this.records.wait_to_retry().await;
                if this.try_offer(&stored, delay).await {
                    return;
                }
            }
        });
    }

    /// Offers a job once more. Returns whether it had not been offered, as far as that can be seen: a free job has no
    /// row that shows it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it is unknown whether an assigned job has a row.
    pub(super) async fn offer_again(self: &Arc<Self>, stored: &StoredJob) -> Result<bool, Unavailable> {
        match stored.record.affinity {
            Affinity::Free => Ok(self.push(stored, Duration::ZERO).await),
            Affinity::Assigned => self.write_open_row(stored).await,
        }
    }

    async fn try_offer(&self, stored: &StoredJob, delay: Duration) -> bool {
        match stored.record.affinity {
            Affinity::Free => self.push(stored, delay).await,
            Affinity::Assigned => self.put_open_row(stored).await,
        }
    }

    /// Pushes the work item of a job, and returns whether the engine has confirmed it.
    pub(super) async fn push(&self, stored: &StoredJob, delay: Duration) -> bool {
        let record = &stored.record;
        let push = Enqueue {
            id: record.id.to_string(),
            route: item_route(record, self.records.now_ms()),
            payload: stored.hint(),
            not_before: (!delay.is_zero()).then_some(delay),
        };
        self.engine.push(push).await.is_ok()
    }

    /// Writes the open row of an assigned job, which brings the job to the worker that owns the user. An existing row
    /// keeps its position: only the first write decides the order.
    pub async fn put_open_row(&self, stored: &StoredJob) -> bool {
        self.write_open_row(stored).await.is_ok()
    }

    /// Returns whether the row is new.
    async fn write_open_row(&self, stored: &StoredJob) -> Result<bool, Unavailable> {
        let record = &stored.record;
        let Some(user) = record.owner() else { return Ok(false) };
        let key = open_key(record, &user);
        let bare = OpenJobRow { user, due: record.due, kind: record.kind.clone(), job: None };
        let small = record.state == JobState::Queued && record.data.get().len() <= MAX_ROW;
        let whole = small.then(|| wire::encode(&OpenJobRow { job: Some(stored.clone()), ..bare.clone() }));
        let meta = whole.filter(|meta| meta.len() <= MAX_ROW).unwrap_or_else(|| wire::encode(&bare));
        let put = Put { meta, ..Put::new(key, "", Precondition::Absent) };
        match self.records.store.put(put).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict { .. }) => Ok(false),
            Err(_) => Err(Unavailable),
        }
    }

    /// Deletes the open row of an assigned job that has ended.
    pub(super) async fn delete_open_row(&self, record: &Record) {
        let Some(user) = record.owner() else { return };
        if let Err(error) = self.records.store.delete(&open_key(record, &user), Precondition::Any).await {
            // the worker that serves the user finds the row again
            tracing::debug!(job = %record.id, %error, "the open row of a job that is over stays for now");
        }
    }
}

fn open_key(record: &Record, user: &str) -> String {
    job_key::open_job(&record.pool, partition(user), &SubjectToken::new(user), record.id)
}
