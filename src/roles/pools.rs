//! The pools of a node: each is one or two workers inside the node.
//!
//! Owns: which workers a pool has, when one replaces another one, and their drain. Never: what a worker does (`worker`),
//! or where handlers come from: a pool gets sets of handlers, the first of which may come late. A new set is served by a
//! new worker, which starts before the one before it drains, so that the pool is never without a worker.

use std::sync::Arc;

use pagewire_cluster::id::NodeNumber;
use pagewire_cluster::job::Jobs;
use pagewire_cluster::register::Registers;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::rollout::analysis::LaneAnalysis;
use pagewire_cluster::worker::WorkerType;
use pagewire_worker::effects::application::Applications;
use pagewire_worker::handlers::Handlers;
use pagewire_worker::runtime::http::callbacks::Callbacks;
use pagewire_worker::slots::SlotOptions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use super::child_pools::ChildPools;
use super::http_pools;
use super::tasks::{TaskKind, Tasks};
use super::worker::{WorkProcesses, WorkerOptions, WorkerRole};
use super::worker_process::OwnHandlers;
use crate::calls::{DEFAULT_POOL, LocalWorker, LocalWorkers};
use crate::config::{Config, PoolConfig, PoolRuntime};
use crate::telemetry::{Metrics, Readiness};

/// Slots of the worker inside a node that has no pools. Its handlers share one process, so it has many.
const SLOTS_IN_NODE: u32 = 256;

/// Sets of handlers, the current one last; `None` while there is none.
pub(super) type HandlerSets = watch::Receiver<Option<Handlers>>;

/// One worker of a pool at a time, with the sets of handlers that it serves one after the other.
pub(super) struct PoolPart {
    pub(super) pool: String,
    /// `None` for the lane of the process.
    pub(super) lane: Option<String>,
    pub(super) kind: WorkerType,
    pub(super) slots: SlotOptions,
    pub(super) handlers: HandlerSets,
    pub(super) processes: WorkProcesses,
}

/// What all workers of a node share.
#[derive(Clone)]
pub(super) struct PoolServices {
    pub(super) jobs: Jobs,
    pub(super) registers: Registers,
    pub(super) rollouts: Rollouts,
    pub(super) analysis: LaneAnalysis,
    pub(super) config: Arc<Config>,
    pub(super) node: Option<NodeNumber>,
    pub(super) local: LocalWorkers,
    pub(super) metrics: Arc<Metrics>,
    /// The work of the process that may report progress.
    pub(super) callbacks: Callbacks,
    /// What the applications of mounts may request; `None` for a process without mounts.
    pub(super) applications: Option<Arc<Applications>>,
    pub(super) tasks: Tasks,
}

/// The pools of a running node.
pub(crate) struct NodePools {
    pub(super) draining: watch::Sender<bool>,
    pub(super) children: ChildPools,
    parts: TaskTracker,
    /// Whether running work ends before the node stops.
    waits: bool,
}

/// Returns the workers of a node: those of `[[pool]]`, or one for all handlers of a node on the embedded engine, or one for
/// the handlers of its program (`own`), which need a worker to have effects.
///
/// # Errors
/// [`StartError::Pool`] for a pool that this process cannot run.
pub(super) fn parts(
    config: &Config,
    handlers: &Handlers,
    own: &Handlers,
) -> Result<Vec<PoolPart>, StartError> {
    let all = handlers.with(own);
    if config.pool.is_empty() {
        // a worker without handlers would take jobs and fail them
        let serves = !own.is_empty() || !config.has_pools() && config.nats.urls.is_empty() && !all.is_empty();
        let part = || in_process(DEFAULT_POOL, SLOTS_IN_NODE, all.clone());
        return Ok(serves.then(part).into_iter().collect());
    }
    let in_process = config.pool.iter().filter(|pool| pool.runtime() == PoolRuntime::InProcess);
    in_process.map(|pool| part(pool, &all)).collect()
}

fn part(pool: &PoolConfig, handlers: &Handlers) -> Result<PoolPart, StartError> {
    let refused = |problem: String| StartError::Pool { pool: pool.name.clone(), problem };
    if handlers.is_empty() {
        let problem = "this binary has no handlers: `demo = true` registers the demo handlers";
        return Err(refused(problem.to_owned()));
    }
    let served = match pool.methods.as_slice() {
        [] => handlers.clone(),
        methods => handlers.only(methods).map_err(|unknown| {
            let known: Vec<&str> = handlers.names().collect();
            refused(format!("this binary has no handler {unknown}; it has {}", known.join(", ")))
        })?,
    };
    Ok(in_process(&pool.name, pool.slots(), served))
}

fn in_process(pool: &str, slots: u32, handlers: Handlers) -> PoolPart {
    // without its sender the set stays as it is
    let (_, handlers) = watch::channel(Some(handlers));
    let (pool, kind, slots) = (pool.to_owned(), WorkerType::Both, SlotOptions::new(slots));
    PoolPart { pool, lane: None, kind, slots, handlers, processes: WorkProcesses::Itself }
}

/// Returns the worker of handlers of this binary.
pub(super) fn own(own: &OwnHandlers) -> PoolPart {
    let OwnHandlers { pool, slots, kind, handlers } = own.clone();
    PoolPart { slots, kind, ..in_process(&pool, slots.count, handlers) }
}

impl NodePools {
    /// Starts the workers of a node. Returns when those that have their handlers take work. The worker of a program
    /// starts when the program is ready; until then `readiness` has a closed latch of its pool. `has_own`: the handlers are
    /// those of the program that the node is part of.
    ///
    /// # Errors
    /// [`StartError`] when a worker cannot get its lease or its subscriptions.
    pub(super) async fn start(
        services: &PoolServices,
        mut parts: Vec<PoolPart>,
        has_own: bool,
        readiness: &Readiness,
    ) -> Result<Self, StartError> {
        let children = ChildPools::start(services, &mut parts)?;
        if !children.is_empty() {
            services.tasks.spawn("reload", TaskKind::Vital, children.clone().reload_on_hangup());
        }
        parts.extend(http_pools::parts(services)?);
        let this = Self {
            draining: watch::Sender::new(false),
            children,
            parts: TaskTracker::new(),
            waits: has_own || services.config.has_pools() || services.node.is_none(),
        };
        let mut serving_parts = Vec::new();
        for part in parts {
            let PoolPart { pool, lane, kind, slots, mut handlers, processes } = part;
            let mut serving = ServingPart {
                services: services.clone(),
                pool,
                lane,
                kind,
                slots,
                processes,
                current: None,
                serves: CancellationToken::new(),
                roles: TaskTracker::new(),
            };
            serving_parts.push((serving.pool.clone(), serving.serves.clone()));
            let first = handlers.borrow_and_update().clone();
            if this.waits {
                // before the worker is seen, so that a pool that was known once stays known
                services.jobs.workers.register_pool(&serving.pool).await?;
            }
            serving.replace(first).await?;
            let (draining, token) = (this.draining.subscribe(), this.parts.token());
            services.tasks.spawn("pool", TaskKind::Vital, async move {
                serving.run(handlers, draining).await;
                drop(token);
                // the node goes on without the pool until it stops
                std::future::pending().await
            });
        }
        this.children.watch(&serving_parts, readiness, services);
        Ok(this)
    }

    /// Resolves when all workers have drained on request.
    pub(super) async fn ended(&self) {
        self.parts.close();
        self.parts.wait().await;
    }

    /// Orders the workers to accept no new work.
    pub(crate) fn begin_drain(&self) {
        self.draining.send_replace(true);
    }

    /// Drains the workers and waits until their running work has ended, at most as long as a drain takes.
    pub(crate) async fn drain(&self) {
        self.begin_drain();
        if self.waits {
            self.parts.close();
            self.parts.wait().await;
        }
        self.children.stop().await;
    }
}

/// The worker of a part that serves now, and those before it that still drain.
struct ServingPart {
    services: PoolServices,
    pool: String,
    lane: Option<String>,
    kind: WorkerType,
    slots: SlotOptions,
    processes: WorkProcesses,
    current: Option<CurrentWorker>,
    /// Cancelled when the first worker takes work.
    serves: CancellationToken,
    roles: TaskTracker,
}

/// The worker that serves the current set of handlers.
struct CurrentWorker {
    /// Orders it to drain.
    draining: watch::Sender<bool>,
    /// Cancelled when it has drained.
    ended: CancellationToken,
}

impl ServingPart {
    /// Serves the sets of handlers until the process drains or the current worker was asked to, and then until all work has
    /// ended.
    async fn run(mut self, mut handlers: HandlerSets, mut draining: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                Ok(()) = handlers.changed() => {}
                // an error means that the node is gone
                _ = draining.wait_for(|draining| *draining) => break,
                () = self.current_ended() => break,
            }
            let set = handlers.borrow_and_update().clone();
            while let Err(error) = self.replace(set.clone()).await {
                tracing::warn!(pool = self.pool, %error, "a worker of this node does not start; trying again");
                let pause = self.services.jobs.timing.lease_renew;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = draining.wait_for(|draining| *draining) => break,
                }
            }
        }
        self.drain_current();
        self.roles.close();
        self.roles.wait().await;
    }

    /// Starts a worker for a set of handlers, and then lets the one before it drain.
    async fn replace(&mut self, handlers: Option<Handlers>) -> Result<(), StartError> {
        let next = match handlers {
            Some(handlers) => Some(self.start(handlers).await?),
            None => None,
        };
        self.drain_current();
        if next.is_some() {
            self.serves.cancel();
        }
        self.current = next;
        Ok(())
    }

    fn drain_current(&mut self) {
        if let Some(current) = self.current.take() {
            current.draining.send_replace(true);
        }
    }

    /// Resolves when the current worker has drained, which an operator has requested.
    async fn current_ended(&self) {
        match &self.current {
            Some(current) => current.ended.cancelled().await,
            None => std::future::pending().await,
        }
    }

    async fn start(&self, handlers: Handlers) -> Result<CurrentWorker, StartError> {
        let PoolServices { node, local, tasks, .. } = &self.services;
        let options = WorkerOptions {
            pool: self.pool.clone(),
            lane: self.lane.clone(),
            slots: self.slots,
            kind: self.kind,
            handlers,
            processes: self.processes.clone(),
            node: *node,
            local: local.clone(),
        };
        let role = WorkerRole::start(&self.services, options).await?;
        let (draining, entry) = (role.draining(), role.entry());
        let id = entry.id();
        local.add(LocalWorker { group: role.group().clone(), free_work: role.takes_free_work(), entry });
        let (local, token, ended) = (local.clone(), self.roles.token(), CancellationToken::new());
        let current = CurrentWorker { draining, ended: ended.clone() };
        tasks.spawn("worker", TaskKind::Vital, async move {
            role.run().await;
            local.remove(id);
            ended.cancel();
            drop(token);
            // the process goes on without it until it stops
            std::future::pending().await
        });
        Ok(current)
    }
}

#[cfg(test)]
pub(super) mod tests;
