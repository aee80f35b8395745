//! A worker: a process that runs handlers (`pagewire worker`), or the same inside a node.
//!
//! Owns: the order in which the parts of a worker start and stop. Never: what a handler does (`calls`), or claims
//! (`pagewire_cluster::job`).

use std::net::SocketAddr;
use std::sync::Arc;

use pagewire_cluster::id::{Key, NodeNumber};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::{
    Discovery, WorkKind, WorkerGroup, WorkerLease, WorkerRow, WorkerType, Workers, claim_worker,
};
use pagewire_worker::entry::WorkerEntry;
use pagewire_worker::handlers::Handlers;
use pagewire_worker::run::serve;
use pagewire_worker::slots::SlotOptions;
use pagewire_worker::stream::{WorkStream, WorkerSetup};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::DropGuard;

use super::StartError;
use super::duties::count_reconnects;
use super::engine::engine;
use super::listen::bind;
use super::services::retention;
use super::tasks::{TaskFailure, TaskKind, Tasks};
use crate::api::{WorkerState, worker_router};
use crate::auth::Authenticator;
use crate::calls::{ExecutorOptions, Executors, LocalWorkers, NestedExecutors};
use crate::config::{Config, ExecutorsConfig};
use crate::edge::StartupServer;
use crate::telemetry::{ExecutorPlace, Latch, Metrics, Readiness, WorkMetrics};

/// The pool, slots and handlers of a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The pool.
    pub pool: String,
    /// Pieces of work at the same time, and the reserve for calls.
    pub slots: SlotOptions,
    /// The kinds of work that it takes.
    pub kind: WorkerType,
    /// The handlers.
    pub handlers: Handlers,
    /// The node that it is inside; `None` for a process of its own.
    pub node: Option<NodeNumber>,
    /// The workers inside that node, which its handlers call without the engine.
    pub local: LocalWorkers,
}

/// A latch of the readiness of a worker: it is closed while the worker drains.
const ACCEPTING: &str = "accepting";

/// Runs a worker until `stop` or until a drain request. It then takes no new work, finishes the running work, and
/// releases work that takes longer than a drain.
///
/// # Errors
/// [`StartError`] when the engine cannot be used, or when a task that the worker needs has ended.
pub async fn run_worker(
    config: Config,
    setup: WorkerOptions,
    listen: SocketAddr,
    timing: Timing,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let listener = bind(listen).await?;
    let url = listener.local_addr().map(|address| format!("http://{address}"));
    tracing::info!(url = url.unwrap_or_default(), "listening for probes");
    let tasks = Tasks::default();
    let mut stop = std::pin::pin!(stop);
    let worker = tokio::select! {
        worker = start(&config, setup, timing, &tasks) => worker?,
        () = &mut stop => return Ok(()),
    };
    tasks.spawn("listener", TaskKind::Vital, serve_probes(listener, &config, worker.probes(), timing));
    let failure = until_drained(worker, &tasks, stop).await;
    tasks.shutdown().await;
    tracing::info!("stopped");
    failure.map_or(Ok(()), |failure| Err(StartError::Task(failure.name)))
}

/// Serves the probes and metrics of a worker. Never returns.
fn serve_probes(
    listener: TcpListener,
    config: &Config,
    parts: WorkerState,
    timing: Timing,
) -> impl Future<Output = ()> + use<> {
    let open = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let router = worker_router(parts, Authenticator::new(&config.auth), open);
    let server = StartupServer::new(listener, config, timing, router);
    async move { server.serve_until(std::future::pending()).await }
}

async fn start(
    config: &Config,
    setup: WorkerOptions,
    timing: Timing,
    tasks: &Tasks,
) -> Result<WorkerRole, StartError> {
    let metrics = Arc::new(Metrics::of_worker(&setup.pool, &config.node.lane, &config.node.release));
    let engine = engine(config, timing).await?;
    let subjects = Subjects::new(&config.cluster);
    let workers = Workers::new(&engine, &subjects, timing).found_by(config.executors.discovery());
    tasks.spawn("reconnects", TaskKind::Finite, count_reconnects(engine.link(), metrics.clone()));
    tasks.spawn("workers", TaskKind::Vital, workers.follow().await?);
    let rollouts =
        Rollouts::new(&engine, PeerClient::new(&engine, &subjects, timing.deliver), timing.deliver);
    tasks.spawn("rollouts", TaskKind::Vital, rollouts.follow().await?);
    let jobs = Jobs::keeping(&engine, &subjects, timing, retention(config), &workers);
    let pool = setup.pool.clone();
    let worker = WorkerRole::start(&jobs, &rollouts, config, setup, metrics, tasks).await?;
    workers.register_pool(&pool).await?;
    Ok(worker)
}

/// Runs a worker until it has drained: on request, on `stop`, or when a vital task has ended. Returns that task.
async fn until_drained(
    worker: WorkerRole,
    tasks: &Tasks,
    stop: impl Future<Output = ()>,
) -> Option<TaskFailure> {
    let draining = worker.draining.clone();
    // a task of its own, because waking the main thread for each piece of work costs a switch of threads
    let mut running = tokio::spawn(worker.run());
    let failure = tokio::select! {
        ended = &mut running => return failed(ended),
        () = stop => None,
        failure = tasks.failed() => Some(failure),
    };
    draining.send_replace(true);
    let ended = running.await;
    failure.or(failed(ended))
}

fn failed(ended: Result<(), JoinError>) -> Option<TaskFailure> {
    ended.err().map(|_| TaskFailure { name: "worker", panicked: true })
}

/// A worker that has its lease and takes work as soon as it runs.
pub(super) struct WorkerRole {
    draining: watch::Sender<bool>,
    intake: WorkStream,
    group: WorkerGroup,
    free_work: bool,
    place: ExecutorPlace,
    handlers: Handlers,
    timing: Timing,
    metrics: Arc<Metrics>,
    lease: WorkerLease,
    ready: Readiness,
    accepting: Latch,
    /// Releases the lease when the worker has run to its end.
    ended: DropGuard,
}

impl WorkerRole {
    /// Claims the lease and opens the stream of work. The lease comes first, so that other processes can check whether
    /// a claimant is alive; it ends last, when the worker has run to its end or `tasks` stop.
    pub(super) async fn start(
        jobs: &Jobs,
        rollouts: &Rollouts,
        config: &Config,
        setup: WorkerOptions,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let (id, timing) = (Key::random(), jobs.timing);
        let group = WorkerGroup::new(setup.pool.as_str(), config.node.lane.as_str());
        let row = row(config, &setup, jobs.records.now_ms());
        let methods = row.methods.iter().cloned().collect();
        let free_work = free_work(jobs.workers.roster().discovery(), &row);
        let draining = watch::Sender::new(false);
        let (keeper, lease) = claim_worker(&jobs.engine, timing, id, row).await?;
        let (release, slots) = (config.node.release.clone(), setup.slots);
        let lease_of_work = lease.clone();
        let outgoing = outgoing(jobs, rollouts, config, &setup.local, &metrics);
        let is_inside_node = setup.node.is_some();
        let who = WorkerSetup {
            id,
            group: group.clone(),
            release,
            slots,
            methods,
            free_work,
            is_inside_node,
            lease: lease_of_work,
            outgoing,
        };
        let intake = WorkStream::open(jobs, rollouts, who, draining.clone()).await?;
        let (stopping, ended) = (tasks.stopping(), tasks.stopping().child_token());
        let keeping = keeper.keep(draining.subscribe(), ended.clone().cancelled_owned());
        tasks.spawn_graceful("worker lease", TaskKind::Vital, async move {
            keeping.await;
            // a node goes on without a worker that has drained
            stopping.cancelled().await;
        });
        let Config { cluster, node, .. } = config;
        tracing::info!(worker = %id, pool = setup.pool, lane = node.lane, cluster, slots = slots.count, "ready");
        let ready = Readiness::default();
        let accepting = ready.latch(ACCEPTING);
        accepting.set(true);
        let place = if is_inside_node { ExecutorPlace::ThisNode } else { ExecutorPlace::OtherProcess };
        let (handlers, ended) = (setup.handlers, ended.drop_guard());
        Ok(Self {
            draining,
            intake,
            group,
            free_work,
            place,
            handlers,
            timing,
            metrics,
            lease,
            ready,
            accepting,
            ended,
        })
    }

    /// Returns what orders the worker to drain.
    pub(super) fn draining(&self) -> watch::Sender<bool> {
        self.draining.clone()
    }

    /// Returns what reaches the worker from inside its process.
    pub(super) fn entry(&self) -> WorkerEntry {
        self.intake.entry()
    }

    /// Returns its pool and lane.
    pub(super) const fn group(&self) -> &WorkerGroup {
        &self.group
    }

    /// Returns whether it is given work for any worker.
    pub(super) const fn takes_free_work(&self) -> bool {
        self.free_work
    }

    /// Returns the parts that the listener of the worker shows.
    fn probes(&self) -> WorkerState {
        let (ready, lease) = (self.ready.clone(), self.lease.clone());
        WorkerState { ready, lease, metrics: self.metrics.clone() }
    }

    /// Runs until the worker has drained.
    pub(super) async fn run(self) {
        let Self { draining, mut intake, place, handlers, timing, metrics, accepting, ended, .. } = self;
        let observer = Arc::new(WorkMetrics { metrics, place });
        let (leave, leaving) = watch::channel(false);
        let (idle, mut draining) = (intake.idle(), draining.subscribe());
        let drained = async move {
            // an error means that the sender is gone, and no drain can be requested any more
            let _ = draining.wait_for(|draining| *draining).await;
            accepting.set(false);
            tracing::info!("draining: no new work is accepted, running work continues");
            let mut idle = std::pin::pin!(idle);
            if tokio::time::timeout(timing.drain, &mut idle).await.is_err() {
                leave.send_replace(true);
                idle.await;
            }
        };
        tokio::select! {
            () = serve(&mut intake, handlers, leaving, observer) => {}
            () = drained => {}
        }
        intake.close().await;
        drop(ended);
    }
}

/// Returns the executors for the jobs and calls of handlers. They run on workers, because only there a handler has
/// effects.
fn outgoing(
    jobs: &Jobs,
    rollouts: &Rollouts,
    config: &Config,
    local: &LocalWorkers,
    metrics: &Arc<Metrics>,
) -> Arc<NestedExecutors> {
    let (workers, timing) = (jobs.workers.clone(), jobs.timing);
    let ExecutorsConfig { prefer, mode, .. } = &config.executors;
    let options =
        ExecutorOptions { alone: false, prefer: *prefer, modes: mode.clone(), local: local.clone() };
    let none = Handlers::default();
    let (jobs, rollouts, metrics) = (jobs.clone(), rollouts.clone(), metrics.clone());
    Arc::new(NestedExecutors(Executors::new(none, options, jobs, workers, rollouts, timing, metrics)))
}

/// Returns whether a worker is given free work. Logs if it is given no work at all.
fn free_work(discovery: &Discovery, row: &WorkerRow) -> bool {
    let [free, assigned] = [WorkKind::Free, WorkKind::Assigned].map(|work| discovery.may_get(row, work));
    if !free && !assigned {
        let (name, kind) = (&row.name, row.kind);
        tracing::warn!(name, %kind, "executors.worker gives this worker no work");
    }
    free
}

fn row(config: &Config, setup: &WorkerOptions, started: u64) -> WorkerRow {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let process = std::process::id();
    let options = || setup.handlers.names().map(|name| (name.to_owned(), setup.handlers.options(name)));
    let name = match config.node.name.as_str() {
        "" => format!("{host}-{process}"),
        name => name.to_owned(),
    };
    WorkerRow {
        pool: setup.pool.clone(),
        lane: config.node.lane.clone(),
        release: config.node.release.clone(),
        slots: setup.slots.count,
        methods: setup.handlers.names().map(str::to_owned).collect(),
        modes: options().filter_map(|(name, of)| Some((name, of.mode?.text().to_owned()))).collect(),
        retries: options().filter_map(|(name, of)| Some((name, of.retries?))).collect(),
        node: setup.node,
        name,
        kind: setup.kind,
        host,
        process,
        started,
        ..WorkerRow::default()
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::engine::{Engine, Memory};

    use super::*;
    use crate::calls::DEFAULT_POOL;
    use pagewire_worker::demo::demo_handlers;

    #[tokio::test]
    async fn a_worker_drains_when_a_task_that_it_needs_panics() {
        let (timing, tasks) = (Timing::TEST, Tasks::default());
        let config = crate::config::load(&crate::config::Sources::default()).unwrap();
        let (engine, subjects) = (Engine::Memory(Memory::with_timing(&timing)), Subjects::new("main"));
        let workers = Workers::new(&engine, &subjects, timing);
        let jobs = Jobs::new(&engine, &subjects, timing, &workers);
        let setup = WorkerOptions {
            pool: DEFAULT_POOL.to_owned(),
            slots: SlotOptions::new(1),
            kind: WorkerType::Both,
            handlers: demo_handlers(),
            node: None,
            local: LocalWorkers::default(),
        };
        let metrics = Arc::new(Metrics::new("stable", "dev"));
        let peers = PeerClient::new(&engine, &subjects, timing.deliver);
        let rollouts = Rollouts::new(&engine, peers, timing.deliver);
        let worker = WorkerRole::start(&jobs, &rollouts, &config, setup, metrics, &tasks).await;
        tasks.spawn("test", TaskKind::Vital, async { panic!("a fault of this test") });
        let failure = until_drained(worker.unwrap(), &tasks, std::future::pending()).await;
        assert_eq!(failure, Some(TaskFailure { name: "test", panicked: true }));
        tasks.shutdown().await;
    }
}
