//! `pagewire worker`: a process that runs handlers for the nodes of a cluster.
//!
//! Owns: the order in which the parts of the process start and stop. Never: what a worker does (`worker`), or which
//! workers a pool has (`pools`).

use std::net::SocketAddr;
use std::sync::Arc;

use pagewire_cluster::job::Jobs;
use pagewire_cluster::keyring::Keyring;
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::register::Registers;
use pagewire_cluster::rollout::analysis::LaneAnalysis;
use pagewire_cluster::rollout::{LatchProcess, Latches, Rollouts, WorkerProcess};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::{WorkerType, Workers};
use pagewire_worker::handlers::Handlers;
use pagewire_worker::runtime::http::callbacks::Callbacks;
use pagewire_worker::slots::SlotOptions;
use tokio::net::TcpListener;

use super::StartError;
use super::duties::count_reconnects;
use super::engine::engine;
use super::listen::bind;
use super::pools::{self, NodePools, PoolServices};
use super::rollout_analysis;
use super::services::retention;
use super::tasks::{TaskFailure, TaskKind, Tasks};
use super::worker::host_name;
use crate::api::{WorkerState, worker_router};
use crate::auth::Authenticator;
use crate::calls::LocalWorkers;
use crate::config::{Config, local_url};
use crate::edge::StartupServer;
use crate::telemetry::{Metrics, Readiness};

/// A worker that runs handlers of this binary.
#[derive(Debug, Clone)]
pub struct OwnHandlers {
    /// The pool.
    pub pool: String,
    /// Pieces of work at the same time, and the reserve for calls.
    pub slots: SlotOptions,
    /// The kinds of work that it takes.
    pub kind: WorkerType,
    /// The handlers.
    pub handlers: Handlers,
}

/// A latch of the readiness of the process: it is closed while the process drains.
const ACCEPTING: &str = "accepting";

/// Runs the pools of the configuration, or `own` handlers if it has none, until `stop` or until its workers were asked to
/// drain. The workers then take no new work, finish the running work, and release work that takes longer than a drain.
///
/// # Errors
/// [`StartError`] when the engine or a pool cannot be used, or when a task that the process needs has ended.
pub async fn run_worker(
    config: Config,
    own: OwnHandlers,
    listen: SocketAddr,
    timing: Timing,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let listener = bind(listen).await?;
    let url = listener.local_addr().map(local_url).unwrap_or_default();
    tracing::info!(url, "listening for probes");
    let (tasks, ready, config) = (Tasks::default(), Readiness::default(), Arc::new(config));
    let accepting = ready.latch(ACCEPTING);
    let mut stop = std::pin::pin!(stop);
    let starting = async {
        let services = services(&config, &own, timing, &tasks).await?;
        services.callbacks.listen_at(&url);
        let parts = match config.pool.is_empty() {
            true => vec![pools::own(&own)],
            false => pools::parts(&config, &own.handlers, &Handlers::default())?,
        };
        let pools = NodePools::start(&services, parts, false, &ready).await?;
        Ok::<_, StartError>((services, pools))
    };
    let (services, pools) = tokio::select! {
        started = starting => started?,
        () = &mut stop => return Ok(()),
    };
    accepting.set(true);
    let PoolServices { local, metrics, callbacks, .. } = services;
    let probes = WorkerState { ready, local, metrics, callbacks };
    tasks.spawn("listener", TaskKind::Vital, serve_probes(listener, &config, probes, timing));
    let failure = until_drained(&pools, &tasks, stop).await;
    accepting.set(false);
    pools.drain().await;
    tasks.shutdown().await;
    tracing::info!("stopped");
    failure.map_or(Ok(()), |failure| Err(StartError::Task(failure.name)))
}

/// Serves the probes and metrics of the process. Never returns.
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

async fn services(
    config: &Arc<Config>,
    own: &OwnHandlers,
    timing: Timing,
    tasks: &Tasks,
) -> Result<PoolServices, StartError> {
    let pool = config.pool.first().map_or(own.pool.as_str(), |pool| pool.name.as_str());
    let local = LocalWorkers::default();
    let (mut metrics, children) =
        (Metrics::of_worker(pool, &config.node.lane, &config.node.release), local.clone());
    metrics.register_children(move || children.children());
    let metrics = Arc::new(metrics);
    let engine = engine(config, timing).await?;
    let subjects = Subjects::new(&config.cluster);
    let workers = Workers::new(&engine, &subjects, timing).found_by(config.executors.discovery());
    tasks.spawn("reconnects", TaskKind::Finite, count_reconnects(engine.link(), metrics.clone()));
    tasks.spawn("workers", TaskKind::Vital, workers.follow().await?);
    let rollouts =
        Rollouts::new(&engine, PeerClient::new(&engine, &subjects, timing.deliver), timing.deliver);
    tasks.spawn("rollouts", TaskKind::Vital, rollouts.follow().await?);
    let analysis = LaneAnalysis::new(&engine, &subjects, &rollouts, timing.lane_digest);
    rollout_analysis::spawn(tasks, &analysis).await?;
    let keyring = Keyring::load(&engine).await?;
    tasks.spawn("keyring", TaskKind::Vital, keyring.follow().await?);
    // before the first claim, so that no lane that is taken back gets work
    let latches = Latches::new(&engine, &subjects, &keyring, &rollouts, timing);
    let process = WorkerProcess { host: host_name(), pid: std::process::id() };
    tasks.spawn("latches", TaskKind::Vital, latches.follow(LatchProcess::Workers(process)).await?);
    Ok(PoolServices {
        jobs: Jobs::keeping(&engine, &subjects, timing, retention(config), &workers),
        registers: Registers::new(&engine),
        rollouts,
        analysis,
        config: config.clone(),
        node: None,
        local,
        metrics,
        callbacks: Callbacks::default(),
        applications: None,
        tasks: tasks.clone(),
    })
}

/// Waits until the workers have drained on request, until `stop`, or until a vital task has ended. Returns that task.
async fn until_drained(
    pools: &NodePools,
    tasks: &Tasks,
    stop: impl Future<Output = ()>,
) -> Option<TaskFailure> {
    tokio::select! {
        () = pools.ended() => None,
        () = stop => None,
        failure = tasks.failed() => Some(failure),
    }
}

#[cfg(test)]
mod tests {
    use pagewire_worker::demo::demo_handlers;

    use super::*;
    use crate::calls::DEFAULT_POOL;

    #[tokio::test]
    async fn a_worker_drains_when_a_task_that_it_needs_panics() {
        let tasks = Tasks::default();
        let config = crate::config::load(&crate::config::Sources::default()).unwrap();
        let (services, _workers) = pools::tests::services(config, None, &tasks);
        let own = pools::own(&OwnHandlers {
            pool: DEFAULT_POOL.to_owned(),
            slots: SlotOptions::new(1),
            kind: WorkerType::Both,
            handlers: demo_handlers(),
        });
        let pools = NodePools::start(&services, vec![own], false, &Readiness::default()).await.unwrap();
        tasks.spawn("test", TaskKind::Vital, async { panic!("a fault of this test") });
        let failure = until_drained(&pools, &tasks, std::future::pending()).await;
        assert_eq!(failure, Some(TaskFailure { name: "test", panicked: true }));
        pools.drain().await;
        tasks.shutdown().await;
    }
}
