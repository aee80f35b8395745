//! Offers jobs to their workers.
//!
//! Owns: the write of the work item of a free job, and how long an offer is repeated. Never: the open rows of assigned
//! jobs (`open_rows`), or the state of a job; a worker that takes a work item or a row claims the record.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::open_rows::OpenRows;
use super::records::JobRecords;
use super::stored::StoredJob;
use super::work_route::item_route;
use crate::engine::{Engine, Enqueue, Unavailable};
use crate::worker::Affinity;

/// Offers jobs to their workers.
pub struct JobDispatcher {
    pub(super) engine: Engine,
    pub(super) records: Arc<JobRecords>,
    /// The open rows of assigned jobs.
    pub rows: OpenRows,
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
            Affinity::Assigned => self.rows.put(stored).await,
        }
    }

    async fn try_offer(&self, stored: &StoredJob, delay: Duration) -> bool {
        match stored.record.affinity {
            Affinity::Free => self.push(stored, delay).await,
            Affinity::Assigned => self.rows.put(stored).await.is_ok(),
        }
    }

    /// Pushes the work item of a job, and returns whether the engine has it. The record leads to a new one if a power cut
    /// loses it.
    pub(super) async fn push(&self, stored: &StoredJob, delay: Duration) -> bool {
        let record = &stored.record;
        let push = Enqueue {
            id: record.id.to_string(),
            route: item_route(record, self.records.now_ms()),
            payload: stored.hint(),
            not_before: (!delay.is_zero()).then_some(delay),
        };
        self.engine.push_unconfirmed(push).await.is_ok()
    }
}
