//! The metrics of the work of a worker.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::job::{Affinity, JobState};
use pagewire_worker::run::WorkObserver;

use super::Metrics;

/// Where a worker is, from the point of view of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorPlace {
    /// Inside this node.
    ThisNode,
    /// In another process, or in a process that is a worker only.
    OtherProcess,
}

/// Returns the kind of executor that runs the work of a worker.
pub const fn executor_name(place: ExecutorPlace, affinity: Affinity) -> &'static str {
    match (place, affinity) {
        (ExecutorPlace::ThisNode, Affinity::Free) => "local_free",
        (ExecutorPlace::ThisNode, Affinity::Assigned) => "local_assigned",
        (ExecutorPlace::OtherProcess, Affinity::Free) => "remote_free",
        (ExecutorPlace::OtherProcess, Affinity::Assigned) => "remote_assigned",
    }
}

/// Counts what the workers of this process do.
pub struct WorkMetrics {
    /// The metrics of this process.
    pub metrics: Arc<Metrics>,
    /// Where the workers are.
    pub place: ExecutorPlace,
}

impl WorkObserver for WorkMetrics {
    fn attempt_ended(
        &self,
        kind: &str,
        affinity: Affinity,
        state: JobState,
        waited: Duration,
        ran: Duration,
    ) {
        let exec = executor_name(self.place, affinity);
        self.metrics.record_job_attempt(kind.to_owned(), exec, state.text(), waited, ran);
    }

    fn call_ended(&self, method: &str, affinity: Affinity, outcome: &'static str, ran: Duration) {
        let exec = executor_name(self.place, affinity);
        self.metrics.record_worker_call(method.to_owned(), exec, outcome, ran);
    }
}
