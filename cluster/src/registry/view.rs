//! The view: all pages of the cluster, as this node sees them. Pure.
//!
//! Owns: rows, and indexes of the rows that a living node holds. When a node dies or starts, its pages are moved out of
//! the indexes or into them, so that no query has to filter. Never: how it is updated, and the queries (`queries`).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::PageRow;
use super::idle::{Expirable, IdleRow};
use super::key_counts::KeyCounts;
use super::presence::{ChangeKind, PresenceChange, cancel_out};
use super::stats::{CountDelta, Counters, LaneIndex, Uniqueness};
use crate::id::{Address, Entity, Holder, Key, NodeNumber};
use crate::lease::NodeRow;
use crate::table;

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

/// The part of an idle row that the view keeps.
#[derive(Debug)]
pub(super) struct IdleSeen {
    pub(super) session: Option<Address>,
    pub(super) connection: Address,
    pub(super) user: Option<Arc<str>>,
    pub(super) until: u64,
    pub(super) ending: bool,
    pub(super) rev: u64,
}

/// The connections and sessions of a user.
#[derive(Debug, Default)]
pub(super) struct UserEntry {
    pub(super) connections: KeyCounts,
    pub(super) sessions: KeyCounts,
}

#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) epoch: u64,
    pub(super) row: NodeRow,
    lane: LaneIndex,
}

/// All pages and all living nodes.
#[derive(Debug, Default)]
pub struct View {
    /// Revision of the last row that was put.
    pub(super) applied: u64,
    pub(super) pages: HashMap<Key, PageEntry>,
    /// Pages of each session.
    pub(super) sessions: HashMap<Key, KeyCounts>,
    /// Sessions of each connection.
    pub(super) connections: HashMap<Key, KeyCounts>,
    pub(super) users: BTreeMap<Arc<str>, UserEntry>,
    /// Pages of each topic.
    pub(super) topics: BTreeMap<Arc<str>, KeyCounts>,
    pub(super) idle: HashMap<Expirable, IdleSeen>,
    /// Idle rows in the order of their ends; rows that are ending come first.
    pub(super) due: BTreeSet<(u64, Expirable)>,
    /// Number of sessions and connections that have an idle row and no page.
    pub(super) idle_sessions: usize,
    pub(super) idle_connections: usize,
    /// Number of rows of each holder, living or not.
    pub(super) held: HashMap<Holder, usize>,
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
        let user = row.user.map(|user| self.intern(user));
        let holder = Holder { node: row.node, epoch: row.epoch };
        *self.held.entry(holder).or_default() += 1;
        let (session, connection) = (row.session, row.connection);
        let topics = row.topics.into_iter().map(|topic| self.intern_topic(topic)).collect();
        let seen = PageEntry { holder, session, connection, user, topics, rev, opened: row.opened };
        self.pages.insert(key, seen);
        self.index(key, &mut changes);
        cancel_out(changes)
    }

    /// Applies the deletion of a page's row.
    pub fn delete_page(&mut self, key: Key) -> Vec<PresenceChange> {
        let mut changes = Vec::new();
        self.unindex(key, &mut changes);
        let gone = self.pages.remove(&key);
        table::shrink(&mut self.pages);
        if let Some(seen) = gone
            && let Entry::Occupied(mut count) = self.held.entry(seen.holder)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        changes
    }

    /// Applies an idle row that was written.
    pub fn put_idle(&mut self, rev: u64, row: IdleRow) {
        let of = row.of();
        if self.idle.get(&of).is_some_and(|seen| seen.rev >= rev) {
            return;
        }
        self.forget_idle(of);
        let user = row.user.map(|user| self.intern(user));
        let IdleRow { session, connection, until, ending, .. } = row;
        let seen = IdleSeen { session, connection, user, until, ending, rev };
        self.due.insert((seen.due(), of));
        self.mark_idle(of, &seen, true);
        self.idle.insert(of, seen);
        self.count_idle(of, !self.has_pages(of), true);
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
        self.count_idle(of, !self.has_pages(of), false);
        let seen = self.idle.remove(&of)?;
        table::shrink(&mut self.idle);
        self.due.remove(&(seen.due(), of));
        self.mark_idle(of, &seen, false);
        Some(seen)
    }

    /// Updates the idle counters when a session or connection with an idle row has lost or got its last page, or when
    /// the idle row of one without pages changed.
    fn count_idle(&mut self, of: Expirable, applies: bool, more: bool) {
        if !applies || self.idle.get(&of).is_none_or(|idle| idle.ending) {
            return;
        }
        let count = match of {
            Expirable::Session(_) => &mut self.idle_sessions,
            Expirable::Connection(_) => &mut self.idle_connections,
        };
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Marks a session or connection as idle for its user, and a session for its connection. Rows that are ending do
    /// not count.
    fn mark_idle(&mut self, of: Expirable, seen: &IdleSeen, idle: bool) {
        if seen.ending {
            return;
        }
        if let Expirable::Session(session) = of {
            change(&mut self.connections, seen.connection.key, |sessions| sessions.set_idle(session, idle));
        }
        self.change_user(seen.user.clone(), |owned| match of {
            Expirable::Session(session) => owned.sessions.set_idle(session, idle),
            Expirable::Connection(connection) => owned.connections.set_idle(connection, idle),
        });
    }

    /// Applies the lease of a node that was claimed or renewed.
    pub fn put_node(&mut self, number: NodeNumber, epoch: u64, row: NodeRow) -> Vec<PresenceChange> {
        if self.epoch(number) == Some(epoch) {
            return Vec::new();
        }
        let mut changes = self.delete_node(number);
        let lane = self.census.lane(&row.lane, &row.release);
        self.nodes.insert(number, NodeEntry { epoch, row, lane });
        for key in self.rows_of(Holder { node: number, epoch }) {
            self.index(key, &mut changes);
        }
        cancel_out(changes)
    }

    /// Applies the loss of a node's lease: its pages stop counting at once.
    pub fn delete_node(&mut self, number: NodeNumber) -> Vec<PresenceChange> {
        let Some(epoch) = self.epoch(number) else { return Vec::new() };
        let mut changes = Vec::new();
        for key in self.rows_of(Holder { node: number, epoch }) {
            self.unindex(key, &mut changes);
        }
        self.nodes.remove(&number);
        changes
    }

    /// Shares one allocation per topic, however many pages it has.
    fn intern_topic(&self, topic: String) -> Arc<str> {
        self.topics.get_key_value(topic.as_str()).map_or_else(|| topic.into(), |(known, _)| known.clone())
    }

    fn rows_of(&self, holder: Holder) -> Vec<Key> {
        if !self.held.contains_key(&holder) {
            return Vec::new();
        }
        self.pages.iter().filter(|(_, seen)| seen.holder == holder).map(|(key, _)| *key).collect()
    }

    /// Adds a page of a living node to the indexes and counters.
    fn index(&mut self, key: Key, changes: &mut Vec<PresenceChange>) {
        let Some((seen, lane)) = self.living(key) else { return };
        let difference = self.difference(key, &seen, lane);
        self.sessions.entry(seen.session.key).or_default().add_page(key);
        self.connections.entry(seen.connection.key).or_default().add_page(seen.session.key);
        if let Some(user) = &seen.user {
            let owned = self.users.entry(user.clone()).or_default();
            owned.connections.add_page(seen.connection.key);
            owned.sessions.add_page(seen.session.key);
        }
        for topic in &seen.topics {
            self.topics.entry(topic.clone()).or_default().add_page(key);
        }
        self.count(key, &seen, lane, ChangeKind::Join, &difference, changes);
    }

    /// Removes a page from the indexes and counters.
    fn unindex(&mut self, key: Key, changes: &mut Vec<PresenceChange>) {
        let Some((seen, lane)) = self.living(key) else { return };
        change(&mut self.sessions, seen.session.key, |pages| pages.remove_page(key));
        change(&mut self.connections, seen.connection.key, |sessions| sessions.remove_page(seen.session.key));
        self.change_user(seen.user.clone(), |owned| {
            owned.connections.remove_page(seen.connection.key);
            owned.sessions.remove_page(seen.session.key);
        });
        for topic in &seen.topics {
            if let Some(pages) = self.topics.get_mut(topic) {
                pages.remove_page(key);
                if pages.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
        let difference = self.difference(key, &seen, lane);
        self.count(key, &seen, lane, ChangeKind::Leave, &difference, changes);
    }

    fn count(
        &mut self,
        key: Key,
        seen: &PageEntry,
        lane: LaneIndex,
        kind: ChangeKind,
        difference: &CountDelta,
        changes: &mut Vec<PresenceChange>,
    ) {
        let left = kind == ChangeKind::Leave;
        self.census.change(seen.holder, lane, difference, !left);
        self.count_idle(Expirable::Session(seen.session.key), difference.session.in_cluster, left);
        self.count_idle(Expirable::Connection(seen.connection.key), difference.connection.in_cluster, left);
        tell(kind, key, seen, difference, changes);
    }

    /// Returns a page with a living holder; these are the indexed ones.
    fn living(&self, key: Key) -> Option<(PageEntry, LaneIndex)> {
        let seen = self.page(key)?;
        self.nodes.get(&seen.holder.node).map(|alive| (seen.clone(), alive.lane))
    }

    /// Returns where this page is the only one among all other counted pages.
    fn difference(&self, key: Key, seen: &PageEntry, lane: LaneIndex) -> CountDelta {
        CountDelta {
            session: self.alone(key, seen, lane, self.pages_of_session(seen.session.key)),
            connection: self.alone(key, seen, lane, self.pages_of_connection(seen.connection.key)),
            user: seen.user.as_deref().map(|user| self.alone(key, seen, lane, self.pages_of_user(user))),
        }
    }

    /// Scans until another page on the same node is found, which is soon where there are many.
    fn alone<'a>(
        &self,
        key: Key,
        seen: &PageEntry,
        lane: LaneIndex,
        pages: impl Iterator<Item = (Key, &'a PageEntry)>,
    ) -> Uniqueness {
        let mut alone = Uniqueness { in_cluster: true, in_lane: true, at_node: true };
        for (_, other) in pages.filter(|(other, _)| *other != key) {
            alone.in_cluster = false;
            alone.at_node &= other.holder != seen.holder;
            alone.in_lane &= self.nodes.get(&other.holder.node).is_none_or(|alive| alive.lane != lane);
            if !alone.at_node {
                break;
            }
        }
        alone
    }

    fn change_user(&mut self, user: Option<Arc<str>>, change: impl FnOnce(&mut UserEntry)) {
        let Some(user) = user else { return };
        let owned = self.users.entry(user.clone()).or_default();
        change(owned);
        if owned.connections.is_empty() && owned.sessions.is_empty() {
            self.users.remove(&user);
        }
    }

    /// Shares one allocation per user, however many pages it has.
    fn intern(&self, user: String) -> Arc<str> {
        match self.users.get_key_value(user.as_str()) {
            Some((known, _)) => known.clone(),
            None => Arc::from(user),
        }
    }
}

impl IdleSeen {
    fn due(&self) -> u64 {
        if self.ending { 0 } else { self.until }
    }
}

/// Changes the counts of a key and removes the key when they are empty.
fn change(tallies: &mut HashMap<Key, KeyCounts>, key: Key, change: impl FnOnce(&mut KeyCounts)) {
    let tally = tallies.entry(key).or_default();
    change(tally);
    if tally.is_empty() {
        tallies.remove(&key);
        table::shrink(tallies);
    }
}

fn tell(
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
