//! The executors that a node can use, with what they do now.

use std::collections::BTreeSet;

use pagewire_cluster::id::{Key, NodeNumber};
use pagewire_cluster::job::Affinity;
use pagewire_cluster::worker::{WorkerId, WorkerRow};

use super::{Executors, LocalWorkers};
use crate::telemetry::{ExecutorPlace, executor_name};

/// One kind of executor, as listed by `GET /executors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorInfo {
    /// `inline`, `local_free`, `local_assigned`, `remote_free` or `remote_assigned`.
    pub name: &'static str,
    /// The handlers that it serves.
    pub methods: Vec<String>,
    /// Calls that run inline in this node now.
    pub running: Option<usize>,
    /// The living workers; `None` for `inline`.
    pub workers: Option<Vec<ExecutorWorker>>,
}

/// A worker that is an executor of one or two kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorWorker {
    /// Id of the worker.
    pub id: Key,
    /// Its row.
    pub row: WorkerRow,
    /// Calls and jobs that run there now, if it is inside this node.
    pub running: Option<u32>,
    /// Calls that wait for a slot there, if it is inside this node.
    pub queued: Option<u32>,
}

impl ExecutorWorker {
    /// Returns the node that the worker is inside.
    pub const fn node(&self) -> Option<NodeNumber> {
        self.row.node
    }
}

impl Executors {
    /// Returns all kinds of executors with what they serve and do.
    pub fn kinds(&self) -> Vec<ExecutorInfo> {
        let running = self.inline.running();
        let methods = self.handlers.names().map(str::to_owned).collect();
        let inline = ExecutorInfo { name: "inline", methods, running: Some(running), workers: None };
        let local = self.local();
        let (own, roster) = (local.ids(), self.workers.roster());
        let rows = roster.list();
        let places = [ExecutorPlace::ThisNode, ExecutorPlace::OtherProcess];
        let kinds = places.into_iter().flat_map(|place| {
            let rows: Vec<_> = rows
                .iter()
                .filter(|(worker, _)| own.contains(&worker.id) == (place == ExecutorPlace::ThisNode))
                .collect();
            [Affinity::Free, Affinity::Assigned].map(|affinity| {
                let taking = rows.iter().filter(|(_, row)| row.kind.takes(affinity));
                let workers = taking.map(|(worker, row)| member(*worker, row, local)).collect();
                kind(executor_name(place, affinity), workers)
            })
        });
        [inline].into_iter().chain(kinds).collect()
    }
}

fn member(worker: WorkerId, row: &WorkerRow, local: &LocalWorkers) -> ExecutorWorker {
    let load = local.load(worker.id);
    ExecutorWorker {
        id: worker.id,
        row: row.clone(),
        running: load.map(|load| load.running),
        queued: load.map(|load| load.queued),
    }
}

fn kind(name: &'static str, workers: Vec<ExecutorWorker>) -> ExecutorInfo {
    let methods: BTreeSet<_> = workers.iter().flat_map(|worker| worker.row.methods.iter().cloned()).collect();
    ExecutorInfo { name, methods: methods.into_iter().collect(), running: None, workers: Some(workers) }
}
