//! The open jobs of a worker, shared by its tasks.
//!
//! Owns: the lock of the open jobs, and waiting for the next one that is due. Never: their order (`open_jobs`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pagewire_cluster::job::JobRecords;
use tokio::sync::Notify;

use super::open_jobs::{OpenJobs, OpenRow};

/// The open jobs of a worker.
#[derive(Debug, Default)]
pub(crate) struct OpenQueue {
    open: Mutex<OpenJobs>,
    /// Notified when a job begins to wait for a time.
    put_off: Notify,
}

impl OpenQueue {
    /// Returns the jobs. Hold the lock only for a short time.
    pub(crate) fn lock(&self) -> MutexGuard<'_, OpenJobs> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the job of a row wait until a time.
    pub(crate) fn wait(&self, row: &OpenRow, until: u64) {
        self.lock().put_off(row, until);
        self.put_off.notify_one();
    }

    /// Resolves when the next job that waits for a time is due, by the clock of the cluster.
    pub(crate) async fn next_due(&self, records: &JobRecords) {
        loop {
            let due = self.lock().next_due();
            let wait = due.map_or(Duration::MAX, |due| records.until(due));
            tokio::select! {
                () = tokio::time::sleep(wait) => return,
                () = self.put_off.notified() => {}
            }
        }
    }
}
