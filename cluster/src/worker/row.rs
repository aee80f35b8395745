//! The lease row of a worker.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::availability::WorkerType;
use crate::id::{Key, NodeNumber};
use crate::lease::Proto;
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

/// The row `worker.<pool>.<lane>.<id>` in the bucket `nodes`, stored in the entry's meta.
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

    /// Returns the meta of its entry, encoded as JSON.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Parses a row. Returns `None` when the bytes are not a row of a known release.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }
}
