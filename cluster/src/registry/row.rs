//! The row of a page: the record of who holds it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Address, Holder, NodeNumber};
use crate::wire;

/// The longest user agent kept in a row, in bytes: a row must fit into an entry's meta.
const MAX_AGENT: usize = 200;

/// `page.<key>` in the bucket `pages`, carried in the entry's meta so that a meta watch sees it all. Whoever wins
/// the compare-and-set on it holds the page. Written on opening, moving and closing, and
/// when the page's topics change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRow {
    /// The node that holds the socket.
    pub node: NodeNumber,
    /// That node's life.
    pub epoch: u64,
    /// Grows with every resume; the newest wins.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Who is asked for what the client has missed: present while the page is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Holder>,
    /// Its session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user; absent for anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The topics that it has subscribed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// The node's lane.
    pub lane: String,
    /// The node's release.
    pub release: String,
    /// When the page was first opened, in milliseconds since the Unix epoch.
    pub opened: u64,
    /// The browser's own description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
}

#[derive(Serialize, Deserialize)]
struct Tombstone {
    unregistered: bool,
}

impl PageRow {
    /// The meta of its entry.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// `None` when the bytes are not a row of any known release.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }

    /// What stands in place of the row of an unregistered page until its client cannot come back any more. It names
    /// no holder, so it is no row to anybody.
    pub(super) fn unregistered() -> Bytes {
        wire::encode(&Tombstone { unregistered: true })
    }

    pub(super) fn is_unregistered(meta: &[u8]) -> bool {
        serde_json::from_slice(meta).is_ok_and(|Tombstone { unregistered }| unregistered)
    }

    /// A user agent cut to the size that a row keeps.
    pub fn shorten(agent: &str) -> String {
        let end = (0..=agent.len().min(MAX_AGENT)).rev().find(|&end| agent.is_char_boundary(end));
        agent[..end.unwrap_or(0)].to_owned()
    }
}
