//! The node: the only place that builds parts.
//!
//! Owns: the order in which a process comes up and goes down, and the background duties of a node. Never: what any
//! part does.

mod duties;
mod run;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{ConnectError, Engine, Memory, Nats, NatsOptions, OpenError, Unavailable};
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
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auth::Authenticator;
use crate::calls::{DEFAULT_POOL, Executors, Handlers, PageRules};
use crate::command::{Context, PendingCalls};
use crate::config::Config;
use crate::pages::{Budget, Hub, Options, Pusher, Sessions, StateWatchers};
use crate::protocol::{Allow, FrameLimitsInfo};
use crate::telemetry::{Metrics, Ready};

pub use run::run;
pub use worker::{WorkerOptions, run_worker};

use self::worker::WorkerRole;

/// What a node alone does at the same time for calls and jobs.
const SLOTS_ALONE: u32 = 256;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The configured address.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// NATS cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The engine went away while the node was coming up.
    #[error("the cluster's engine went away while this node was starting")]
    Engine(#[from] Unavailable),
}

/// A running node without its listener.
pub struct Node {
    /// Its configuration.
    pub config: Arc<Config>,
    /// Its time-outs.
    pub timing: Timing,
    /// What commands act on.
    pub context: Arc<Context>,
    /// Its pages.
    pub hub: Arc<Hub>,
    /// Its view of the cluster.
    pub registry: Registry,
    /// Who it is.
    pub lease: NodeLease,
    /// Whether it can take traffic.
    pub ready: Ready,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    keeper: JoinHandle<()>,
    /// A node alone runs durable work itself.
    _worker: Option<WorkerRole>,
}

impl Node {
    /// Brings a node up: engine, view, number, subscriptions, in this order. It takes traffic when
    /// [`Node::ready`] says so.
    pub async fn start(config: Config, timing: Timing) -> Result<Self, StartError> {
        let engine = engine(&config, timing).await?;
        Self::start_on(engine, config, timing).await
    }

    async fn start_on(engine: Engine, config: Config, timing: Timing) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let subjects = Subjects::new(&config.cluster);
        let registry = Registry::new(&engine, lifetimes(&config));
        let follow = registry.follow().await?;
        let keyring = Keyring::load(&engine).await?;
        tokio::spawn(keyring.follow().await?);
        let post = PeerClient::new(&engine, &subjects, timing.deliver);
        let rollouts = Rollouts::new(&engine, post.clone(), timing.deliver);
        // before any work is assigned
        tokio::spawn(rollouts.follow().await?);
        let (keeper, lease) =
            LeaseKeeper::claim(&engine, &subjects, timing, claim_request(&config), row(&config)).await;
        let workers = Workers::new(&engine, &subjects, timing);
        tokio::spawn(workers.follow().await?);
        let jobs = Jobs::new(&engine, &subjects, timing, &workers);
        let hub = Arc::new(Hub::default());
        let states = StateStore::new(&engine);
        let watching = StateWatchers::new(hub.clone(), states.clone());
        let told = watching.clone();
        tokio::spawn(states.feed(move |delivery| told.tell(&delivery)));
        let sessions = Arc::new(Sessions::new(
            registry.clone(),
            lease.clone(),
            keyring,
            post.clone(),
            watching.clone(),
            timing,
            options(&config),
        ));
        let mut metrics = Metrics::new(&config.node.lane, &config.node.release);
        metrics.register_rollouts(rollouts.clone());
        let metrics = Arc::new(metrics);
        let context = Arc::new(Context {
            deliver: Pusher::new(hub.clone(), registry.clone(), lease.clone(), post, timing, metrics.clone()),
            executors: Executors::new(
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
            sessions,
        });
        let (stop, stopping) = watch::channel(false);
        let ready = Ready::default();
        let watching = context.sessions.clone();
        tokio::spawn(follow.run(move |news| watching.on_registry_event(news)));
        tokio::spawn(run::count_reconnects(engine.link(), metrics.clone()));
        let keeper = tokio::spawn(keeper.keep(stopped(stopping.clone())));
        let cleanup = Duration::from_secs(config.lifetime.cleanup_interval_s);
        let duties = duties::BackgroundTasks {
            engine: engine.clone(),
            subjects,
            timing,
            registry: registry.clone(),
            lease: lease.clone(),
            states: context.states.clone(),
        };
        tokio::spawn(duties.clone().answer(context.clone(), ready.clone(), stopping.clone()));
        tokio::spawn(duties.clone().watch_neighbour(stopping.clone()));
        let unclaimed = Duration::from_secs(config.lifetime.unclaimed_job_s);
        tokio::spawn(duties.clone().run_job_reconciler(jobs.clone(), unclaimed, stopping.clone()));
        tokio::spawn(duties.clone().renew_tokens(context.sessions.clone(), stopping.clone()));
        tokio::spawn(duties.clone().look_for_ends(context.clone(), stopping.clone()));
        tokio::spawn(duties.clone().end_idle(cleanup, stopping.clone()));
        let grace = Duration::from_millis(config.lifetime.resume_ms);
        tokio::spawn(duties.clone().remove_orphans(cleanup, grace, stopping.clone()));
        tokio::spawn(duties.sweep(stopping));
        let worker = match config.nats.urls.is_empty() {
            true => Some(WorkerRole::start(&engine, &jobs, &config, alone(), timing, metrics.clone()).await?),
            false => None,
        };
        Ok(Self {
            config,
            timing,
            context,
            hub,
            registry,
            lease,
            ready,
            metrics,
            stop,
            keeper,
            _worker: worker,
        })
    }

    /// Gives the number back and ends the duties. Sockets must be closed by now.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.keeper.await {
            tracing::error!(%error, "the lease's keeper ended badly");
        }
    }
}

async fn engine(config: &Config, timing: Timing) -> Result<Engine, StartError> {
    if config.nats.urls.is_empty() {
        return embedded(config, timing).await;
    }
    let options = NatsOptions {
        urls: config.nats.urls.clone(),
        replicas: config.nats.replicas,
        cluster: config.cluster.clone(),
        client_name: format!("pagewire {}", config.node.name),
        timing,
    };
    Ok(Engine::Nats(Nats::connect(options).await?))
}

async fn embedded(config: &Config, timing: Timing) -> Result<Engine, StartError> {
    if config.data_dir.as_os_str().is_empty() {
        tracing::info!(
            "embedded engine: it keeps nothing, everything ends with this process; data_dir keeps it"
        );
        return Ok(Engine::Memory(Memory::with_timing(&timing)));
    }
    let (memory, kept) = Memory::open(&config.data_dir, &timing).await?;
    let path = config.data_dir.display();
    tracing::info!(%path, rows = kept.rows, hints = kept.hints, "embedded engine: it keeps its data in a directory");
    Ok(Engine::Memory(memory))
}

/// The worker of a node that is alone: it waits for nobody, so it may do much at the same time.
fn alone() -> WorkerOptions {
    WorkerOptions { pool: DEFAULT_POOL.to_owned(), slots: SLOTS_ALONE, handlers: Handlers::default() }
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

/// How long what has no page is kept.
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

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // an error means that the node itself is gone
    let _ = stopping.wait_for(|stop| *stop).await;
}
