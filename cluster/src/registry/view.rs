//! The view: all pages of the cluster, as this node sees them. Pure.
//!
//! Owns: rows, and how a change of them changes the indexes (`members`, `idle_rows`), the counters (`stats`) and the
//! presence. When a node dies or starts, its pages are moved out of the indexes or into them, so that no query has to
//! filter. Never: how it is updated, and the queries (`queries`, `holders`).

use std::collections::HashMap;

use super::PageRow;
use super::entries::{LaneIndex, NodeEntry, PageEntry};
use super::holder_counts::HolderCounts;
use super::idle::{Expirable, IdleRow};
use super::idle_rows::{IdleRows, IdleSeen};
use super::members::Members;
use super::presence::{ChangeKind, PresenceChange, cancel_out};
use super::stats::{CountDelta, Counters, uniqueness};
use crate::id::{Address, Entity, Holder, Key, NodeNumber};
use crate::lease::NodeRow;
use crate::table;

/// All pages and all living nodes.
#[derive(Debug, Default)]
pub struct View {
    /// Revision of the last row that was put.
    pub(super) applied: u64,
    pub(super) pages: HashMap<Key, PageEntry>,
    pub(super) members: Members,
    pub(super) idle: IdleRows,
    /// Rows of each holder, living or not.
    pub(super) held: HolderCounts,
    pub(super) census: Counters,
    pub(super) nodes: HashMap<NodeNumber, NodeEntry>,
}

impl View {
    /// Applies the row of a page that was written.
    pub fn put_page(&mut self, key: Key, rev: u64, row: PageRow) -> Vec<PresenceChange> {
        if self.pages.get(&key).is_some_and(|seen| seen.rev >= rev) {
            return Vec::new();
        }
        let mut changes = self.delete_page(key);
        let user = row.user.map(|user| self.members.intern_user(user));
        let holder = Holder { node: row.node, epoch: row.epoch };
        self.held.add(holder);
        let (session, connection) = (row.session, row.connection);
        let topics = row.topics.into_iter().map(|topic| self.members.intern_topic(topic)).collect();
        let seen = PageEntry { holder, session, connection, user, topics, rev, opened: row.opened };
        self.pages.insert(key, seen);
        self.count(ChangeKind::Join, key, &mut changes);
        cancel_out(changes)
    }

    /// Applies the deletion of a page's row.
    pub fn delete_page(&mut self, key: Key) -> Vec<PresenceChange> {
        let mut changes = Vec::new();
        self.count(ChangeKind::Leave, key, &mut changes);
        let gone = self.pages.remove(&key);
        table::shrink(&mut self.pages);
        if let Some(seen) = gone {
            self.held.remove(seen.holder);
        }
        changes
    }

    /// Applies an idle row that was written.
    pub fn put_idle(&mut self, rev: u64, row: IdleRow) {
        let of = row.of();
        if self.idle.get(of).is_some_and(|seen| seen.rev >= rev) {
            return;
        }
        self.forget_idle(of);
        let user = row.user.map(|user| self.members.intern_user(user));
        let IdleRow { session, connection, until, ending, .. } = row;
        let seen = IdleSeen { session, connection, user, until, ending, rev };
        self.members.set_idle(of, &seen, true);
        self.idle.insert(of, seen);
        if !self.has_pages(of) {
            self.idle.count(of, true);
        }
    }

    /// Applies the deletion of an idle row: a page has joined, or the session or connection has ended.
    pub fn delete_idle(&mut self, of: Expirable) -> Vec<PresenceChange> {
        let Some(seen) = self.forget_idle(of) else { return Vec::new() };
        if self.has_pages(of) {
            return Vec::new();
        }
        let member = seen.session.map_or(Entity::Connection(seen.connection), Entity::Session);
        vec![PresenceChange { kind: ChangeKind::End, member, user: seen.user, node: None }]
    }

    fn forget_idle(&mut self, of: Expirable) -> Option<IdleSeen> {
        if !self.has_pages(of) {
            self.idle.count(of, false);
        }
        let seen = self.idle.remove(of)?;
        self.members.set_idle(of, &seen, false);
        Some(seen)
    }

    /// Applies the lease of a node that was claimed or renewed.
    pub fn put_node(&mut self, number: NodeNumber, epoch: u64, row: NodeRow) -> Vec<PresenceChange> {
        if let Some(known) = self.nodes.get_mut(&number).filter(|known| known.epoch == epoch) {
            known.row.offset_ms = row.offset_ms;
            known.row.note = row.note;
            return Vec::new();
        }
        let mut changes = self.delete_node(number);
        let lane = self.census.lane(&row.lane, &row.release);
        self.nodes.insert(number, NodeEntry { epoch, row, lane });
        for key in self.rows_of(Holder { node: number, epoch }) {
            self.count(ChangeKind::Join, key, &mut changes);
        }
        cancel_out(changes)
    }

    /// Applies the loss of a node's lease: its pages stop counting at once.
    pub fn delete_node(&mut self, number: NodeNumber) -> Vec<PresenceChange> {
        let Some(epoch) = self.epoch(number) else { return Vec::new() };
        let mut changes = Vec::new();
        for key in self.rows_of(Holder { node: number, epoch }) {
            self.count(ChangeKind::Leave, key, &mut changes);
        }
        self.nodes.remove(&number);
        changes
    }

    fn rows_of(&self, holder: Holder) -> Vec<Key> {
        if !self.held.contains(holder) {
            return Vec::new();
        }
        self.pages.iter().filter(|(_, seen)| seen.holder == holder).map(|(key, _)| *key).collect()
    }

    /// Adds a page of a living node to the indexes and counters, or removes it from them.
    fn count(&mut self, kind: ChangeKind, key: Key, changes: &mut Vec<PresenceChange>) {
        let Some((seen, lane)) = self.living(key) else { return };
        let difference = count_delta(self, key, &seen, lane);
        let left = kind == ChangeKind::Leave;
        if left {
            self.members.remove(key, &seen);
        } else {
            self.members.add(key, &seen);
        }
        self.census.change(seen.holder, lane, &difference, !left);
        if difference.session.in_cluster {
            self.idle.count(Expirable::Session(seen.session.key), left);
        }
        if difference.connection.in_cluster {
            self.idle.count(Expirable::Connection(seen.connection.key), left);
        }
        record_change(kind, key, &seen, &difference, changes);
    }

    /// Returns a page with a living holder; these are the indexed ones.
    fn living(&self, key: Key) -> Option<(PageEntry, LaneIndex)> {
        let seen = self.page(key)?;
        self.nodes.get(&seen.holder.node).map(|alive| (seen.clone(), alive.lane))
    }
}

/// Compares a page with the other counted pages of its user, connection and session.
fn count_delta(view: &View, key: Key, seen: &PageEntry, lane: LaneIndex) -> CountDelta {
    let page = (key, seen, lane);
    let lane_of = |node| view.nodes.get(&node).map(|entry| entry.lane);
    let of_user = |user: &str| uniqueness(page, view.pages_of_user(user), lane_of);
    CountDelta {
        session: uniqueness(page, view.pages_of_session(seen.session.key), lane_of),
        connection: uniqueness(page, view.pages_of_connection(seen.connection.key), lane_of),
        user: seen.user.as_deref().map(of_user),
    }
}

fn record_change(
    kind: ChangeKind,
    key: Key,
    seen: &PageEntry,
    difference: &CountDelta,
    changes: &mut Vec<PresenceChange>,
) {
    let node = seen.holder.node;
    let user = difference.user.is_some_and(|alone| alone.in_cluster);
    let members = [
        user.then(|| seen.user.clone()).flatten().map(Entity::User),
        difference.connection.in_cluster.then_some(Entity::Connection(seen.connection)),
        difference.session.in_cluster.then_some(Entity::Session(seen.session)),
        Some(Entity::Page(Address { key, node })),
    ];
    let change = |member| PresenceChange { kind, member, user: seen.user.clone(), node: Some(node) };
    let happened = members.into_iter().flatten().map(change);
    match kind {
        ChangeKind::Join => changes.extend(happened),
        // the page first, its user last
        _ => changes.extend(happened.rev()),
    }
}

#[cfg(test)]
mod tests;
