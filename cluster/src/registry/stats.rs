//! Counters that are updated with each change, so that reading them is cheap, and by how much a page changes them. Pure.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::view::{PageEntry, View};
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

/// Index of a lane and release, in the order in which they were first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneIndex(usize);

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

impl CountDelta {
    /// Compares a page with all other counted pages.
    pub(super) fn of(view: &View, key: Key, seen: &PageEntry, lane: LaneIndex) -> Self {
        let page = (key, seen, lane);
        Self {
            session: alone(view, page, view.pages_of_session(seen.session.key)),
            connection: alone(view, page, view.pages_of_connection(seen.connection.key)),
            user: seen.user.as_deref().map(|user| alone(view, page, view.pages_of_user(user))),
        }
    }
}

/// Scans until another page on the same node is found, which is soon where there are many.
fn alone<'a>(
    view: &View,
    (key, seen, lane): (Key, &PageEntry, LaneIndex),
    pages: impl Iterator<Item = (Key, &'a PageEntry)>,
) -> Uniqueness {
    let mut alone = Uniqueness { in_cluster: true, in_lane: true, at_node: true };
    for (_, other) in pages.filter(|(other, _)| *other != key) {
        alone.in_cluster = false;
        alone.at_node &= other.holder != seen.holder;
        alone.in_lane &= view.nodes.get(&other.holder.node).is_none_or(|alive| alive.lane != lane);
        if !alone.at_node {
            break;
        }
    }
    alone
}

impl Stats {
    pub(super) fn of(view: &View) -> Self {
        let nodes: Vec<NodeStats> = view
            .nodes()
            .into_iter()
            .map(|(holder, row)| NodeStats {
                node: holder.node,
                lane: row.lane.clone(),
                release: row.release.clone(),
                counts: view.census.node(holder),
            })
            .collect();
        let mut lanes = BTreeMap::<(&str, &str), usize>::new();
        for node in &nodes {
            *lanes.entry((&node.lane, &node.release)).or_default() += 1;
        }
        let lanes = lanes.into_iter().map(|((lane, release), nodes)| LaneStats {
            lane: lane.to_owned(),
            release: release.to_owned(),
            nodes,
            counts: view.census.lane_counts(lane, release),
        });
        let lanes = lanes.collect();
        let (idle_sessions, idle_connections) = (view.idle.sessions, view.idle.connections);
        Self { total: view.census.total, idle_sessions, idle_connections, nodes, lanes }
    }
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
