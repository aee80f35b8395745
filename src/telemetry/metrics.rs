//! The metrics of a node, in Prometheus' format.
//!
//! Counters on hot paths are plain handles, so that counting needs no look-up. Labels never contain ids.

use std::fmt;
use std::time::Duration;

use pagewire_cluster::clock::ClusterClock;
use pagewire_cluster::job::WaitingJobsList;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::worker::Workers;
use pagewire_worker::runtime::child::status::ChildPoolStatus;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use tokio::sync::watch;

use super::batches::BatchCollector;
use super::children::{ChildCollector, ChildSource};
use super::mounts::MountMetrics;
use super::refused_requests::refused_requests;
use super::resident::ResidentMetrics;
use super::rollouts::RolloutCollector;
use super::waiting::WaitingJobsCollector;
use super::wanted::WantedCollector;
use crate::protocol::{CloseCode, ResumeOutcome};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabels {
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    kind: String,
    exec: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    level: &'static str,
    outcome: &'static str,
}

/// All metrics of a node. Shared as an `Arc`; every method is cheap and never waits.
pub struct Metrics {
    registry: Registry,
    /// Pages with an open socket at this node.
    pub pages: Gauge,
    /// WebSocket connections that were accepted.
    pub connections_opened: Counter,
    /// Frames from pages.
    pub frames_in: Counter,
    /// Frames to pages.
    pub frames_out: Counter,
    /// Bytes that wait in outboxes.
    pub outbox_bytes: Gauge,
    /// Reconnections to NATS.
    pub nats_reconnects: Counter,
    /// Requests of mounts.
    pub mounts: MountMetrics,
    /// Objects of resident pages.
    pub residents: ResidentMetrics,
    frames: Family<Direction, Counter>,
    closed: Family<CloseLabels, Counter>,
    recovered: Family<OutcomeLabels, Counter>,
    push_seconds: Histogram,
    calls: Family<CallLabels, Counter>,
    call_seconds: Histogram,
    state_writes: Family<WriteLabels, Counter>,
    worker_calls: Family<CallLabels, Counter>,
    worker_call_seconds: Histogram,
    jobs: Family<CallLabels, Counter>,
    job_wait_seconds: Histogram,
    job_run_seconds: Histogram,
}

impl Metrics {
    /// Creates the metrics of a node with this lane and release.
    pub fn new(lane: &str, release: &str) -> Self {
        let mut metrics = Self::unregistered(Registry::with_prefix("pagewire"));
        metrics.register_pages(lane, release);
        metrics.register_work();
        metrics
    }

    /// Creates the metrics of a worker. Each of them has the labels `pool`, `lane` and `release`.
    pub fn of_worker(pool: &str, lane: &str, release: &str) -> Self {
        let labels = [("pool", pool), ("lane", lane), ("release", release)];
        let labels = labels.map(|(name, value)| (name.into(), value.to_owned().into()));
        let registry = Registry::with_prefix_and_labels("pagewire", labels.into_iter());
        let mut metrics = Self::unregistered(registry);
        metrics.register_work();
        metrics
    }

    fn unregistered(registry: Registry) -> Self {
        let frames = Family::<Direction, Counter>::default();
        // 50 µs … 26 s
        let seconds = || Histogram::new(exponential_buckets(0.00005, 2.0, 20));
        Self {
            registry,
            pages: Gauge::default(),
            connections_opened: Counter::default(),
            frames_in: frames.get_or_create_owned(&Direction { direction: "in" }),
            frames_out: frames.get_or_create_owned(&Direction { direction: "out" }),
            outbox_bytes: Gauge::default(),
            nats_reconnects: Counter::default(),
            mounts: MountMetrics::default(),
            residents: ResidentMetrics::default(),
            closed: Family::default(),
            recovered: Family::default(),
            push_seconds: seconds(),
            calls: Family::default(),
            call_seconds: seconds(),
            state_writes: Family::default(),
            worker_calls: Family::default(),
            worker_call_seconds: seconds(),
            jobs: Family::default(),
            job_wait_seconds: seconds(),
            job_run_seconds: seconds(),
            frames,
        }
    }

    fn register_pages(&mut self, lane: &str, release: &str) {
        let labels = [("lane", lane), ("release", release)].map(|(k, v)| (k.into(), v.to_owned().into()));
        let labelled = self.registry.sub_registry_with_labels(labels.into_iter());
        labelled.register("pages", "Pages with an open socket", self.pages.clone());
        let all = &mut self.registry;
        let opened = self.connections_opened.clone();
        all.register("connections_opened", "WebSocket connections accepted", opened);
        all.register("ws_closed", "WebSocket connections closed, by code", self.closed.clone());
        all.register("frames", "Frames from (in) and to (out) pages", self.frames.clone());
        all.register("outbox_bytes", "Bytes waiting for sockets", self.outbox_bytes.clone());
        all.register("recovered", "Pages registered on a socket, by how", self.recovered.clone());
        all.register("push_seconds", "From accepting a push to its response", self.push_seconds.clone());
        all.register("state_writes", "Writes of state trees", self.state_writes.clone());
        all.register("calls", "Calls of executors", self.calls.clone());
        all.register("call_seconds", "From a call to its result", self.call_seconds.clone());
        self.mounts.register(all);
    }

    /// Registers the metrics of jobs, NATS and refused requests, which nodes and workers have.
    fn register_work(&mut self) {
        let all = &mut self.registry;
        all.register(
            "jobs",
            "Attempts of jobs that ended here, by the resulting state of the job",
            self.jobs.clone(),
        );
        all.register("job_wait_seconds", "From a job's time to a worker", self.job_wait_seconds.clone());
        all.register("job_run_seconds", "How long an attempt of a job ran", self.job_run_seconds.clone());
        all.register("worker_calls", "Calls that were run here for a node", self.worker_calls.clone());
        let run_seconds = self.worker_call_seconds.clone();
        all.register("worker_call_seconds", "How long the handler of a call ran", run_seconds);
        all.register("nats_reconnects", "Reconnections to NATS", self.nats_reconnects.clone());
        self.residents.register(all);
        all.register_collector(Box::new(BatchCollector));
        all.register("http_refused", "HTTP requests refused for their framing", refused_requests());
    }

    /// Adds the metrics of rollouts.
    pub fn register_rollouts(&mut self, rollouts: Rollouts) {
        self.registry.register_collector(Box::new(RolloutCollector(rollouts)));
    }

    /// Adds the metrics of the jobs that wait.
    pub fn register_waiting_jobs(&mut self, waiting: watch::Receiver<WaitingJobsList>, clock: ClusterClock) {
        self.registry.register_collector(Box::new(WaitingJobsCollector { waiting, clock }));
    }

    /// Adds the metric of how many processes each lane should have.
    pub fn register_wanted(
        &mut self,
        rollouts: Rollouts,
        workers: Workers,
        waiting: watch::Receiver<WaitingJobsList>,
        clock: ClusterClock,
    ) {
        let wanted = WantedCollector { rollouts, workers, waiting, clock };
        self.registry.register_collector(Box::new(wanted));
    }

    /// Adds the metrics of child processes.
    pub fn register_children(
        &mut self,
        source: impl Fn() -> Vec<(String, ChildPoolStatus)> + Send + Sync + 'static,
    ) {
        let source: ChildSource = Box::new(source);
        self.registry.register_collector(Box::new(ChildCollector(source)));
    }

    /// Counts a socket that was closed with this code.
    pub fn closed(&self, code: CloseCode) {
        self.closed.get_or_create(&CloseLabels { code: code.number() }).inc();
    }

    /// Counts a page that opened or resumed with this outcome.
    pub fn recovered(&self, how: ResumeOutcome) {
        let outcome = match how {
            ResumeOutcome::New => "new",
            ResumeOutcome::Recovered => "recovered",
            ResumeOutcome::Reset => "reset",
        };
        self.recovered.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Records the duration of a push, from accepting it to its response.
    pub fn record_push(&self, took: Duration) {
        self.push_seconds.observe(took.as_secs_f64());
    }

    /// Records a call that ended. `kind` is the name of a registered handler, never text from a client.
    pub fn record_call(&self, kind: String, exec: &'static str, outcome: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabels { kind, exec, outcome }).inc();
        self.call_seconds.observe(took.as_secs_f64());
    }

    /// Counts a finished write of a state tree.
    pub fn record_state_write(&self, level: &'static str, outcome: &'static str) {
        self.state_writes.get_or_create(&WriteLabels { level, outcome }).inc();
    }

    /// Records an attempt of a job that ended. `outcome` is the state of the job after it.
    pub fn record_job_attempt(
        &self,
        kind: String,
        exec: &'static str,
        outcome: &'static str,
        waited: Duration,
        ran: Duration,
    ) {
        self.jobs.get_or_create(&CallLabels { kind, exec, outcome }).inc();
        self.job_wait_seconds.observe(waited.as_secs_f64());
        self.job_run_seconds.observe(ran.as_secs_f64());
    }

    /// Records a call that a worker of this process has answered. `kind` is the name of a registered handler.
    pub fn record_worker_call(&self, kind: String, exec: &'static str, outcome: &'static str, ran: Duration) {
        self.worker_calls.get_or_create(&CallLabels { kind, exec, outcome }).inc();
        self.worker_call_seconds.observe(ran.as_secs_f64());
    }

    /// Encodes all metrics as text.
    ///
    /// # Errors
    ///
    /// [`fmt::Error`] when a metric cannot be encoded.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// Content type of the text from [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_dashboards_use() {
        let metrics = Metrics::new("stable", "r1");
        metrics.pages.inc();
        metrics.frames_out.inc_by(3);
        metrics.closed(CloseCode::Draining);
        metrics.recovered(ResumeOutcome::Reset);
        metrics.record_call("echo".to_owned(), "inline", "ok", Duration::from_millis(3));
        let moment = Duration::from_millis(2);
        metrics.record_state_write("user", "ok");
        metrics.record_job_attempt("sum".to_owned(), "remote_free", "succeeded", moment, moment);
        metrics.record_push(Duration::from_micros(70));
        let page = metrics.encode().unwrap();
        for line in [
            r#"pagewire_pages{lane="stable",release="r1"} 1"#,
            "pagewire_connections_opened_total 0",
            r#"pagewire_ws_closed_total{code="4500"} 1"#,
            r#"pagewire_frames_total{direction="out"} 3"#,
            "pagewire_outbox_bytes 0",
            r#"pagewire_recovered_total{outcome="reset"} 1"#,
            "pagewire_push_seconds_count 1",
            r#"pagewire_calls_total{kind="echo",exec="inline",outcome="ok"} 1"#,
            "pagewire_call_seconds_count 1",
            r#"pagewire_jobs_total{kind="sum",exec="remote_free",outcome="succeeded"} 1"#,
            r#"pagewire_state_writes_total{level="user",outcome="ok"} 1"#,
            "pagewire_job_wait_seconds_count 1",
            "pagewire_job_run_seconds_count 1",
            "pagewire_nats_reconnects_total 0",
            "pagewire_nats_batches_total 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }

    #[test]
    fn a_worker_shows_its_atomic_batches_with_its_labels() {
        let page = Metrics::of_worker("p", "canary", "r1").encode().unwrap();
        let line = r#"pagewire_nats_batches_total{pool="p",lane="canary",release="r1"} 0"#;
        assert!(page.lines().any(|found| found == line), "{page}");
    }
}
