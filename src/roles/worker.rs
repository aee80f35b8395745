//! A worker: a process that runs handlers (`pagewire worker`), or the same inside a node.
//!
//! Owns: the order in which the parts of a worker start and stop. Never: what a handler does (`calls`), or claims
//! (`pagewire_cluster::job`).

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::id::{Key, NodeNumber};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::rollout::analysis::{LaneRelease, OutcomeLog};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::{
    Affinity, Discovery, ExecMode, RowLoad, WorkerGroup, WorkerRow, WorkerType, claim_worker,
};
use pagewire_worker::entry::{WorkerEntry, WorkerLoad};
use pagewire_worker::handlers::Handlers;
use pagewire_worker::residence::ObjectLimits;
use pagewire_worker::run::serve;
use pagewire_worker::runtime::child::pool::ChildPool;
use pagewire_worker::slots::SlotOptions;
use pagewire_worker::stream::{WorkStream, WorkerSetup};
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::StartError;
use super::pools::PoolServices;
use super::tasks::TaskKind;
use crate::calls::{ExecutorOptions, Executors, LocalWorkers, NestedExecutors};
use crate::config::{Config, ExecutorsConfig, PagesConfig};
use crate::telemetry::{ExecutorPlace, Metrics, WorkMetrics};

/// The pool, slots and handlers of a worker.
#[derive(Clone)]
pub(super) struct WorkerOptions {
    /// The pool.
    pub pool: String,
    /// The lane; `None` for that of the process.
    pub lane: Option<String>,
    /// Pieces of work at the same time, and the reserve for calls.
    pub slots: SlotOptions,
    /// The kinds of work that it takes.
    pub kind: WorkerType,
    /// The handlers.
    pub handlers: Handlers,
    /// What runs its work.
    pub processes: WorkProcesses,
    /// The node that it is inside; `None` for a process of its own.
    pub node: Option<NodeNumber>,
    /// The workers inside that node, which its handlers call without the engine.
    pub local: LocalWorkers,
}

/// The processes that run the work of a worker.
#[derive(Clone)]
pub(super) enum WorkProcesses {
    /// The worker itself.
    Itself,
    /// The children of a pool, which run this many pieces of work each.
    Children(ChildPool, u32),
}

impl WorkProcesses {
    fn load(&self, load: WorkerLoad, kind: WorkerType) -> RowLoad {
        let work = load.running + load.queued;
        match self {
            Self::Itself => RowLoad { processes: 1, process_slots: load.slots, work },
            Self::Children(pool, slots) => {
                let children = pool.status().children;
                let own = children.iter().filter(|child| child.kind == kind.text()).count();
                RowLoad { processes: u32::try_from(own).unwrap_or(u32::MAX), process_slots: *slots, work }
            }
        }
    }
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
    outcomes: OutcomeLog,
    release: String,
    /// Releases the lease when the worker has run to its end.
    ended: DropGuard,
}

impl WorkerRole {
    /// Claims the lease and opens the stream of work. The lease comes first, so that other processes can check whether
    /// a claimant is alive; it ends last, when the worker has run to its end or `tasks` stop.
    pub(super) async fn start(services: &PoolServices, setup: WorkerOptions) -> Result<Self, StartError> {
        let PoolServices { jobs, registers, rollouts, analysis, config, metrics, tasks, .. } = services;
        let (id, timing) = (Key::random(), jobs.timing);
        let row = row(config, &setup, jobs.records.now_ms());
        let group = WorkerGroup::new(row.pool.as_str(), row.lane.as_str());
        let methods = row.methods.iter().cloned().collect();
        let free_work = free_work(jobs.workers.roster().discovery(), &row);
        let draining = watch::Sender::new(false);
        let (keeper, lease) = claim_worker(&jobs.engine, timing, id, row).await?;
        let (release, slots) = (config.node.release.clone(), setup.slots);
        let outgoing = outgoing(jobs, rollouts, config, &setup.local, metrics);
        let is_inside_node = setup.node.is_some();
        let who = WorkerSetup {
            id,
            group: group.clone(),
            release: release.clone(),
            slots,
            methods,
            free_work,
            is_inside_node,
            lease,
            registers: registers.clone(),
            outgoing,
            objects: object_limits(config, &group.pool),
        };
        let intake = WorkStream::open(jobs, rollouts, who, draining.clone()).await?;
        let (stopping, ended) = (tasks.stopping(), tasks.stopping().child_token());
        let (entry, processes, kind) = (intake.entry(), setup.processes, setup.kind);
        let keeper = keeper.measuring(move || processes.load(entry.load(), kind));
        let keeping = keeper.keep(draining.subscribe(), ended.clone().cancelled_owned());
        tasks.spawn_graceful("worker lease", TaskKind::Vital, async move {
            keeping.await;
            // a node goes on without a worker that has drained
            stopping.cancelled().await;
        });
        let (WorkerGroup { pool, lane }, cluster) = (&group, &config.cluster);
        tracing::info!(worker = %id, pool, lane, cluster, slots = slots.count, "ready");
        let place = if is_inside_node { ExecutorPlace::ThisNode } else { ExecutorPlace::OtherProcess };
        let (handlers, ended) = (setup.handlers, ended.drop_guard());
        let (metrics, outcomes) = (metrics.clone(), analysis.outcomes().clone());
        Ok(Self {
            draining,
            intake,
            group,
            free_work,
            place,
            handlers,
            timing,
            metrics,
            outcomes,
            release,
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

    /// Runs until the worker has drained.
    pub(super) async fn run(self) {
        let Self { draining, mut intake, place, handlers, timing, metrics, outcomes, release, ended, .. } =
            self;
        let WorkerGroup { pool, lane } = self.group;
        let lane = LaneRelease { pool, lane, release };
        let observer = Arc::new(WorkMetrics { metrics, place, outcomes, lane });
        let (leave, leaving) = watch::channel(false);
        let (idle, mut draining) = (intake.idle(), draining.subscribe());
        let drained = async move {
            // an error means that the sender is gone, and no drain can be requested any more
            let _ = draining.wait_for(|draining| *draining).await;
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
pub(super) fn outgoing(
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

/// Returns the limits of the objects of resident pages of a pool.
fn object_limits(config: &Config, pool: &str) -> ObjectLimits {
    let configured = config.pool.iter().find(|configured| configured.name == pool);
    let PagesConfig { max, idle_s, .. } = configured.map(|pool| pool.pages).unwrap_or_default();
    let most = usize::try_from(max).unwrap_or(usize::MAX);
    ObjectLimits { most: Some(most), idle: (idle_s > 0).then(|| Duration::from_secs(idle_s)) }
}

/// Returns whether a worker is given free work. Logs if it is given no work at all.
fn free_work(discovery: &Discovery, row: &WorkerRow) -> bool {
    let [free, assigned] =
        [Affinity::Free, Affinity::Assigned].map(|affinity| discovery.may_get(row, affinity));
    if !free && !assigned {
        let (name, kind) = (&row.name, row.kind);
        tracing::warn!(name, %kind, "executors.worker gives this worker no work");
    }
    free
}

/// Returns the name of this machine.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn mode_text(affinity: Affinity) -> String {
    ExecMode::from(affinity).text().to_owned()
}

fn row(config: &Config, setup: &WorkerOptions, started: u64) -> WorkerRow {
    let (host, process) = (host_name(), std::process::id());
    let options = || setup.handlers.names().map(|name| (name.to_owned(), setup.handlers.options(name)));
    let name = match config.node.name.as_str() {
        "" => format!("{host}-{process}"),
        name => name.to_owned(),
    };
    WorkerRow {
        pool: setup.pool.clone(),
        lane: setup.lane.as_ref().unwrap_or(&config.node.lane).clone(),
        release: config.node.release.clone(),
        slots: setup.slots.count,
        methods: setup.handlers.names().map(str::to_owned).collect(),
        modes: options().filter_map(|(name, of)| Some((name, mode_text(of.affinity?)))).collect(),
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
