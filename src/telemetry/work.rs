//! The metrics of the work of a worker.

use std::time::Duration;

use pagewire_cluster::job::{Affinity, JobState};
use pagewire_worker::run::WorkObserver;

use super::Metrics;

/// Returns the kind of executor that runs the work of a worker.
pub const fn executor_name(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Free => "remote_free",
        Affinity::Assigned => "remote_assigned",
    }
}

impl WorkObserver for Metrics {
    fn attempt_ended(
        &self,
        kind: &str,
        affinity: Affinity,
        state: JobState,
        waited: Duration,
        ran: Duration,
    ) {
        self.record_job_attempt(kind.to_owned(), executor_name(affinity), state.text(), waited, ran);
    }

    fn call_ended(&self, method: &str, affinity: Affinity, outcome: &'static str, ran: Duration) {
        self.record_worker_call(method.to_owned(), executor_name(affinity), outcome, ran);
    }
}
