//! The workers inside this node, their child processes and their HTTP backends.
//!
//! Owns: which of them there are, and which one gets a call of this node. Never: their start and stop (`roles`), or what
//! they run.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use pagewire_cluster::id::Key;
use pagewire_cluster::job::DirectRoute;
use pagewire_cluster::worker::WorkerGroup;
use pagewire_worker::entry::{WorkerEntry, WorkerLoad};
use pagewire_worker::runtime::child::pool::ChildPool;
use pagewire_worker::runtime::child::status::ChildPoolStatus;
use pagewire_worker::runtime::http::pool::{HttpPool, HttpPoolStatus};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The workers inside this node. Cheap to clone; all clones share one list.
#[derive(Clone, Default)]
pub struct LocalWorkers {
    workers: Arc<RwLock<Vec<LocalWorker>>>,
    children: Arc<RwLock<Vec<(String, ChildPool)>>>,
    backends: Arc<RwLock<Vec<(WorkerGroup, HttpPool)>>>,
    /// The pools with a program, with tokens that are cancelled when the program serves or has failed first.
    programs: Arc<RwLock<Vec<(String, CancellationToken)>>>,
}

/// A worker inside this node.
pub struct LocalWorker {
    /// Pool and lane.
    pub group: WorkerGroup,
    /// Whether it is given calls and jobs for any worker.
    pub free_work: bool,
    /// Reaches the worker.
    pub entry: WorkerEntry,
}

impl fmt::Debug for LocalWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl LocalWorkers {
    fn list(&self) -> RwLockReadGuard<'_, Vec<LocalWorker>> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the children of a pool.
    pub fn add_children(&self, pool: String, children: ChildPool) {
        self.children.write().unwrap_or_else(PoisonError::into_inner).push((pool, children));
    }

    /// Adds a pool whose program starts. It has started when the returned guard is dropped.
    pub fn add_starting(&self, pool: String) -> DropGuard {
        let started = CancellationToken::new();
        self.programs.write().unwrap_or_else(PoisonError::into_inner).push((pool, started.clone()));
        started.drop_guard()
    }

    /// Returns the tokens of the programs of a pool that start, which are cancelled when they serve or have failed.
    pub(super) fn starting(&self, pool: &str) -> Vec<CancellationToken> {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        let starting = programs.iter().filter(|(name, started)| name == pool && !started.is_cancelled());
        starting.map(|(_, started)| started.clone()).collect()
    }

    /// Returns what the children of each pool do now.
    pub fn children(&self) -> Vec<(String, ChildPoolStatus)> {
        let pools = self.children.read().unwrap_or_else(PoisonError::into_inner);
        pools.iter().map(|(name, pool)| (name.clone(), pool.status())).collect()
    }

    /// Adds the HTTP backend of a pool in a lane.
    pub fn add_backend(&self, group: WorkerGroup, backend: HttpPool) {
        self.backends.write().unwrap_or_else(PoisonError::into_inner).push((group, backend));
    }

    /// Returns what each HTTP backend has done.
    pub fn backends(&self) -> Vec<(WorkerGroup, HttpPoolStatus)> {
        let backends = self.backends.read().unwrap_or_else(PoisonError::into_inner);
        backends.iter().map(|(group, backend)| (group.clone(), backend.status())).collect()
    }

    /// Adds a worker that takes work.
    pub fn add(&self, worker: LocalWorker) {
        self.workers.write().unwrap_or_else(PoisonError::into_inner).push(worker);
    }

    /// Removes a worker that has drained.
    pub fn remove(&self, id: Key) {
        self.workers.write().unwrap_or_else(PoisonError::into_inner).retain(|worker| worker.entry.id() != id);
    }

    /// Returns whether there is a worker that holds its lease.
    pub fn has_active(&self) -> bool {
        self.list().iter().any(|worker| worker.entry.is_active())
    }

    /// Returns whether there are workers and all of them drain.
    pub fn are_draining(&self) -> bool {
        let list = self.list();
        !list.is_empty() && list.iter().all(|worker| worker.entry.is_draining())
    }

    /// Returns the ids of the workers.
    pub(super) fn ids(&self) -> Vec<Key> {
        self.list().iter().map(|worker| worker.entry.id()).collect()
    }

    /// Returns what a worker does now; `None` for a worker of another process.
    pub(super) fn load(&self, id: Key) -> Option<WorkerLoad> {
        self.list().iter().find(|worker| worker.entry.id() == id).map(|worker| worker.entry.load())
    }

    /// Returns the workers of a group that accept free calls of a method, the one with the most free slots first.
    pub(super) fn free(&self, group: &WorkerGroup, method: &str) -> Vec<WorkerEntry> {
        let list = self.list();
        let able = list
            .iter()
            .filter(|worker| worker.free_work && worker.group == *group && worker.entry.accepts(method));
        let mut entries: Vec<WorkerEntry> = able.map(|worker| worker.entry.clone()).collect();
        entries.sort_by_key(|entry| {
            let load = entry.load();
            std::cmp::Reverse(load.slots.saturating_sub(load.running))
        });
        entries
    }

    /// Returns the route of an assigned call to a worker; `None` for a worker of another process.
    pub(super) fn assigned_route(&self, id: Key) -> Option<DirectRoute> {
        let list = self.list();
        let entry = list.iter().find(|worker| worker.entry.id() == id)?.entry.clone();
        Some(Box::new(move |call, trace| entry.call_assigned(call, trace)))
    }
}
