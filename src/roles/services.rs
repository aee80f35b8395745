//! The services of a node: its clients of the cluster, and what commands use.
//!
//! Owns: the order in which a node joins its cluster. Never: sockets, peer requests or duties.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::Engine;
use pagewire_cluster::id::NodeNumber;
use pagewire_cluster::job::{Jobs, Retention};
use pagewire_cluster::keyring::Keyring;
use pagewire_cluster::lease::{ClaimRequest, LeaseKeeper, NodeLease, NodeNumbers, NodeRow, claim_node};
use pagewire_cluster::login::EndedLogins;
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::registry::{Following, Lifetimes, Registry};
use pagewire_cluster::rollout::analysis::LaneAnalysis;
use pagewire_cluster::rollout::{LatchProcess, Latches, Rollouts};
use pagewire_cluster::state::StateStore;
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::Workers;
use pagewire_worker::handlers::Handlers;

use super::tasks::{TaskKind, Tasks};
use super::{StartError, rollout_analysis};
use crate::auth::Authenticator;
use crate::calls::{ExecutorOptions, Executors, LocalWorkers, PageRules};
use crate::command::{Context, PendingCalls};
use crate::config::Config;
use crate::pages::{
    Budget, Hub, Options, PagePlacement, PageStore, PageTokens, Pages, Pusher, StateWatchers,
};
use crate::protocol::{Allow, FrameLimitsInfo};
use crate::telemetry::Metrics;

/// The clients of the cluster that a node has.
pub(super) struct Services {
    pub(super) engine: Engine,
    pub(super) subjects: Subjects,
    pub(super) timing: Timing,
    pub(super) registry: Registry,
    pub(super) keyring: Keyring,
    pub(super) ended_logins: EndedLogins,
    pub(super) peers: PeerClient,
    pub(super) rollouts: Rollouts,
    pub(super) analysis: LaneAnalysis,
    pub(super) latches: Latches,
    pub(super) lease: NodeLease,
    pub(super) workers: Workers,
    pub(super) jobs: Jobs,
    pub(super) states: StateStore,
}

/// A node that has joined its cluster. The view and the lease continue when their tasks run.
pub(super) struct JoinedNode {
    pub(super) services: Services,
    pub(super) view: Following,
    pub(super) keeper: LeaseKeeper<NodeNumbers>,
}

impl Services {
    /// Joins the cluster: view, keys, rollouts, number, latches and workers, in this order. `tasks` follow the keys, the
    /// rollouts, the latches and the workers.
    ///
    /// # Errors
    /// [`StartError::Engine`] when the engine does not reply; [`StartError::Incompatible`] when a living process of the
    /// cluster has no wire version in common with this one.
    pub(super) async fn join(
        engine: Engine,
        config: &Config,
        timing: Timing,
        tasks: &Tasks,
    ) -> Result<JoinedNode, StartError> {
        let subjects = Subjects::new(&config.cluster);
        let registry = Registry::new(&engine, lifetimes(config));
        let view = registry.follow().await?;
        let keyring = Keyring::load(&engine).await?;
        tasks.spawn("keyring", TaskKind::Vital, keyring.follow().await?);
        let ended_logins = EndedLogins::new(&engine);
        tasks.spawn("ended logins", TaskKind::Vital, ended_logins.follow().await?);
        let peers = PeerClient::new(&engine, &subjects, timing.deliver);
        let rollouts = Rollouts::new(&engine, peers.clone(), timing.deliver);
        // rollouts are live before any work is assigned to a lane
        tasks.spawn("rollouts", TaskKind::Vital, rollouts.follow().await?);
        let analysis = LaneAnalysis::new(&engine, &subjects, &rollouts, timing.lane_digest);
        rollout_analysis::spawn(tasks, &analysis).await?;
        rollout_analysis::spawn_evidence(tasks, &analysis).await?;
        let (keeper, lease) =
            claim_node(&engine, &subjects, timing, claim_request(config), row(config)).await?;
        let latches = Latches::new(&engine, &subjects, &keyring, &rollouts, timing);
        let process = LatchProcess::Node(lease.changes());
        tasks.spawn("latches", TaskKind::Vital, latches.follow(process).await?);
        let workers = Workers::new(&engine, &subjects, timing).found_by(config.executors.discovery());
        tasks.spawn("workers", TaskKind::Vital, workers.follow().await?);
        let jobs = Jobs::keeping(&engine, &subjects, timing, retention(config), &workers);
        let states = StateStore::new(&engine);
        let services = Self {
            engine,
            subjects,
            timing,
            registry,
            keyring,
            ended_logins,
            peers,
            rollouts,
            analysis,
            latches,
            lease,
            workers,
            jobs,
            states,
        };
        Ok(JoinedNode { services, view, keeper })
    }

    /// Returns the parts that commands use.
    pub(super) fn context(
        &self,
        config: &Config,
        hub: &Arc<Hub>,
        handlers: Handlers,
        local: LocalWorkers,
        metrics: &Arc<Metrics>,
    ) -> Context {
        let watching = StateWatchers::new(hub.clone(), self.states.clone());
        Context {
            pages: Arc::new(self.pages(config, watching.clone())),
            deliver: self.pusher(hub, metrics),
            executors: self.executors(config, handlers, local, metrics),
            in_flight: Arc::new(PendingCalls::new(&config.limits)),
            jobs: self.jobs.clone(),
            job_rules: PageRules::new(&config.limits),
            states: self.states.clone(),
            watching,
            writable: config.state.write.clone(),
            anonymous_tree: config.limits.anonymous_tree_bytes,
            open_topics: config.topics.open.clone(),
            metrics: metrics.clone(),
            workers: self.workers.clone(),
            rollouts: self.rollouts.clone(),
            analysis: self.analysis.clone(),
            latches: self.latches.clone(),
            authenticator: Arc::new(Authenticator::new(&config.auth).without(self.ended_logins.clone())),
            allow: config.send.allow.clone(),
        }
    }

    fn pages(&self, config: &Config, watching: StateWatchers) -> Pages {
        let (registry, lease) = (self.registry.clone(), self.lease.clone());
        let (lane, path) = (config.node.lane.clone(), config.websocket.path.clone());
        let placement =
            PagePlacement::new(self.rollouts.clone(), registry.clone(), lease.clone(), lane, path);
        let store = PageStore::new(registry, lease, watching, self.timing, options(config), placement);
        let outcomes = self.analysis.outcomes().clone();
        Pages::new(store, PageTokens::new(self.keyring.clone()), self.peers.clone(), outcomes)
    }

    fn pusher(&self, hub: &Arc<Hub>, metrics: &Arc<Metrics>) -> Pusher {
        let (registry, lease) = (self.registry.clone(), self.lease.clone());
        Pusher::new(hub.clone(), registry, lease, self.peers.clone(), self.timing, metrics.clone())
    }

    fn executors(
        &self,
        config: &Config,
        handlers: Handlers,
        local: LocalWorkers,
        metrics: &Arc<Metrics>,
    ) -> Executors {
        let options = ExecutorOptions {
            alone: config.nats.urls.is_empty() && !config.has_pools(),
            prefer: config.executors.prefer,
            modes: config.executors.mode.clone(),
            local,
        };
        Executors::new(
            handlers,
            options,
            self.jobs.clone(),
            self.workers.clone(),
            self.rollouts.clone(),
            self.timing,
            metrics.clone(),
        )
    }
}

fn claim_request(config: &Config) -> ClaimRequest {
    ClaimRequest { number: NodeNumber::new(config.node.number), name: config.node.name.clone() }
}

fn row(config: &Config) -> NodeRow {
    NodeRow {
        name: config.node.name.clone(),
        lane: config.node.lane.clone(),
        release: config.node.release.clone(),
        advertise: config.node.advertise.clone(),
        counts_closes: true,
        ..NodeRow::default()
    }
}

/// Returns how long ended jobs are kept.
pub(super) fn retention(config: &Config) -> Retention {
    let jobs = &config.jobs;
    let [succeeded, failed] = [jobs.keep_succeeded_s, jobs.keep_failed_s].map(Duration::from_secs);
    Retention { succeeded, failed }
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
        adopt_ids: config.compat.adopt_ids,
    }
}
