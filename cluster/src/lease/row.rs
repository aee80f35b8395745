//! The content of a node's lease row.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::proto::Proto;
use crate::wire;

/// The row `lease.<pNN>` in the bucket `nodes`, stored in the entry's meta.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The epoch of the node. Absent in the claim itself, because the revision of the claim is the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The configured name. A process with the same name may take the number over at once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The lane of the node.
    pub lane: String,
    /// The release of the node.
    pub release: String,
    /// The address at which browsers reach the node.
    pub advertise: String,
    /// The wire versions that the node supports.
    #[serde(default)]
    pub proto: Proto,
    /// How far its wall clock is ahead of the cluster's, in milliseconds; absent in the first write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<i64>,
    /// The part that changes while the node runs.
    #[serde(flatten)]
    pub note: NodeNote,
}

/// The part of a node's row that changes while the node runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNote {
    /// It takes no new pages, and its pages leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The address at which other nodes reach its processes, as `host:port`; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub internal: String,
    /// The processes of its mounts, by the path of the mount.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mounts: BTreeMap<String, MountPlaces>,
}

/// The places for processes of a mount at one node. A process that is replaced has the place of the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlaces {
    /// The number of places. They are numbered from 0.
    pub count: u32,
    /// The places with a process that is ready, in order.
    pub ready: Vec<u32>,
}

impl NodeRow {
    /// Returns the epoch of the row, given the revision at which it was read.
    pub fn epoch_at(&self, rev: u64) -> u64 {
        self.epoch.unwrap_or(rev)
    }

    /// Encodes the row as the meta of its entry.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Returns `None` when the bytes are not a row of any known release.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }
}
