//! A worker: a process that runs handlers (`pagewire worker`), or the same inside a node on the embedded engine.
//!
//! Owns: the order in which the parts of a worker start and stop. Never: what a handler does (`calls`), or claims
//! (`pagewire_cluster::job`).

use std::sync::Arc;

use pagewire_cluster::engine::{Engine, Unavailable};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Jobs, WorkStream};
use pagewire_cluster::lease::Proto;
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::{WorkerGroup, WorkerLeaseKeeper, WorkerRow, Workers};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::StartError;
use super::engine::engine;
use crate::calls::{Handlers, serve};
use crate::config::Config;
use crate::telemetry::Metrics;
use pagewire_cluster::clock;

/// The pool, slots and handlers of a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The pool.
    pub pool: String,
    /// Pieces of work at the same time.
    pub slots: u32,
    /// The handlers.
    pub handlers: Handlers,
}

/// Runs a worker until `stop` or until a drain request. It then takes no new work, finishes the running work, and
/// releases work that takes longer than a drain.
pub async fn run_worker(
    config: Config,
    setup: WorkerOptions,
    timing: Timing,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let metrics = Arc::new(Metrics::new(&config.node.lane, &config.node.release));
    let up = async {
        let engine = engine(&config, timing).await?;
        let subjects = Subjects::new(&config.cluster);
        let workers = Workers::new(&engine, &subjects, timing);
        tokio::spawn(workers.follow().await?);
        let jobs = Jobs::new(&engine, &subjects, timing, &workers);
        let pool = setup.pool.clone();
        let worker = WorkerRole::start(&engine, &jobs, &config, setup, timing, metrics).await?;
        workers.introduce(&pool).await?;
        Ok::<_, StartError>(worker)
    };
    let mut stop = std::pin::pin!(stop);
    let mut worker = tokio::select! {
        worker = up => worker?,
        () = &mut stop => return Ok(()),
    };
    tokio::select! {
        () = &mut stop => worker.drain(),
        () = worker.ended() => {}
    }
    worker.ended().await;
    tracing::info!("stopped");
    Ok(())
}

/// A running worker.
pub(super) struct WorkerRole {
    draining: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl WorkerRole {
    /// Starts the worker. The lease comes first, so that other processes can check whether a claimant is alive.
    pub(super) async fn start(
        engine: &Engine,
        jobs: &Jobs,
        config: &Config,
        setup: WorkerOptions,
        timing: Timing,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Unavailable> {
        let id = Key::random();
        let team = WorkerGroup::new(setup.pool.as_str(), config.node.lane.as_str());
        let row = row(config, &setup);
        let draining = watch::Sender::new(false);
        let (keeper, lease) = WorkerLeaseKeeper::claim(engine, timing, id, row).await;
        let (release, slots) = (config.node.release.clone(), setup.slots);
        let intake = WorkStream::open(jobs, team, release, slots, lease, id, draining.clone()).await?;
        let (end, ended) = watch::channel(false);
        let keeping = tokio::spawn(keeper.keep(draining.subscribe(), stopped(ended)));
        let Config { cluster, node, .. } = config;
        tracing::info!(worker = %id, pool = setup.pool, lane = node.lane, cluster, slots, "ready");
        let draining_begun = draining.subscribe();
        let running = tokio::spawn(async move {
            run(intake, setup.handlers, draining_begun, timing, metrics).await;
            end.send_replace(true);
            // the lease ends last, because work may run here until then
            let _ = keeping.await;
        });
        Ok(Self { draining, running })
    }

    /// Stops taking new work.
    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits until the worker has stopped. Returns at once if it already has.
    pub(super) async fn ended(&mut self) {
        if !self.running.is_finished() {
            // an error means that its task panicked: it has stopped as well
            let _ = (&mut self.running).await;
        }
    }
}

impl Drop for WorkerRole {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn run(
    mut intake: WorkStream,
    handlers: Handlers,
    mut draining: watch::Receiver<bool>,
    timing: Timing,
    metrics: Arc<Metrics>,
) {
    let (leave, leaving) = watch::channel(false);
    let idle = intake.idle();
    let drained = async move {
        // an error means that the sender is gone, and no drain can be requested any more
        let _ = draining.wait_for(|draining| *draining).await;
        tracing::info!("taking nothing new, finishing what runs");
        let mut idle = std::pin::pin!(idle);
        if tokio::time::timeout(timing.drain, &mut idle).await.is_err() {
            leave.send_replace(true);
            idle.await;
        }
    };
    tokio::select! {
        () = serve(&mut intake, handlers, leaving, metrics) => {}
        () = drained => {}
    }
    intake.close().await;
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // an error means that the owner of the sender is gone
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn row(config: &Config, setup: &WorkerOptions) -> WorkerRow {
    WorkerRow {
        epoch: None,
        pool: setup.pool.clone(),
        lane: config.node.lane.clone(),
        release: config.node.release.clone(),
        slots: setup.slots,
        draining: false,
        methods: setup.handlers.names().map(str::to_owned).collect(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        process: std::process::id(),
        started: clock::unix_ms(),
        proto: Proto::default(),
    }
}
