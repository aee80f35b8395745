//! A node: the parts that terminate sockets and hold pages.
//!
//! Owns: the order in which the parts of a node start, and their background tasks. Never: what a part does.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::Engine;
use pagewire_cluster::id::NodeNumber;
use pagewire_cluster::job::Jobs;
use pagewire_cluster::keyring::Keyring;
use pagewire_cluster::lease::{ClaimRequest, LeaseKeeper, NodeLease, NodeRow, Proto};
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::registry::{Lifetimes, Registry};
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::state::StateStore;
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::Workers;

use super::engine::engine;
use super::leader::Leadership;
use super::peer_server::PeerRequests;
use super::tasks::{TaskKind, Tasks};
use super::worker::{WorkerOptions, WorkerRole};
use super::{StartError, duties};
use crate::auth::Authenticator;
use crate::calls::{DEFAULT_POOL, Executors, Handlers, PageRules, demo_handlers};
use crate::command::{Context, PendingCalls};
use crate::config::Config;
use crate::pages::{Budget, Hub, Options, PageStore, PageTokens, Pages, Pusher, StateWatchers};
use crate::protocol::{Allow, FrameLimitsInfo};
use crate::telemetry::{Latch, Metrics, Readiness};

/// Slots of the worker inside a node on the embedded engine.
const SLOTS_ALONE: u32 = 256;

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
    /// Whether the node can take traffic.
    pub ready: Readiness,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Open until the node drains.
    pub(crate) accepting: Latch,
    pub(crate) tasks: Tasks,
}

impl Node {
    /// Starts a node: engine, view, number, subscriptions, in this order. The node takes traffic when [`Node::ready`]
    /// has no closed latch.
    pub async fn start(config: Config, timing: Timing) -> Result<Self, StartError> {
        let engine = engine(&config, timing).await?;
        Self::start_on(engine, config, timing).await
    }

    pub(super) async fn start_on(engine: Engine, config: Config, timing: Timing) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let subjects = Subjects::new(&config.cluster);
        let registry = Registry::new(&engine, lifetimes(&config));
        let follow = registry.follow().await?;
        let keyring = Keyring::load(&engine).await?;
        let tasks = Tasks::default();
        tasks.spawn("keyring", TaskKind::Vital, keyring.follow().await?);
        let peers = PeerClient::new(&engine, &subjects, timing.deliver);
        let rollouts = Rollouts::new(&engine, peers.clone(), timing.deliver);
        // rollouts are live before any work is assigned to a lane
        tasks.spawn("rollouts", TaskKind::Vital, rollouts.follow().await?);
        let (keeper, lease) =
            LeaseKeeper::claim(&engine, &subjects, timing, claim_request(&config), row(&config)).await;
        let workers = Workers::new(&engine, &subjects, timing);
        tasks.spawn("workers", TaskKind::Vital, workers.follow().await?);
        let jobs = Jobs::new(&engine, &subjects, timing, &workers);
        let hub = Arc::new(Hub::default());
        let states = StateStore::new(&engine);
        let watching = StateWatchers::new(hub.clone(), states.clone());
        let watchers = watching.clone();
        tasks.spawn("state feed", TaskKind::Vital, states.feed(move |delivery| watchers.publish(&delivery)));
        let store =
            PageStore::new(registry.clone(), lease.clone(), watching.clone(), timing, options(&config));
        let pages = Arc::new(Pages::new(store, PageTokens::new(keyring), peers.clone()));
        let handlers = handlers(&config);
        let mut metrics = Metrics::new(&config.node.lane, &config.node.release);
        metrics.register_rollouts(rollouts.clone());
        let metrics = Arc::new(metrics);
        let context = Arc::new(Context {
            deliver: Pusher::new(
                hub.clone(),
                registry.clone(),
                lease.clone(),
                peers,
                timing,
                metrics.clone(),
            ),
            executors: Executors::new(
                handlers.clone(),
                config.nats.urls.is_empty(),
                jobs.clone(),
                workers.clone(),
                rollouts.clone(),
                timing,
                metrics.clone(),
            ),
            in_flight: Arc::new(PendingCalls::new(&config.limits)),
            jobs: jobs.clone(),
            job_rules: PageRules::new(&config.limits),
            states,
            watching,
            writable: config.state.write.clone(),
            anonymous_tree: config.limits.anonymous_tree_bytes,
            open_topics: config.topics.open.clone(),
            metrics: metrics.clone(),
            workers,
            rollouts,
            authenticator: Arc::new(Authenticator::new(&config.auth)),
            allow: config.send.allow.clone(),
            pages,
        });
        let (events, results) = (context.pages.clone(), context.clone());
        tasks.spawn("view", TaskKind::Vital, follow.run(move |event| events.on_registry_event(event)));
        tasks.spawn("reconnects", TaskKind::Finite, duties::count_reconnects(engine.link(), metrics.clone()));
        let released = tasks.stopping().cancelled_owned();
        tasks.spawn_graceful("lease", TaskKind::Vital, keeper.keep(released));
        let ready = Readiness::default();
        let accepting = ready.latch("accepting");
        accepting.set(true);
        let peers = PeerRequests {
            engine: engine.clone(),
            subjects: subjects.clone(),
            timing,
            lease: lease.clone(),
            context: context.clone(),
            listening: ready.latch("peer server"),
        };
        tasks.spawn("peer server", TaskKind::Vital, peers.serve());
        let (lifetimes, states) = (&config.lifetime, context.states.clone());
        let cleanup = Duration::from_secs(lifetimes.cleanup_interval_s);
        let leadership = Leadership::new(registry.clone(), lease.clone());
        let leads = || (leadership.clone(), registry.clone());
        let ((leader, rows), own) = (leads(), lease.clone());
        let next_node = duties::watch_neighbour(engine.clone(), subjects, rows.clone(), own, timing);
        tasks.spawn("neighbour", TaskKind::Vital, next_node);
        tasks.spawn("sweep", TaskKind::Vital, duties::sweep(leader, rows, timing));
        let unclaimed = Duration::from_secs(lifetimes.unclaimed_job_s);
        let reconcile = duties::reconcile_jobs(leadership.clone(), jobs.clone(), timing, unclaimed);
        tasks.spawn("jobs", TaskKind::Vital, reconcile);
        let tokens = duties::renew_tokens(leadership.clone(), context.pages.clone(), timing);
        tasks.spawn("tokens", TaskKind::Vital, tokens);
        tasks.spawn("job results", TaskKind::Vital, duties::find_job_results(results, timing));
        let (leader, rows) = leads();
        tasks.spawn("expiry", TaskKind::Vital, duties::end_idle(leader, rows, states.clone(), cleanup));
        let ((leader, rows), grace) = (leads(), Duration::from_millis(lifetimes.resume_ms));
        let orphans = duties::remove_orphans(leader, rows, states, cleanup, grace);
        tasks.spawn("orphans", TaskKind::Vital, orphans);
        // a worker without handlers would take jobs and fail them
        if config.nats.urls.is_empty() && !handlers.is_empty() {
            let (setup, metrics) = (alone(handlers), metrics.clone());
            let worker = WorkerRole::start(&engine, &jobs, &config, setup, timing, metrics, &tasks).await?;
            tasks.spawn("worker", TaskKind::Vital, async {
                worker.run().await;
                // an operator has drained the worker: the node goes on without it
                std::future::pending().await
            });
        }
        Ok(Self { config, timing, context, hub, registry, lease, ready, metrics, accepting, tasks })
    }

    /// Ends the background tasks and gives the number back. Sockets must be closed before.
    pub async fn stop(self) {
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

/// Options of the worker inside a node on the embedded engine. No other worker can take its work, so it has many slots.
fn alone(handlers: Handlers) -> WorkerOptions {
    WorkerOptions { pool: DEFAULT_POOL.to_owned(), slots: SLOTS_ALONE, handlers }
}

fn claim_request(config: &Config) -> ClaimRequest {
    ClaimRequest { number: NodeNumber::new(config.node.number), name: config.node.name.clone() }
}

fn row(config: &Config) -> NodeRow {
    NodeRow {
        epoch: None,
        name: config.node.name.clone(),
        lane: config.node.lane.clone(),
        release: config.node.release.clone(),
        advertise: config.node.advertise.clone(),
        proto: Proto::default(),
    }
}

/// Returns how long sessions and connections without pages, and closed pages, are kept.
pub fn lifetimes(config: &Config) -> Lifetimes {
    let lifetime = &config.lifetime;
    Lifetimes {
        session: Duration::from_secs(lifetime.session_timeout_s),
        connection: Duration::from_secs(lifetime.connection_timeout_s),
        unregistered: Duration::from_secs(lifetime.resume_ms.div_ceil(1000).max(1)),
    }
}

fn options(config: &Config) -> Options {
    Options {
        lane: config.node.lane.clone(),
        release: config.node.release.clone(),
        budget: Budget { outbox: config.websocket.outbox_bytes, replay: config.websocket.replay_bytes },
        resume_window: Duration::from_millis(config.lifetime.resume_ms),
        ping_ms: config.websocket.ping_ms,
        limits: FrameLimitsInfo {
            max_frame: config.websocket.max_frame,
            frames_per_second: config.limits.frames_per_second,
        },
        allow: Allow {
            write: config.state.write.clone(),
            send: config.send.allow.iter().map(|level| level.text()).collect(),
        },
        pages_per_user: config.limits.pages_per_user,
    }
}
