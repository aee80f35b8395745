//! The row of a page: the record of its holder.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Address, Holder, NodeNumber};
use crate::wire::{self, PinnedLanes, ResidentClass};

/// Maximum length of a user agent in a row, in bytes: a row must fit into an entry's meta.
const MAX_AGENT: usize = 200;

/// The row `page.<key>` in the bucket `pages`, stored in the entry's meta so that a meta watch sees all of it. The node
/// that wins the compare-and-set on it holds the page. Written when the page opens, moves or closes, and when its
/// topics or the lanes that it keeps change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRow {
    /// Node that holds the socket.
    pub node: NodeNumber,
    /// Epoch of that node.
    pub epoch: u64,
    /// Generation of the page; grows with every resume, and the newest one is valid.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Previous holder, which has the frames that the client missed; present while the page moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Holder>,
    /// Its session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user; absent for anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Topics that the page has subscribed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The lanes that its calls keep.
    #[serde(default, skip_serializing_if = "PinnedLanes::is_empty")]
    pub pins: PinnedLanes,
    /// The class of its object, for a resident page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<ResidentClass>,
    /// Revision of the rollout of `edge` that has put the page into its lane by its hash; 0 if something else has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub placed: u64,
    /// Lane of the node.
    pub lane: String,
    /// Release of the node.
    pub release: String,
    /// When the page was first opened, in milliseconds since the Unix epoch.
    pub opened: u64,
    /// User agent of the browser.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct Tombstone {
    unregistered: bool,
}

impl PageRow {
    /// Returns the meta of its entry, encoded as JSON.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Parses a row. Returns `None` when the bytes are not a row of a known release.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }

    /// Returns the tombstone that replaces the row of an unregistered page as long as its client may try to resume. It
    /// names no holder, so readers do not take it for a row.
    pub(super) fn unregistered() -> Bytes {
        wire::encode(&Tombstone { unregistered: true })
    }

    pub(super) fn is_unregistered(meta: &[u8]) -> bool {
        serde_json::from_slice(meta).is_ok_and(|Tombstone { unregistered }| unregistered)
    }

    /// Returns a user agent, cut to the size that a row keeps.
    pub fn shorten(agent: &str) -> String {
        let end = (0..=agent.len().min(MAX_AGENT)).rev().find(|&end| agent.is_char_boundary(end));
        agent[..end.unwrap_or(0)].to_owned()
    }
}
