//! Queries of the view. Pure.
//!
//! Owns: paginated lists and counts. The cost of a page of a list depends on its
//! own entries only, not on the entries before and after it. Never: how the view is updated.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::entries::PageEntry;
use super::idle::{Expirable, IdleRow};
use super::key_counts::KeyCounts;
use super::members::UserEntry;
use super::stats::{LaneStats, NodeStats, Stats};
use super::view::View;
use crate::id::{Address, Holder, Key, NodeNumber, Scope};
use crate::lease::NodeRow;

/// A user with pages, or with sessions that can still be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserSeen<'a> {
    /// The user.
    pub user: &'a str,
    /// Number of its connections, idle ones included.
    pub connections: usize,
    /// Number of its sessions, idle ones included.
    pub sessions: usize,
    /// Number of its pages.
    pub pages: usize,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSeen {
    /// Id of the connection.
    pub connection: Address,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// Number of its sessions, idle ones included.
    pub sessions: usize,
    /// Number of its pages.
    pub pages: usize,
    /// Until when it can be joined, in milliseconds since the Unix epoch; only while it has no living page.
    pub idle_until: Option<u64>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSeen {
    /// Id of the session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// Number of its pages.
    pub pages: usize,
    /// Until when it can be joined, in milliseconds since the Unix epoch; only while it has no living page.
    pub idle_until: Option<u64>,
}

impl View {
    /// Returns the current epoch of a node, if it is alive.
    pub fn epoch(&self, node: NodeNumber) -> Option<u64> {
        self.nodes.get(&node).map(|alive| alive.epoch)
    }

    /// Returns whether that incarnation of a node holds its lease.
    pub fn is_alive(&self, holder: Holder) -> bool {
        self.epoch(holder.node) == Some(holder.epoch)
    }

    /// Returns the living nodes, ordered by number.
    pub fn nodes(&self) -> Vec<(Holder, &NodeRow)> {
        let holder = |node, epoch| Holder { node, epoch };
        let mut nodes: Vec<_> =
            self.nodes.iter().map(|(&node, alive)| (holder(node, alive.epoch), &alive.row)).collect();
        nodes.sort_by_key(|(holder, _)| *holder);
        nodes
    }

    /// Returns a living page.
    pub fn page(&self, key: Key) -> Option<&PageEntry> {
        self.pages.get(&key).filter(|seen| self.is_alive(seen.holder))
    }

    /// Iterates over the living pages of a session, connection or user. `All` and a page have methods of their own.
    pub fn pages_of<'a>(&'a self, scope: &'a Scope) -> Box<dyn Iterator<Item = (Key, &'a PageEntry)> + 'a> {
        match scope {
            Scope::Session(key) => Box::new(self.pages_of_session(*key)),
            Scope::Connection(key) => Box::new(self.pages_of_connection(*key)),
            Scope::User(user) => Box::new(self.pages_of_user(user)),
            Scope::Topic(topic) => Box::new(self.seen(self.members.pages_of_topic(topic))),
            Scope::Page(_) | Scope::All => Box::new(std::iter::empty()),
        }
    }

    pub(super) fn pages_of_session(&self, session: Key) -> impl Iterator<Item = (Key, &PageEntry)> {
        self.pages_after(session, None)
    }

    pub(super) fn pages_of_connection(&self, connection: Key) -> impl Iterator<Item = (Key, &PageEntry)> {
        let sessions = self.members.sessions_of_connection(connection, None);
        let pages = sessions.flat_map(|session| self.pages_of_session(session));
        pages.filter(move |(_, seen)| seen.connection.key == connection)
    }

    pub(super) fn pages_of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (Key, &'a PageEntry)> {
        let sessions = self.members.sessions_of_user(user, None);
        let pages = sessions.flat_map(|session| self.pages_of_session(session));
        pages.filter(move |(_, seen)| seen.user.as_deref() == Some(user))
    }

    /// Iterates over the topics after `after`, ordered by name, with the number of their pages.
    pub fn topics_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = (&'a str, usize)> {
        self.members.topics_after(after).map(|(topic, pages)| (&**topic, pages.pages()))
    }

    /// Returns how many living pages a user has.
    pub fn count_of_user(&self, user: &str) -> usize {
        self.members.user(user).map_or(0, |(_, owned)| owned.sessions.pages())
    }

    /// Iterates in order over the living pages of a session after `after`.
    pub fn pages_after(&self, session: Key, after: Option<Key>) -> impl Iterator<Item = (Key, &PageEntry)> {
        let pages = self.members.sessions.get(&session).into_iter();
        self.seen(pages.flat_map(move |pages| pages.after(after)))
    }

    fn seen(&self, keys: impl Iterator<Item = Key>) -> impl Iterator<Item = (Key, &PageEntry)> {
        keys.filter_map(|key| self.pages.get(&key).map(|seen| (key, seen)))
    }

    /// Returns a user that has a page or an idle session or connection that can be joined.
    pub fn user<'a>(&'a self, user: &str) -> Option<UserSeen<'a>> {
        self.members.user(user).map(|(user, owned)| UserSeen::of(user, owned))
    }

    /// Iterates over the users after `after`, ordered by name.
    pub fn users_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = UserSeen<'a>> {
        self.members.users_after(after).map(|(user, owned)| UserSeen::of(user, owned))
    }

    /// Iterates in order over the sessions of a user after `after`.
    pub fn sessions_of_user(&self, user: &str, after: Option<Key>) -> impl Iterator<Item = SessionSeen> {
        self.members.sessions_of_user(user, after).filter_map(|key| self.session(key))
    }

    /// Iterates in order over the sessions of a connection after `after`.
    pub fn sessions_of_connection(
        &self,
        connection: Key,
        after: Option<Key>,
    ) -> impl Iterator<Item = SessionSeen> {
        self.members.sessions_of_connection(connection, after).filter_map(|key| self.session(key))
    }

    /// Returns a session that has pages or can still be joined.
    pub fn session(&self, key: Key) -> Option<SessionSeen> {
        SessionSeen::of(self, key)
    }

    /// Returns a connection that has pages or can still be joined.
    pub fn connection(&self, key: Key) -> Option<ConnectionSeen> {
        ConnectionSeen::of(self, key)
    }

    /// Returns whether a session or connection has pages or can still be joined.
    pub fn shows(&self, of: Expirable) -> bool {
        match of {
            Expirable::Session(key) => self.session(key).is_some(),
            Expirable::Connection(key) => self.connection(key).is_some(),
        }
    }

    /// Returns the revision of the last applied row. Rows are applied in order.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns the pages of holders without a living lease.
    pub fn dead(&self) -> Vec<(Key, PageEntry)> {
        if self.held.iter().all(|holder| self.is_alive(holder)) {
            return Vec::new();
        }
        let dead = self.pages.iter().filter(|(_, seen)| !self.is_alive(seen.holder));
        dead.map(|(key, seen)| (*key, seen.clone())).collect()
    }

    /// Returns counts over the living pages.
    pub fn stats(&self) -> Stats {
        Stats::of(self)
    }

    /// Returns whether a session or connection has a living page.
    pub fn has_pages(&self, of: Expirable) -> bool {
        self.members.has_pages(of)
    }

    /// Returns whether a session or connection is ending, so that no page can join.
    pub fn is_ending(&self, of: Expirable) -> bool {
        self.idle.is_ending(of)
    }

    /// Returns the sessions and connections that end with a scope, as idle rows that are marked as ending.
    pub fn expirable_below(&self, scope: &Scope) -> Vec<IdleRow> {
        expirable_below(self, scope)
    }

    /// Returns the idle rows that are due: to be ended, or stale because a page exists. A connection waits for its
    /// sessions.
    pub(super) fn due(&self, now: u64) -> Vec<(IdleRow, u64)> {
        let waits = |of: Expirable| match of {
            Expirable::Session(_) => false,
            Expirable::Connection(_) if self.has_pages(of) => false,
            Expirable::Connection(key) => {
                self.members.connections.contains_key(&key) || self.idle.has_ending(key)
            }
        };
        let due = self.idle.due(now).filter(|(of, _)| !waits(*of));
        due.map(|(_, idle)| (idle.row(), idle.rev)).collect()
    }
}

/// Returns the marked rows of which no page row is left. The row of a dead page counts too: until it is removed, it
/// would keep a session that has ended.
pub(super) fn ended(view: &View) -> Vec<(IdleRow, u64)> {
    let marked = view.due(0).into_iter().filter(|(row, _)| row.ending && !view.has_pages(row.of()));
    let marked: Vec<_> = marked.collect();
    if marked.is_empty() {
        return marked;
    }
    let of = |(_, seen): (Key, PageEntry)| {
        [Expirable::Session(seen.session.key), Expirable::Connection(seen.connection.key)]
    };
    let dead: HashSet<Expirable> = view.dead().into_iter().flat_map(of).collect();
    marked.into_iter().filter(|(row, _)| !dead.contains(&row.of())).collect()
}

impl<'a> UserSeen<'a> {
    fn of(user: &'a Arc<str>, owned: &UserEntry) -> Self {
        let (connections, sessions) = (owned.connections.len(), owned.sessions.len());
        Self { user, connections, sessions, pages: owned.sessions.pages() }
    }
}

impl SessionSeen {
    fn of(view: &View, key: Key) -> Option<Self> {
        if let Some((_, first)) = view.pages_of_session(key).next() {
            let (session, connection, user) = (first.session, first.connection, first.user.clone());
            let pages = view.members.sessions.get(&key).map_or(0, KeyCounts::pages);
            return Some(Self { session, connection, user, pages, idle_until: None });
        }
        let idle = view.idle.joinable(Expirable::Session(key))?;
        let (connection, user) = (idle.connection, idle.user.clone());
        Some(Self { session: idle.session?, connection, user, pages: 0, idle_until: Some(idle.until) })
    }
}

impl ConnectionSeen {
    fn of(view: &View, key: Key) -> Option<Self> {
        let tally = view.members.connections.get(&key);
        let (sessions, pages) = tally.map_or((0, 0), |sessions| (sessions.len(), sessions.pages()));
        if let Some((_, first)) = view.pages_of_connection(key).next() {
            let (connection, user) = (first.connection, first.user.clone());
            return Some(Self { connection, user, sessions, pages, idle_until: None });
        }
        let idle = view.idle.joinable(Expirable::Connection(key))?;
        let (connection, user) = (idle.connection, idle.user.clone());
        Some(Self { connection, user, sessions, pages, idle_until: Some(idle.until) })
    }
}

fn expirable_below(view: &View, scope: &Scope) -> Vec<IdleRow> {
    let (sessions, connections): (Vec<_>, Vec<_>) = match scope {
        Scope::Session(key) => (view.session(*key).into_iter().collect(), Vec::new()),
        Scope::Connection(key) => (view.sessions_of_connection(*key, None).collect(), vec![*key]),
        Scope::User(user) => {
            let owned = view.members.user(user).into_iter();
            let connections = owned.flat_map(|(_, owned)| owned.connections.after(None));
            (view.sessions_of_user(user, None).collect(), connections.collect())
        }
        Scope::Page(_) | Scope::Topic(_) | Scope::All => Default::default(),
    };
    let row = |session, connection, user: Option<Arc<str>>| {
        let user = user.as_deref().map(str::to_owned);
        IdleRow { session, connection, user, until: 0, ending: true }
    };
    let sessions = sessions.into_iter().map(|seen| row(Some(seen.session), seen.connection, seen.user));
    let connections = connections.into_iter().filter_map(|key| view.connection(key));
    sessions.chain(connections.map(|seen| row(None, seen.connection, seen.user))).collect()
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

/// Returns the leader, which is the living node with the lowest number. The views of two nodes may differ for a moment.
pub fn leader_in(view: &View) -> Option<Holder> {
    view.nodes().first().map(|(holder, _)| *holder)
}
