//! What a node's lease row says.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire;

/// The oldest wire of this release.
pub const PROTO_MIN: u32 = 1;
/// The newest wire of this release.
pub const PROTO_MAX: u32 = 1;

/// `lease.<pNN>` in the bucket `nodes`, in the entry's meta.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The life of the node. Absent in the claim itself, whose own revision is the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// A configured name; the same name may take a number over at once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its lane.
    pub lane: String,
    /// Its release.
    pub release: String,
    /// Where browsers reach it.
    pub advertise: String,
    /// The wires it speaks.
    #[serde(default)]
    pub proto: Proto,
}

/// A range of wire versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proto {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

impl Default for Proto {
    fn default() -> Self {
        Self { min: PROTO_MIN, max: PROTO_MAX }
    }
}

impl NodeRow {
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
