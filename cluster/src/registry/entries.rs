//! The entries of the view. Pure.
//!
//! Owns: what the view keeps of a row. Never: how entries are found or counted.

use std::sync::Arc;

use crate::id::{Address, Holder};
use crate::lease::NodeRow;

/// The part of a page row that the view keeps.
#[derive(Debug, Clone)]
pub struct PageEntry {
    /// Holder of the page.
    pub holder: Holder,
    /// Its session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// Its topics.
    pub topics: Box<[Arc<str>]>,
    /// Revision of the entry.
    pub rev: u64,
    /// When the page was first opened, in milliseconds since the Unix epoch.
    pub opened: u64,
}

#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) epoch: u64,
    pub(super) row: NodeRow,
    pub(super) lane: LaneIndex,
}

/// Index of a lane and release, in the order in which they were first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneIndex(pub(super) usize);
