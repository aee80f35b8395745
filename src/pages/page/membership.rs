//! What a page belongs to, as its row names it. A plain value.
//!
//! Owns: the membership of a page. Never: its frames, or where it is held.

use std::sync::Arc;

use pagewire_cluster::id::Address;
use pagewire_cluster::registry::PageRow;
use pagewire_cluster::wire::{PinnedLanes, ResidentClass};

/// The session, connection, user and topics that a page belongs to, and the lanes that it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The page's session.
    pub session: Address,
    /// The page's connection.
    pub connection: Address,
    /// The page's user; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// The page's topics.
    pub topics: Vec<Arc<str>>,
    /// The lanes that its calls keep.
    pub pins: PinnedLanes,
    /// Revision of the rollout of nodes that has put the page into the lane of its node by its hash; 0 if something else has.
    pub placed: u64,
    /// The class of its object, for a resident page.
    pub resident: Option<Arc<ResidentClass>>,
}

impl Membership {
    /// The place that the row of a page names. `user` is the user of the row, or another one who owns it from now on.
    pub(in crate::pages) fn of_row(row: &PageRow, user: Option<Arc<str>>) -> Self {
        Self {
            session: row.session,
            connection: row.connection,
            user,
            topics: row.topics.iter().map(|topic| topic.as_str().into()).collect(),
            pins: row.pins.clone(),
            placed: row.placed,
            resident: row.resident.clone().map(Arc::new),
        }
    }

    /// The place of a page without topics that keeps no lane yet.
    pub fn new(session: Address, connection: Address, user: Option<Arc<str>>) -> Self {
        let (topics, pins) = (Vec::new(), PinnedLanes::new());
        Self { session, connection, user, topics, pins, placed: 0, resident: None }
    }
}
