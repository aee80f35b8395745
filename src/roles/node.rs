//! A node: the parts that terminate sockets and hold pages.
//!
//! Owns: the order in which the parts of a node start, and their background tasks. Never: what a part does.

use std::sync::Arc;

use pagewire_cluster::clock::ClusterClock;
use pagewire_cluster::engine::Engine;
use pagewire_cluster::keyring::Keyring;
use pagewire_cluster::lease::{NodeLease, NodeNote};
use pagewire_cluster::register::Registers;
use pagewire_cluster::registry::Registry;
use pagewire_cluster::timing::Timing;
use pagewire_worker::demo::demo_handlers;
use pagewire_worker::effects::application::{ApplicationNode, Applications};
use pagewire_worker::handlers::Handlers;
use pagewire_worker::requests::ProgramRequests;
use pagewire_worker::runtime::http::callbacks::Callbacks;
use tokio::sync::watch;

use super::engine::engine;
use super::peer_server::PeerRequests;
use super::pools::{self, NodePools, PoolServices};
use super::services::{JoinedNode, Services};
use super::tasks::{TaskKind, Tasks};
use super::worker::outgoing;
use super::{StartError, duties, mount_places};
use crate::auth::TokenIssuer;
use crate::calls::LocalWorkers;
use crate::command::{Context, LoginsOfApplications, PagesOfApplications};
use crate::config::Config;
use crate::mount::OwnMount;
use crate::pages::Hub;
use crate::telemetry::{Latch, Metrics, Readiness};

/// A running node without its listener.
pub struct Node {
    /// The configuration.
    pub config: Arc<Config>,
    /// The time-outs.
    pub timing: Timing,
    /// The parts that commands use.
    pub context: Arc<Context>,
    /// The pages of this node.
    pub hub: Arc<Hub>,
    /// The registry with the view of the cluster.
    pub registry: Registry,
    /// The lease of the node number.
    pub lease: NodeLease,
    /// The keys of the cluster.
    pub(crate) keyring: Keyring,
    /// The registers of applications.
    pub(crate) registers: Registers,
    /// The requests of programs beside them.
    pub(crate) programs: ProgramRequests,
    /// The clock of the cluster.
    pub(crate) clock: ClusterClock,
    /// Whether the node can take traffic.
    pub ready: Readiness,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Open until the node drains.
    pub(crate) accepting: Latch,
    /// The part of the node's row that changes.
    pub(crate) note: watch::Sender<NodeNote>,
    /// The mounts in code.
    pub(crate) own_mounts: Vec<OwnMount>,
    pub(crate) tasks: Tasks,
    pub(crate) pools: NodePools,
    /// The work of this node that may report progress.
    pub(crate) callbacks: Callbacks,
}

/// Creates the metrics of a node, with those of the work of its cluster.
fn metrics(config: &Config, services: &Services, local: LocalWorkers) -> Metrics {
    let Services { rollouts, workers, jobs, engine, .. } = services;
    let mut metrics = Metrics::new(&config.node.lane, &config.node.release);
    metrics.register_children(move || local.children());
    metrics.register_rollouts(rollouts.clone());
    metrics.register_waiting_jobs(jobs.waiting.subscribe(), engine.clock());
    metrics.register_wanted(rollouts.clone(), workers.clone(), jobs.waiting.subscribe(), engine.clock());
    metrics
}

impl Node {
    /// Starts a node: engine, view, number, subscriptions, in this order. The node takes traffic when [`Node::ready`]
    /// has no closed latch.
    pub async fn start(config: Config, timing: Timing) -> Result<Self, StartError> {
        Self::start_with(config, Handlers::default(), timing).await
    }

    /// Starts a node with handlers of its program, which run on a worker inside the node.
    pub(super) async fn start_with(
        config: Config,
        own: Handlers,
        timing: Timing,
    ) -> Result<Self, StartError> {
        let engine = engine(&config, timing).await?;
        Self::start_own(engine, config, own, timing).await
    }

    #[cfg(test)]
    pub(super) async fn start_on(engine: Engine, config: Config, timing: Timing) -> Result<Self, StartError> {
        Self::start_own(engine, config, Handlers::default(), timing).await
    }

    async fn start_own(
        engine: Engine,
        config: Config,
        own: Handlers,
        timing: Timing,
    ) -> Result<Self, StartError> {
        let (config, tasks) = (Arc::new(config), Tasks::default());
        // refused before the node joins its cluster
        let parts = pools::parts(&config, &handlers(&config), &own)?;
        let JoinedNode { services, view, keeper } = Services::join(engine, &config, timing, &tasks).await?;
        let (hub, handlers) = (Arc::new(Hub::default()), handlers(&config));
        let local = LocalWorkers::default();
        let metrics = Arc::new(metrics(&config, &services, local.clone()));
        let context = Arc::new(services.context(&config, &hub, handlers.clone(), local, &metrics));
        let (pages, watchers) = (context.pages.clone(), context.watching.clone());
        tasks.spawn("view", TaskKind::Vital, view.run(move |event| pages.on_registry_event(event)));
        let updates = services.states.feed(move |update| watchers.publish(&update));
        tasks.spawn("state feed", TaskKind::Vital, updates);
        let reconnects = duties::count_reconnects(services.engine.link(), metrics.clone());
        tasks.spawn("reconnects", TaskKind::Finite, reconnects);
        let (note, notes) = watch::channel(NodeNote::default());
        let keeping = keeper.keep(notes, tasks.stopping().cancelled_owned());
        tasks.spawn_graceful("lease", TaskKind::Vital, keeping);
        let ready = Readiness::default();
        let accepting = ready.latch("accepting");
        accepting.set(true);
        let peers = peer_requests(&services, &context, timing, &ready);
        tasks.spawn("peer server", TaskKind::Vital, peers.serve());
        duties::spawn_all(&tasks, &services, &context, &config);
        let registers = Registers::new(&services.engine);
        let applications = applications(&services, &registers, &config, &context);
        let programs = ProgramRequests::new(applications.clone());
        let pool_services = pool_services(&services, &config, &context, &tasks, registers, applications);
        let pools = NodePools::start(&pool_services, parts, !own.is_empty(), &ready).await?;
        mount_places::spawn(&pool_services, &services.registry, &pools, note.clone());
        let Services { registry, lease, keyring, engine, .. } = services;
        Ok(Self {
            config,
            timing,
            context,
            hub,
            registry,
            lease,
            keyring,
            registers: pool_services.registers,
            programs,
            clock: engine.clock(),
            ready,
            metrics,
            accepting,
            note,
            own_mounts: Vec::new(),
            tasks,
            pools,
            callbacks: pool_services.callbacks,
        })
    }

    /// Drains the pools, writes the open jobs that are counted in memory only, ends the background tasks and gives the
    /// number back. Sockets must be closed before.
    pub async fn stop(self) {
        self.pools.drain().await;
        self.context.jobs.quotas.write_all().await;
        self.tasks.shutdown().await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// Returns the handlers of a node: the demo handlers for its welcome page, or because `demo` registers them.
fn handlers(config: &Config) -> Handlers {
    if config.welcome || config.demo { demo_handlers() } else { Handlers::default() }
}

fn peer_requests(
    services: &Services,
    context: &Arc<Context>,
    timing: Timing,
    ready: &Readiness,
) -> PeerRequests {
    PeerRequests {
        engine: services.engine.clone(),
        subjects: services.subjects.clone(),
        timing,
        lease: services.lease.clone(),
        context: context.clone(),
        listening: ready.latch("peer server"),
    }
}

fn pool_services(
    services: &Services,
    config: &Arc<Config>,
    context: &Arc<Context>,
    tasks: &Tasks,
    registers: Registers,
    applications: Arc<Applications>,
) -> PoolServices {
    let callbacks = Callbacks::default();
    callbacks.listen_at(&config.node.advertise);
    PoolServices {
        jobs: services.jobs.clone(),
        rollouts: services.rollouts.clone(),
        analysis: services.analysis.clone(),
        config: config.clone(),
        node: services.lease.holder().map(|holder| holder.node),
        local: context.executors.local().clone(),
        metrics: context.metrics.clone(),
        callbacks,
        applications: Some(applications),
        registers,
        tasks: tasks.clone(),
    }
}

/// Returns what the applications of the mounts of a node may request.
fn applications(
    services: &Services,
    registers: &Registers,
    config: &Config,
    context: &Arc<Context>,
) -> Arc<Applications> {
    let Services { registry, lease, jobs, rollouts, timing, .. } = services;
    let pages = PagesOfApplications { context: context.clone(), page_token: timing.page_token };
    let (issuer, ended) = (TokenIssuer::new(&config.auth), services.ended_logins.clone());
    let logins = LoginsOfApplications { issuer, ended };
    let node = ApplicationNode {
        lease: lease.clone(),
        registry: registry.clone(),
        pages: Arc::new(pages),
        logins: Arc::new(logins),
    };
    let outgoing = outgoing(jobs, rollouts, config, context.executors.local(), &context.metrics);
    Applications::new(node, jobs, registers, outgoing)
}
