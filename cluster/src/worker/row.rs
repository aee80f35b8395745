//! What a worker's lease row says.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::Key;
use crate::lease::Proto;
use crate::wire;

/// One life of a worker. What it claims carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// Fresh for every process.
    pub id: Key,
    /// The revision of its claim: another after a lease that lapsed.
    pub epoch: u64,
}

/// `worker.<pool>.<lane>.<id>` in the bucket `nodes`, in the entry's meta.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Absent in the claim itself, whose own revision is the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Its pool.
    pub pool: String,
    /// Its lane.
    pub lane: String,
    /// Its release.
    pub release: String,
    /// How much it does at the same time.
    pub slots: u32,
    /// It takes nothing new.
    #[serde(default)]
    pub draining: bool,
    /// The handlers that it has, as far as it knows them.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The name of its machine.
    #[serde(default)]
    pub host: String,
    /// Its process there.
    #[serde(default)]
    pub process: u32,
    /// When it started, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub started: u64,
    /// The wires it speaks.
    #[serde(default)]
    pub proto: Proto,
}

impl WorkerRow {
    /// The epoch of the row found at a revision.
    pub fn epoch_at(&self, rev: u64) -> u64 {
        self.epoch.unwrap_or(rev)
    }

    /// The meta of its entry.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// `None` when the bytes are not a row of any known release.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }
}
