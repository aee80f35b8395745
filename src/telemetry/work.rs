//! The metrics of the work of a worker.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::job::{Affinity, JobState, Record};
use pagewire_cluster::rollout::analysis::{FinishedWork, LaneRelease, OutcomeLog};
use pagewire_cluster::trace::TraceParent;
use pagewire_worker::observer::{ObjectChange, WorkObserver};
use tracing::Span;

use super::Metrics;
use super::trace::{child_of, current_trace, trace_of};

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

/// Counts what a worker of this process does, for the metrics and for the comparison of lanes.
pub struct WorkMetrics {
    /// The metrics of this process.
    pub metrics: Arc<Metrics>,
    /// Where the worker is.
    pub place: ExecutorPlace,
    /// The log of what lanes are compared by.
    pub outcomes: OutcomeLog,
    /// The lane of the worker, and its release.
    pub lane: LaneRelease,
}

impl WorkObserver for WorkMetrics {
    fn attempt_span(&self, record: &Record) -> (Span, Option<TraceParent>) {
        let Record { id, kind, attempts, trace, .. } = record;
        let empty = tracing::field::Empty;
        let span = tracing::info_span!(
            "attempt",
            otel.kind = "consumer",
            job = %id,
            kind,
            attempt = attempts,
            trace = empty
        );
        let span = child_of(span, trace.as_ref());
        let here = trace_of(&span).or_else(|| trace.clone());
        (span, here)
    }

    fn call_span(&self, method: &str, caller: Option<&TraceParent>) -> Span {
        child_of(tracing::debug_span!("run call", otel.kind = "server", method), caller)
    }

    fn current_trace(&self) -> Option<TraceParent> {
        current_trace()
    }

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

    fn object_changed(&self, class: &str, change: ObjectChange) {
        self.metrics.residents.record(class, change);
    }

    fn work_finished(&self, work: FinishedWork<'_>) {
        self.outcomes.record(&self.lane, work);
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::engine::{Engine, Memory};
    use pagewire_cluster::peer::PeerClient;
    use pagewire_cluster::rollout::Rollouts;
    use pagewire_cluster::rollout::analysis::LaneAnalysis;
    use pagewire_cluster::subject::Subjects;
    use pagewire_cluster::timing::Timing;
    use tracing::subscriber::with_default;
    use tracing_subscriber::{Registry, layer::SubscriberExt};

    use super::super::contexts;
    use super::*;

    fn record(trace: Option<&str>) -> Record {
        let mut stored = serde_json::json!({
            "id": "0000000000000000000007", "kind": "k", "data": null, "state": "running", "attempts": 1, "retries": 0,
            "affinity": "free", "pool": "p", "lane": "l", "created": 0, "due": 0,
        });
        if let Some(trace) = trace {
            stored["trace"] = trace.into();
        }
        Record::decode(stored.to_string().as_bytes()).unwrap()
    }

    fn outcomes() -> OutcomeLog {
        let (timing, subjects) = (Timing::TEST, Subjects::new("main"));
        let engine = Engine::Memory(Memory::with_timing(&timing));
        let peers = PeerClient::new(&engine, &subjects, timing.deliver);
        let rollouts = Rollouts::new(&engine, peers, timing.deliver);
        LaneAnalysis::new(&engine, &subjects, &rollouts, timing.lane_digest).outcomes().clone()
    }

    #[test]
    fn the_span_of_an_attempt_is_a_child_of_the_span_in_which_the_job_was_submitted() {
        let submitted = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let metrics = Arc::new(Metrics::new("stable", "dev"));
        let (place, outcomes, lane) = (ExecutorPlace::OtherProcess, outcomes(), LaneRelease::default());
        let metrics = WorkMetrics { metrics, place, outcomes, lane };
        with_default(Registry::default().with(contexts()), || {
            let (_span, here) = metrics.attempt_span(&record(Some(submitted)));
            let here = here.unwrap();
            assert_eq!(here.as_str().split('-').nth(1), submitted.split('-').nth(1), "one trace");
            assert_ne!(here.as_str().split('-').nth(2), submitted.split('-').nth(2), "a span of its own");
            let (_span, alone) = metrics.attempt_span(&record(None));
            assert!(alone.is_some(), "a job of an earlier release begins a trace");
        });
        let (_span, without) = metrics.attempt_span(&record(Some(submitted)));
        assert_eq!(without.as_ref().map(TraceParent::as_str), Some(submitted), "passed on without telemetry");
    }
}
