//! The lease row of a worker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::availability::WorkerType;
use crate::engine::{Entry, MAX_META};
use crate::id::{Key, NodeNumber};
use crate::lease::{LeaseContent, Proto};
use crate::wire;

/// One incarnation of a worker. Each of its claims contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// Random id, new for every process.
    pub id: Key,
    /// Revision of the claim of the lease; differs after a lease has lapsed.
    pub epoch: u64,
}

/// What a worker does when it renews its lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowLoad {
    /// Processes that run its work: its children, or the worker itself.
    pub processes: u32,
    /// Pieces of work that one of them runs at a time.
    pub process_slots: u32,
    /// Pieces of work that it has accepted and not ended.
    pub work: u32,
}

/// The row `worker.<id>` in the bucket `nodes`, stored in the entry's meta. A row that is too large for it is stored in the
/// value, and the meta has the row without handlers: processes of older releases read only that, and give such a worker
/// no work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Epoch of the worker. Absent in the claim itself, because the revision of the claim is the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Pool of the worker.
    pub pool: String,
    /// Lane of the worker.
    pub lane: String,
    /// Release of the worker.
    pub release: String,
    /// Maximum number of jobs and calls that run concurrently.
    pub slots: u32,
    /// Whether the worker accepts no new work.
    #[serde(default)]
    pub draining: bool,
    /// Handlers of the worker: it gets no other calls and jobs.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Where the work of a handler runs if its caller does not say it: `any` or `assigned`, for handlers that have a mode of
    /// their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modes: BTreeMap<String, String>,
    /// How often a failed job of a handler is retried if its submitter does not say it, for handlers that say it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retries: BTreeMap<String, u32>,
    /// The node that the worker is inside; absent for a process of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeNumber>,
    /// Name of the worker, which need not be unique.
    #[serde(default)]
    pub name: String,
    /// The kinds of work that it takes.
    #[serde(default, rename = "type")]
    pub kind: WorkerType,
    /// Name of its machine.
    #[serde(default)]
    pub host: String,
    /// Process id on that machine.
    #[serde(default)]
    pub process: u32,
    /// When it started, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub started: u64,
    /// Protocol versions of the worker.
    #[serde(default)]
    pub proto: Proto,
    /// How far its wall clock is ahead of the cluster's, in milliseconds; absent in the first write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<i64>,
    /// What it does; absent in the first write, and from a worker of an older release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<RowLoad>,
}

impl WorkerRow {
    /// Returns the epoch of the row that has revision `rev`.
    pub fn epoch_at(&self, rev: u64) -> u64 {
        self.epoch.unwrap_or(rev)
    }

    /// Returns whether the worker has a handler.
    pub fn has(&self, method: &str) -> bool {
        self.methods.iter().any(|own| own == method)
    }

    /// Returns the content of its entry, encoded as JSON.
    pub fn content(&self) -> LeaseContent {
        let whole = wire::encode(self);
        if whole.len() <= MAX_META {
            return whole.into();
        }
        // without the methods alone, an older process could give the worker work in the wrong mode
        let (methods, modes, retries) = Default::default();
        let head = Self { methods, modes, retries, ..self.clone() };
        LeaseContent { meta: wire::encode(&head), value: whole }
    }

    /// Parses the row of an entry with its value. Returns `None` when it is not a row of a known release.
    pub fn of(entry: &Entry) -> Option<Self> {
        let row = if entry.value.is_empty() { &entry.meta } else { &entry.value };
        serde_json::from_slice(row).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(methods: usize) -> WorkerRow {
        let methods: Vec<_> = (0..methods).map(|n| format!("orders.method-{n}")).collect();
        let modes = methods.iter().map(|name| (name.clone(), "assigned".to_owned())).collect();
        WorkerRow { epoch: Some(7), pool: "p".into(), methods, modes, ..WorkerRow::default() }
    }

    fn entry(LeaseContent { meta, value }: LeaseContent) -> Entry {
        Entry { key: "worker.x".into(), rev: 9, op: Default::default(), meta, value }
    }

    #[test]
    fn a_row_with_few_handlers_is_in_the_meta_as_before() {
        let stored = entry(row(3).content());
        assert!(stored.value.is_empty());
        assert_eq!(stored.meta, wire::encode(&row(3)));
        assert_eq!(WorkerRow::of(&stored), Some(row(3)));
    }

    #[test]
    fn a_row_with_many_handlers_is_in_the_value_and_its_head_in_the_meta() {
        let stored = entry(row(500).content());
        assert!(stored.meta.len() <= MAX_META && stored.value.len() > MAX_META);
        assert_eq!(WorkerRow::of(&stored), Some(row(500)));
        let read_by_an_older_release: WorkerRow = serde_json::from_slice(&stored.meta).unwrap();
        assert_eq!(read_by_an_older_release, row(0));
    }
}
