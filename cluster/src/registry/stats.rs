//! Counters that are updated with each change, so that reading them is cheap, and by how much a page changes them. Pure.

use std::collections::HashMap;

use serde::Serialize;

use super::entries::{LaneIndex, PageEntry};
use crate::id::{Holder, Key, NodeNumber};

/// Number of members with at least one living page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Users.
    pub users: usize,
    /// Connections.
    pub connections: usize,
    /// Sessions.
    pub sessions: usize,
    /// Pages, with a socket or in their resume window.
    pub pages: usize,
}

/// Counts over the living pages. A member with pages on two nodes counts on both nodes, and once in the total.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The whole cluster.
    pub total: Counts,
    /// Sessions without a page that can still be joined.
    pub idle_sessions: usize,
    /// Connections without a page that can still be joined.
    pub idle_connections: usize,
    /// Each living node, ordered by number.
    pub nodes: Vec<NodeStats>,
    /// Each lane and release with a living node, in order.
    pub lanes: Vec<LaneStats>,
}

/// One node in [`Stats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStats {
    /// Number of the node.
    pub node: NodeNumber,
    /// Lane of the node.
    pub lane: String,
    /// Release of the node.
    pub release: String,
    /// Counts of the members on the node.
    pub counts: Counts,
}

/// One lane and release in [`Stats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneStats {
    /// The lane.
    pub lane: String,
    /// The release.
    pub release: String,
    /// Number of living nodes.
    pub nodes: usize,
    /// Counts of the members on these nodes.
    pub counts: Counts,
}

/// Where a page is the only one of a user, a connection or a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uniqueness {
    pub(super) in_cluster: bool,
    pub(super) in_lane: bool,
    pub(super) at_node: bool,
}

/// A page, and where it is the only one of its user, connection and session.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountDelta {
    pub(super) user: Option<Uniqueness>,
    pub(super) connection: Uniqueness,
    pub(super) session: Uniqueness,
}

/// Compares a page, its entry and its lane with the other counted pages of its user, connection or session. Scans until
/// another page on the same node is found, which is soon where there are many.
pub(super) fn uniqueness<'a>(
    (key, seen, lane): (Key, &PageEntry, LaneIndex),
    pages: impl Iterator<Item = (Key, &'a PageEntry)>,
    lane_of: impl Fn(NodeNumber) -> Option<LaneIndex>,
) -> Uniqueness {
    let mut alone = Uniqueness { in_cluster: true, in_lane: true, at_node: true };
    for (_, other) in pages.filter(|(other, _)| *other != key) {
        alone.in_cluster = false;
        alone.at_node &= other.holder != seen.holder;
        alone.in_lane &= lane_of(other.holder.node).is_none_or(|other| other != lane);
        if !alone.at_node {
            break;
        }
    }
    alone
}

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) total: Counts,
    nodes: HashMap<Holder, Counts>,
    lanes: Vec<(String, String, Counts)>,
}

impl Counters {
    pub(super) fn lane(&mut self, lane: &str, release: &str) -> LaneIndex {
        let known = self.lanes.iter().position(|(l, r, _)| l == lane && r == release);
        LaneIndex(known.unwrap_or_else(|| {
            self.lanes.push((lane.to_owned(), release.to_owned(), Counts::default()));
            self.lanes.len() - 1
        }))
    }

    /// Counts a page that was added or removed.
    pub(super) fn change(&mut self, holder: Holder, lane: LaneIndex, difference: &CountDelta, added: bool) {
        count(&mut self.total, difference, |alone| alone.in_cluster, added);
        if let Some((_, _, counts)) = self.lanes.get_mut(lane.0) {
            count(counts, difference, |alone| alone.in_lane, added);
        }
        let counts = self.nodes.entry(holder).or_default();
        count(counts, difference, |alone| alone.at_node, added);
        if counts.pages == 0 {
            self.nodes.remove(&holder);
        }
    }

    pub(super) fn node(&self, holder: Holder) -> Counts {
        self.nodes.get(&holder).copied().unwrap_or_default()
    }

    pub(super) fn lane_counts(&self, lane: &str, release: &str) -> Counts {
        let known = self.lanes.iter().find(|(l, r, _)| l == lane && r == release);
        known.map(|(_, _, counts)| *counts).unwrap_or_default()
    }
}

fn count(counts: &mut Counts, difference: &CountDelta, alone: impl Fn(&Uniqueness) -> bool, added: bool) {
    let step = |count: &mut usize, counts: bool| {
        if counts {
            *count = if added { *count + 1 } else { count.saturating_sub(1) };
        }
    };
    step(&mut counts.pages, true);
    step(&mut counts.sessions, alone(&difference.session));
    step(&mut counts.connections, alone(&difference.connection));
    step(&mut counts.users, difference.user.as_ref().is_some_and(alone));
}
