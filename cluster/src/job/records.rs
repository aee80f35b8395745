//! Records in their bucket: read directly, and written until the outcome is known.
//!
//! Owns: the entries of records, and when a read or a write is repeated. Never: which events are allowed
//! (`transition`), how an event changes a record (`change`), limits, submissions or notifications.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::record::Record;
use super::retention::Retention;
use super::stored::StoredJob;
use super::transition::{Claimant, RecordEvent, apply};
use crate::clock::ClusterClock;
use crate::engine::{
    Bucket, ConnectionState, Consistency, Engine, Kv, Precondition, Put, Resolution, Unavailable, WriteError,
};
use crate::id::Key;
use crate::subject::job_key;
use crate::timing::Timing;

/// The records of the jobs of a cluster.
pub struct JobRecords {
    engine: Engine,
    /// The bucket of the records, and of the rows beside them.
    pub store: Kv,
    /// The time-outs of the cluster.
    pub timing: Timing,
    retention: Retention,
    clock: ClusterClock,
}

impl JobRecords {
    pub(super) fn new(engine: &Engine, timing: Timing, retention: Retention) -> Arc<Self> {
        let (store, clock) = (engine.kv(Bucket::Jobs), engine.clock());
        Arc::new(Self { engine: engine.clone(), store, timing, retention, clock })
    }

    /// Returns the time of the cluster in milliseconds since the Unix epoch. All times in records are of this clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Returns how long it is until a time of the cluster; zero when it has passed.
    pub fn until(&self, at_ms: u64) -> Duration {
        self.clock.until(at_ms)
    }

    /// Returns the record of a job.
    pub async fn get(&self, job: Key) -> Result<Option<StoredJob>, Unavailable> {
        let entry = self.store.get(&job_key::job(job), Consistency::Latest).await?;
        Ok(entry.and_then(StoredJob::parse))
    }

    /// Returns at most `limit` records that were written after a revision, oldest write first.
    pub async fn scan(&self, after_rev: u64, limit: usize) -> Result<Vec<StoredJob>, Unavailable> {
        let entries = self.store.scan(job_key::JOBS, after_rev, limit).await?;
        Ok(entries.into_iter().filter_map(StoredJob::parse).collect())
    }

    /// Builds the write of a record, which expires some time after the end of the job.
    pub fn put(&self, record: &Record, expect: Precondition) -> Put {
        Put { ttl: self.retention.of(record, &self.timing), ..record.put(expect) }
    }

    /// Creates a record and returns its revision, or `None` when the record exists already.
    pub(super) async fn create(&self, record: &Record) -> Result<Option<u64>, Unavailable> {
        self.put_until_known(self.put(record, Precondition::Absent)).await
    }

    /// Creates the record of a new job as running at this worker. Returns `None` when the job exists already.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the record was not written, or the outcome was not known in time.
    pub async fn create_running(&self, new: &Record, by: Claimant) -> Result<Option<StoredJob>, Unavailable> {
        let Ok((record, _)) = apply(new, RecordEvent::Claim(by), self.now_ms(), &self.timing) else {
            return Ok(None);
        };
        let created = self.create(&record).await?;
        Ok(created.map(|rev| StoredJob { record, rev }))
    }

    /// Writes a row and resolves an unknown outcome. Returns its revision, or `None` when another row exists.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the row was not written, or the outcome was not known in time.
    pub async fn put_until_known(&self, put: Put) -> Result<Option<u64>, Unavailable> {
        let until = Instant::now() + self.timing.deliver;
        let mut sent = false;
        loop {
            match self.store.put(put.clone()).await {
                Ok(rev) => return Ok(Some(rev)),
                Err(WriteError::Conflict { .. }) => {
                    match self.store.resolve_unknown(&put.key, put.op).await {
                        Ok(Resolution::Written { rev }) => return Ok(Some(rev)),
                        Ok(Resolution::Other { .. }) => return Ok(None),
                        Err(Unavailable) => {}
                    }
                }
                Err(WriteError::Unknown) => sent = true,
                Err(WriteError::Down) if sent => {}
                Err(WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
            if Instant::now() >= until {
                return Err(Unavailable);
            }
            self.wait_to_retry().await;
        }
    }

    /// Returns the record of a job, read as soon as the engine replies.
    pub async fn get_when_up(&self, job: Key) -> Option<StoredJob> {
        loop {
            match self.get(job).await {
                Ok(stored) => return stored,
                Err(Unavailable) => self.wait_to_retry().await,
            }
        }
    }

    /// Waits between two tries: until the engine is available again, or for a short pause if it is available.
    pub async fn wait_to_retry(&self) {
        let mut link = self.engine.link();
        let up = |link: &ConnectionState| matches!(link, ConnectionState::Up { .. });
        let pause = self.timing.lease_renew / 3;
        if up(&link.borrow()) {
            return tokio::time::sleep(pause / 10).await;
        }
        // an error means that the engine is gone and its link never changes again
        let gone = matches!(timeout(pause, link.wait_for(up)).await, Ok(Err(_)));
        if gone {
            tokio::time::sleep(pause).await;
        }
    }
}
