//! The child processes of a process: those of its pools with a `command`.
//!
//! Owns: their start, their reload, their readiness and their end. Never: what a child does
//! (`pagewire_worker::runtime::child`), or the workers that give them work (`pools`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pagewire_cluster::worker::{WorkerGroup, WorkerType};
use pagewire_worker::runtime::child::options::{ChildOptions, RecycleLimits, ScaleLimits};
use pagewire_worker::runtime::child::pool::ChildPool;
use pagewire_worker::slots::SlotOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::StartError;
use super::mount_processes::MountProcesses;
use super::pools::{PoolPart, PoolServices};
use super::tasks::TaskKind;
use super::worker::WorkProcesses;
use crate::config::{Config, PoolConfig, PoolRuntime, ScaleConfig};
use crate::mount::{LanePool, MountPools};
use crate::telemetry::Readiness;

/// The pools of child processes, and the processes of mounts. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct ChildPools {
    pools: Vec<(String, ChildPool)>,
    /// The processes of the lanes of mounts beside the mounts themselves. A lane that fails leaves its node ready.
    lanes: Vec<(String, ChildPool)>,
    mounts: Arc<MountProcesses>,
}

impl ChildPools {
    /// Starts the children of the pools with a `command`, and adds the workers of these pools to `parts`. Starts the processes
    /// of the mounts of a node.
    ///
    /// # Errors
    /// [`StartError::Pool`] when the system has no room for them.
    pub(super) fn start(services: &PoolServices, parts: &mut Vec<PoolPart>) -> Result<Self, StartError> {
        let PoolServices { config, jobs, local, .. } = services;
        let mut this = Self::default();
        for pool in config.pool.iter().filter(|pool| pool.runtime() == PoolRuntime::Child) {
            let started = ChildPool::start(options(config, pool), jobs.timing);
            let children = started
                .map_err(|error| StartError::Pool { pool: pool.name.clone(), problem: error.to_string() })?;
            parts.extend(kinds(pool).into_iter().map(|(kind, count)| PoolPart {
                pool: pool.name.clone(),
                lane: None,
                kind,
                slots: SlotOptions::new(
                    u32::try_from(count.max).unwrap_or(u32::MAX).saturating_mul(pool.slots()),
                ),
                handlers: children.handlers(),
                processes: WorkProcesses::Children(children.clone(), pool.slots()),
            }));
            local.add_children(pool.name.clone(), children.clone());
            this.pools.push((pool.name.clone(), children));
        }
        if !this.pools.is_empty() {
            services.tasks.spawn("lane limits", TaskKind::Vital, this.clone().follow_limits(services));
        }
        // a worker has no listener
        if services.node.is_some() {
            this.start_mounts(services, parts)?;
        }
        Ok(this)
    }

    /// Keeps the children of each pool within their part of the limits of the lane. Never returns.
    fn follow_limits(self, services: &PoolServices) -> impl Future<Output = ()> + use<> {
        let (rollouts, workers) = (services.rollouts.clone(), services.jobs.workers.clone());
        let lane = services.config.node.lane.clone();
        async move {
            let (mut documents, mut members) = (rollouts.document_changes(), workers.changes());
            loop {
                for (name, pool) in &self.pools {
                    let group = WorkerGroup::new(name.as_str(), lane.as_str());
                    let (count, _) = workers.roster().available_releases(&group);
                    pool.narrow(rollouts.limits(name, &lane).share(count));
                }
                tokio::select! {
                    Ok(()) = documents.changed() => {}
                    Ok(()) = members.changed() => {}
                    else => std::future::pending().await,
                }
            }
        }
    }

    /// Starts the processes of mounts, and adds the workers of those that have handlers to `parts`. The others get no
    /// calls and no jobs.
    fn start_mounts(&mut self, services: &PoolServices, parts: &mut Vec<PoolPart>) -> Result<(), StartError> {
        self.mounts = Arc::new(MountProcesses::start(services)?);
        parts.extend(self.mounts.parts(&services.config));
        let added = |pool: &LanePool| {
            services.local.add_children(pool.name.clone(), pool.children.clone());
            (pool.name.clone(), pool.children.clone())
        };
        for pool in self.mounts.pools().values() {
            self.pools.push(added(&pool.own));
            self.lanes.extend(pool.others.values().map(added));
        }
        Ok(())
    }

    /// Returns the processes of mounts.
    pub(super) fn mount_pools(&self) -> &MountPools {
        self.mounts.pools()
    }

    /// Replaces all children on SIGHUP. Never returns.
    pub(super) async fn reload_on_hangup(self) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return std::future::pending().await };
        while hangups.recv().await.is_some() {
            self.reload();
        }
        std::future::pending().await
    }

    /// Replaces all children, each by a new one that is ready before the old one drains.
    pub(crate) fn reload(&self) {
        for (name, pool) in self.all() {
            tracing::info!(pool = name, "the children of the pool are replaced");
            pool.reload();
        }
    }

    /// Shows in the readiness which pools do not have all of their workers yet, and which have children that fail again
    /// and again. Calls for a pool wait until it serves or its program has failed first. `parts` are the pools of the
    /// workers of the process, with tokens that are cancelled when they serve.
    pub(super) fn watch(
        &self,
        parts: &[(String, CancellationToken)],
        readiness: &Readiness,
        services: &PoolServices,
    ) {
        let PoolServices { tasks, local, jobs, .. } = services;
        let period = jobs.timing.child_watch;
        for (name, pool) in &self.pools {
            let own = parts.iter().filter(|(pool, _)| pool == name);
            let serving: Vec<_> = own.map(|(_, serves)| serves.clone()).collect();
            let (pool, latch, starting) =
                (pool.clone(), readiness.pool_latch(name), local.add_starting(name.clone()));
            tasks.spawn("children", TaskKind::Vital, async move {
                if serving.is_empty() {
                    // the processes of a mount, which have no worker
                    pool.settled().await;
                }
                let serve = || join_all(serving.iter().map(CancellationToken::cancelled));
                tokio::select! {
                    _ = serve() => {}
                    () = failed(&pool) => {}
                }
                drop(starting);
                serve().await;
                loop {
                    latch.set(!pool.is_failing());
                    tokio::time::sleep(period).await;
                }
            });
        }
    }

    /// Returns all pools, with those of lanes.
    fn all(&self) -> impl Iterator<Item = &(String, ChildPool)> {
        self.pools.iter().chain(&self.lanes)
    }

    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Ends all children. They have no work any more, or it takes longer than a drain.
    pub(super) async fn stop(&self) {
        join_all(self.all().map(|(_, pool)| pool.stop())).await;
    }
}

/// Resolves when the first child of a pool has failed. Never, if it is ready.
async fn failed(pool: &ChildPool) {
    pool.settled().await;
    if pool.handlers().borrow().is_some() {
        std::future::pending().await
    }
}

/// Returns the kinds of children of a pool, with their number.
fn kinds(pool: &PoolConfig) -> Vec<(WorkerType, ScaleLimits)> {
    let counts = match pool.shared {
        Some(count) => vec![(WorkerType::Both, count)],
        None => vec![(WorkerType::Free, pool.free()), (WorkerType::Assigned, pool.assigned())],
    };
    let limits = |count: u32| match pool.scale {
        None => ScaleLimits::fixed(count as usize),
        Some(ScaleConfig { min, max, max_users }) => ScaleLimits {
            min: min as usize,
            max: max as usize,
            max_users: max_users.map(|users| users as usize),
        },
    };
    let some = counts.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(kind, count)| (kind, limits(count))).collect()
}

fn options(config: &Config, pool: &PoolConfig) -> ChildOptions {
    ChildOptions {
        pool: pool.name.clone(),
        lane: config.node.lane.clone(),
        release: config.node.release.clone(),
        worker: config.node.name.clone(),
        command: pool.command.clone(),
        env: pool.env.clone(),
        directory: (!pool.directory.as_os_str().is_empty()).then(|| pool.directory.clone()),
        children: kinds(pool),
        slots: pool.slots(),
        start: Duration::from_millis(pool.start_ms()),
        recycle: RecycleLimits {
            max_work: pool.recycle.max_work,
            max_rss: pool.recycle.max_rss,
            max_age: pool.recycle.max_age_s.map(Duration::from_secs),
            objects_rss: pool.pages.max_rss,
        },
        affinity: pool.affinity(),
        methods: pool.methods.clone(),
        http: None,
        program: None,
        needs: Vec::new(),
        applications: None,
    }
}
