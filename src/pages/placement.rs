//! The lane of nodes that a page belongs to, and a node that can take it.
//!
//! Owns: the decision where a page is opened and where it goes when its node drains or its lane is closed. Never: how it
//! gets there (`relocate`), or the function from user to lane (`pagewire_cluster::rollout`).
//!
//! The rollout of the pool [`EDGE`] splits pages over the lanes of nodes. A page keeps its lane until it ends or the lane
//! is taken back, so a weight that rises moves no page. Without a document of that pool, pages are opened wherever they
//! arrive.

use std::collections::BTreeMap;

use pagewire_cluster::id::{Holder, Key};
use pagewire_cluster::lease::{NodeLease, NodeRow};
use pagewire_cluster::registry::Registry;
use pagewire_cluster::rollout::{BASE, EDGE, LaneRule, Rollouts, RoutingKey};

use super::page::Page;
use crate::protocol::Hello;

/// Maximum number of ids that are drawn for a new connection in the lane of this node.
const DRAWS: usize = 4096;

/// A node that takes a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveTarget {
    /// The address of its socket.
    pub url: String,
}

/// Where a page is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PagePlace {
    /// At this node.
    Here,
    /// At another node, which is of the lane of the page.
    At(MoveTarget),
    /// At this node, because the lane of the page has no node.
    NoNode,
}

/// The places of pages, as far as this node sees.
pub struct PagePlacement {
    rollouts: Rollouts,
    registry: Registry,
    lease: NodeLease,
    lane: String,
    path: String,
}

impl PagePlacement {
    /// The places of pages for a node of `lane` with its socket at `path`.
    pub fn new(rollouts: Rollouts, registry: Registry, lease: NodeLease, lane: String, path: String) -> Self {
        Self { rollouts, registry, lease, lane, path }
    }

    /// Returns the revision of the rollout; 0 for none.
    pub(super) fn revision(&self) -> u64 {
        self.rollouts.revision(EDGE)
    }

    /// Returns where the page of a socket has to be opened. A new page is counted as assigned.
    pub fn on_opening(&self, hello: &Hello, user: Option<&str>) -> PagePlace {
        let Some(rule) = LaneRule::of(&self.rollouts, EDGE) else { return PagePlace::Here };
        let unit = RoutingKey::of(user, hello.connection_id.map(|connection| connection.key()));
        let nodes = self.other_nodes();
        let serves = |lane: &str| lane == self.lane || nodes.has(lane);
        let lane = match hello.page_id {
            None => self.rollouts.lane_for(EDGE, unit, serves).lane,
            Some(page) => {
                let present = self.lane_of(page.key()).filter(|lane| rule.keeps(lane, unit));
                present.unwrap_or_else(|| self.rollouts.explain(EDGE, unit, serves).lane)
            }
        };
        if lane == self.lane {
            return PagePlace::Here;
        }
        nodes.pick(&lane).map_or(PagePlace::NoNode, PagePlace::At)
    }

    /// Returns the applied revision if it gives a unit the lane of this node by its hash; otherwise 0.
    pub(super) fn revision_of_hash(&self, unit: RoutingKey<'_>) -> u64 {
        let Some(rule) = LaneRule::of(&self.rollouts, EDGE) else { return 0 };
        let assigned = self.rollouts.explain(EDGE, unit, |_| true);
        if assigned.lane == self.lane { rule.revision_of_hash(&assigned) } else { 0 }
    }

    /// Returns whether the pages of this node are compared with those of others: every node counts them, and the base lane has
    /// a node. While the base lane has none, its pages would be missing in the comparison.
    pub(super) fn is_compared(&self) -> bool {
        let Some(rule) = LaneRule::of(&self.rollouts, EDGE) else { return false };
        let view = self.registry.view();
        let rows: Vec<&NodeRow> = view.nodes().into_iter().map(|(_, row)| row).collect();
        let serves_base = |row: &&NodeRow| row.lane == rule.base() && !row.note.draining;
        rows.iter().all(|row| row.counts_closes) && rows.iter().any(serves_base)
    }

    /// Returns where the page has to go because its lane was taken back; `None` if it stays.
    pub(super) fn out_of_closed_lane(&self, page: &Page, nodes: &LaneNodes) -> Option<MoveTarget> {
        let user = page.user();
        let unit = RoutingKey::of(user.as_deref(), Some(page.connection().key));
        if LaneRule::of(&self.rollouts, EDGE)?.keeps(&self.lane, unit) {
            return None;
        }
        let lane = self.rollouts.explain(EDGE, unit, |lane| nodes.has(lane)).lane;
        if lane == self.lane { None } else { nodes.pick(&lane) }
    }

    /// Returns where the page of a node that drains goes: to its lane, else to the base, else to any node.
    pub(super) fn out_of_draining_node(&self, page: &Page, nodes: &LaneNodes) -> Option<MoveTarget> {
        let user = page.user();
        let unit = RoutingKey::of(user.as_deref(), Some(page.connection().key));
        let rule = LaneRule::of(&self.rollouts, EDGE);
        let lane = match &rule {
            Some(rule) if !rule.keeps(&self.lane, unit) => {
                self.rollouts.explain(EDGE, unit, |lane| nodes.has(lane)).lane
            }
            _ => self.lane.clone(),
        };
        let base = rule.as_ref().map_or(BASE, LaneRule::base);
        nodes.pick(&lane).or_else(|| nodes.pick(base)).or_else(|| nodes.pick_any())
    }

    /// Returns an id for a new connection. A page without a user is opened in the lane of its connection, so the id of a
    /// connection that begins here belongs to the lane of this node, if that has a share.
    pub(super) fn new_connection(&self) -> Key {
        let is_here = |key: &Key| {
            let unit = RoutingKey::Connection(*key);
            self.rollouts.explain(EDGE, unit, |_| true).lane == self.lane
        };
        let first = Key::random();
        let rule = LaneRule::of(&self.rollouts, EDGE);
        if !rule.is_some_and(|rule| rule.keeps(&self.lane, RoutingKey::Connection(first))) {
            return first;
        }
        std::iter::once(first).chain((1..DRAWS).map(|_| Key::random())).find(is_here).unwrap_or(first)
    }

    /// Returns the other living nodes that take pages.
    pub(super) fn other_nodes(&self) -> LaneNodes {
        let own = self.lease.holder();
        let view = self.registry.view();
        LaneNodes::of(view.nodes().into_iter().filter(|(holder, _)| Some(*holder) != own), &self.path)
    }

    /// Returns the lane of the living node that holds a page.
    fn lane_of(&self, page: Key) -> Option<String> {
        let view = self.registry.view();
        let holder = view.page(page)?.holder;
        let mut nodes = view.nodes().into_iter();
        nodes.find(|(living, _)| *living == holder).map(|(_, row)| row.lane.clone())
    }
}

/// Living nodes that take pages, by their lane.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LaneNodes(BTreeMap<String, Vec<MoveTarget>>);

impl LaneNodes {
    fn of<'a>(nodes: impl Iterator<Item = (Holder, &'a NodeRow)>, path: &str) -> Self {
        let mut lanes = BTreeMap::<String, Vec<MoveTarget>>::new();
        for (_, row) in nodes.filter(|(_, row)| !row.note.draining) {
            // `https` becomes `wss`
            let Some(rest) = row.advertise.strip_prefix("http") else { continue };
            let url = format!("ws{}{path}", rest.trim_end_matches('/'));
            lanes.entry(row.lane.clone()).or_default().push(MoveTarget { url });
        }
        Self(lanes)
    }

    fn has(&self, lane: &str) -> bool {
        self.0.contains_key(lane)
    }

    /// Whether there is no node.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn pick(&self, lane: &str) -> Option<MoveTarget> {
        one_of(self.0.get(lane)?)
    }

    fn pick_any(&self) -> Option<MoveTarget> {
        one_of(&self.0.values().flatten().cloned().collect::<Vec<_>>())
    }
}

fn one_of(targets: &[MoveTarget]) -> Option<MoveTarget> {
    targets.get(rand::random_range(0..targets.len().max(1))).cloned()
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::NodeNumber;
    use pagewire_cluster::lease::NodeNote;

    use super::*;

    #[test]
    fn a_node_that_drains_takes_no_page_and_an_address_becomes_that_of_a_socket() {
        let row = |lane: &str, advertise: &str, draining| NodeRow {
            lane: lane.to_owned(),
            advertise: advertise.to_owned(),
            note: NodeNote { draining, ..NodeNote::default() },
            ..NodeRow::default()
        };
        let rows = [
            row("blue", "http://a:1", false),
            row("blue", "http://b:1", true),
            row("green", "https://c/", false),
            row("red", "", false),
        ];
        let holder = |number| Holder { node: NodeNumber::new(number).unwrap(), epoch: 1 };
        let nodes = LaneNodes::of((1..).map(holder).zip(&rows), "/_ws");
        let url = |lane| nodes.pick(lane).map(|target| target.url);
        for _ in 0..20 {
            assert_eq!(url("blue").as_deref(), Some("ws://a:1/_ws"));
        }
        assert_eq!(url("green").as_deref(), Some("wss://c/_ws"));
        assert!(url("red").is_none() && !nodes.has("red"));
        assert!(nodes.pick_any().is_some() && LaneNodes::default().pick_any().is_none());
    }
}
