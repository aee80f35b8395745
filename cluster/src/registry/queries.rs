//! Queries of the view. Pure.
//!
//! Owns: paginated lists, counts, and which nodes have pages of a scope. The cost of a page of a list depends on its
//! own entries only, not on the entries before and after it. Never: how the view is updated.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::idle::{Expirable, IdleRow, IdleState};
use super::stats::{LaneStats, NodeStats, Stats};
use super::view::{IdleSeen, PageEntry, UserEntry, View};
use crate::id::{Address, Holder, Key, NodeNumber, Scope};
use crate::lease::NodeRow;

/// Maximum number of pages that are scanned to find the nodes of a scope. Above it, a request to a node without pages
/// costs less than scanning more.
const MAX_SCANNED: usize = 1024;

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
    pub fn lives(&self, holder: Holder) -> bool {
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
        self.pages.get(&key).filter(|seen| self.lives(seen.holder))
    }

    /// Iterates over the living pages of a session, connection or user. `All` and a page have methods of their own.
    pub fn pages_of<'a>(&'a self, scope: &'a Scope) -> Box<dyn Iterator<Item = (Key, &'a PageEntry)> + 'a> {
        match scope {
            Scope::Session(key) => Box::new(self.pages_of_session(*key)),
            Scope::Connection(key) => Box::new(self.pages_of_connection(*key)),
            Scope::User(user) => Box::new(self.pages_of_user(user)),
            Scope::Topic(topic) => Box::new(self.pages_of_topic(topic)),
            Scope::Page(_) | Scope::All => Box::new(std::iter::empty()),
        }
    }

    pub(super) fn pages_of_session(&self, session: Key) -> impl Iterator<Item = (Key, &PageEntry)> {
        self.pages_after(session, None)
    }

    pub(super) fn pages_of_connection(&self, connection: Key) -> impl Iterator<Item = (Key, &PageEntry)> {
        let sessions =
            self.connections.get(&connection).into_iter().flat_map(|sessions| sessions.after(None));
        let pages = sessions.flat_map(|session| self.pages_of_session(session));
        pages.filter(move |(_, seen)| seen.connection.key == connection)
    }

    pub(super) fn pages_of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (Key, &'a PageEntry)> {
        let sessions = self.users.get(user).into_iter().flat_map(|owned| owned.sessions.after(None));
        let pages = sessions.flat_map(|session| self.pages_of_session(session));
        pages.filter(move |(_, seen)| seen.user.as_deref() == Some(user))
    }

    fn pages_of_topic<'a>(&'a self, topic: &str) -> impl Iterator<Item = (Key, &'a PageEntry)> {
        let keys = self.topics.get(topic).into_iter().flat_map(|pages| pages.after(None));
        keys.filter_map(|key| self.pages.get(&key).map(|seen| (key, seen)))
    }

    /// Iterates over the topics after `after`, ordered by name, with the number of their pages.
    pub fn topics_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = (&'a str, usize)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let topics = self.topics.range::<str, _>((from, Bound::Unbounded));
        topics.map(|(topic, pages)| (&**topic, pages.pages()))
    }

    /// Returns how many living pages a user has.
    pub fn count_of_user(&self, user: &str) -> usize {
        self.users.get(user).map_or(0, |owned| owned.sessions.pages())
    }

    /// Iterates in order over the living pages of a session after `after`.
    pub fn pages_after(&self, session: Key, after: Option<Key>) -> impl Iterator<Item = (Key, &PageEntry)> {
        let keys = self.sessions.get(&session).into_iter().flat_map(move |pages| pages.after(after));
        keys.filter_map(|key| self.pages.get(&key).map(|seen| (key, seen)))
    }

    /// Returns a user that has a page or an idle session or connection that can be joined.
    pub fn user<'a>(&'a self, user: &str) -> Option<UserSeen<'a>> {
        self.users.get_key_value(user).map(|(user, owned)| UserSeen::of(user, owned))
    }

    /// Iterates over the users after `after`, ordered by name.
    pub fn users_after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = UserSeen<'a>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.users.range::<str, _>((from, Bound::Unbounded));
        users.map(|(user, owned)| UserSeen::of(user, owned))
    }

    /// Iterates in order over the sessions of a user after `after`.
    pub fn sessions_of_user(&self, user: &str, after: Option<Key>) -> impl Iterator<Item = SessionSeen> {
        let keys = self.users.get(user).into_iter().flat_map(move |owned| owned.sessions.after(after));
        keys.filter_map(|key| self.session(key))
    }

    /// Iterates in order over the sessions of a connection after `after`.
    pub fn sessions_of_connection(
        &self,
        connection: Key,
        after: Option<Key>,
    ) -> impl Iterator<Item = SessionSeen> {
        let keys = self.connections.get(&connection).into_iter().flat_map(move |keys| keys.after(after));
        keys.filter_map(|key| self.session(key))
    }

    /// Returns a session that has pages or can still be joined.
    pub fn session(&self, key: Key) -> Option<SessionSeen> {
        if let Some((_, first)) = self.pages_of_session(key).next() {
            let (session, connection, user) = (first.session, first.connection, first.user.clone());
            let pages = self.sessions.get(&key).map_or(0, |pages| pages.pages());
            return Some(SessionSeen { session, connection, user, pages, idle_until: None });
        }
        let idle = self.idle.get(&Expirable::Session(key)).filter(|idle| !idle.ending)?;
        let (connection, user) = (idle.connection, idle.user.clone());
        Some(SessionSeen { session: idle.session?, connection, user, pages: 0, idle_until: Some(idle.until) })
    }

    /// Returns a connection that has pages or can still be joined.
    pub fn connection(&self, key: Key) -> Option<ConnectionSeen> {
        let tally = self.connections.get(&key);
        let (sessions, pages) = tally.map_or((0, 0), |sessions| (sessions.len(), sessions.pages()));
        if let Some((_, first)) = self.pages_of_connection(key).next() {
            let (connection, user) = (first.connection, first.user.clone());
            return Some(ConnectionSeen { connection, user, sessions, pages, idle_until: None });
        }
        let idle = self.idle.get(&Expirable::Connection(key)).filter(|idle| !idle.ending)?;
        let (connection, user) = (idle.connection, idle.user.clone());
        Some(ConnectionSeen { connection, user, sessions, pages, idle_until: Some(idle.until) })
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

    /// Returns the living nodes that hold pages of a scope, each once, ordered by number.
    pub fn holders(&self, scope: &Scope) -> Vec<Holder> {
        self.holders_within(scope, usize::MAX)
    }

    /// Returns the nodes like [`View::holders`], but for a scope of very many pages also nodes that may hold none of
    /// them.
    pub fn candidate_holders(&self, scope: &Scope) -> Vec<Holder> {
        self.holders_within(scope, MAX_SCANNED)
    }

    fn holders_within(&self, scope: &Scope, looks: usize) -> Vec<Holder> {
        let all = || self.held.keys().copied().filter(|holder| self.lives(*holder)).collect();
        let mut holders: Vec<Holder> = match scope {
            Scope::All => all(),
            Scope::Page(address) => self.page(address.key).map(|seen| seen.holder).into_iter().collect(),
            _ => {
                let mut pages = self.pages_of(scope);
                let mut holders = Vec::new();
                for (_, seen) in pages.by_ref().take(looks) {
                    // few nodes, so that a linear search is faster than a set
                    if !holders.contains(&seen.holder) {
                        holders.push(seen.holder);
                    }
                }
                if pages.next().is_some() { all() } else { holders }
            }
        };
        holders.sort_unstable();
        holders
    }

    /// Returns the pages of holders without a living lease.
    pub fn dead(&self) -> Vec<(Key, PageEntry)> {
        if self.held.keys().all(|holder| self.lives(*holder)) {
            return Vec::new();
        }
        let dead = self.pages.iter().filter(|(_, seen)| !self.lives(seen.holder));
        dead.map(|(key, seen)| (*key, seen.clone())).collect()
    }

    /// Returns counts over the living pages.
    pub fn stats(&self) -> Stats {
        let nodes: Vec<NodeStats> = self
            .nodes()
            .into_iter()
            .map(|(holder, row)| NodeStats {
                node: holder.node,
                lane: row.lane.clone(),
                release: row.release.clone(),
                counts: self.census.node(holder),
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
            counts: self.census.lane_counts(lane, release),
        });
        let lanes = lanes.collect();
        let (idle_sessions, idle_connections) = (self.idle_sessions, self.idle_connections);
        Stats { total: self.census.total, idle_sessions, idle_connections, nodes, lanes }
    }

    /// Returns whether a session or connection has a living page.
    pub fn has_pages(&self, of: Expirable) -> bool {
        match of {
            Expirable::Session(key) => self.sessions.contains_key(&key),
            Expirable::Connection(key) => {
                self.connections.get(&key).is_some_and(|sessions| sessions.pages() > 0)
            }
        }
    }

    /// Returns whether a session or connection is ending, so that no page can join.
    pub fn is_ending(&self, of: Expirable) -> bool {
        self.idle.get(&of).is_some_and(|idle| idle.ending)
    }

    /// Returns the sessions and connections that end with a scope, as idle rows that are marked as ending.
    pub fn expirable_below(&self, scope: &Scope) -> Vec<IdleRow> {
        let (sessions, connections): (Vec<_>, Vec<_>) = match scope {
            Scope::Session(key) => (self.session(*key).into_iter().collect(), Vec::new()),
            Scope::Connection(key) => (self.sessions_of_connection(*key, None).collect(), vec![*key]),
            Scope::User(user) => {
                let owned = self.users.get(user.as_str());
                let connections = owned.into_iter().flat_map(|owned| owned.connections.after(None));
                (self.sessions_of_user(user, None).collect(), connections.collect())
            }
            Scope::Page(_) | Scope::Topic(_) | Scope::All => Default::default(),
        };
        let row = |session, connection, user: Option<Arc<str>>| {
            let user = user.as_deref().map(str::to_owned);
            IdleRow { session, connection, user, until: 0, ending: true }
        };
        let sessions = sessions.into_iter().map(|seen| row(Some(seen.session), seen.connection, seen.user));
        let connections = connections.into_iter().filter_map(|key| self.connection(key));
        sessions.chain(connections.map(|seen| row(None, seen.connection, seen.user))).collect()
    }

    /// Returns the state of idle rows, as far as this node has received them.
    pub(super) fn idle_states(&self, of: &[Expirable]) -> Vec<IdleState> {
        let stand = |of| {
            let idle = self.idle.get(&of);
            IdleState { of, rev: idle.map(|idle| idle.rev), ending: idle.is_some_and(|idle| idle.ending) }
        };
        of.iter().copied().map(stand).collect()
    }

    /// Returns whether a session of a connection is ending.
    fn has_ending(&self, connection: Key) -> bool {
        let ending = self.due.iter().take_while(|(due, _)| *due == 0).filter_map(|(_, of)| self.idle.get(of));
        ending.into_iter().any(|idle| idle.session.is_some() && idle.connection.key == connection)
    }

    /// Returns the idle rows that are due: to be ended, or stale because a page lives. A connection waits for its
    /// sessions.
    pub(super) fn due(&self, now: u64) -> Vec<(IdleRow, u64)> {
        let due = self.due.iter().take_while(|(due, _)| *due <= now);
        let seen = due.filter_map(|(_, of)| self.idle.get(of).map(|idle| (*of, idle)));
        let waits = |of: Expirable| match of {
            Expirable::Session(_) => false,
            Expirable::Connection(_) if self.has_pages(of) => false,
            Expirable::Connection(key) => self.connections.contains_key(&key) || self.has_ending(key),
        };
        seen.filter(|(of, _)| !waits(*of)).map(|(_, idle)| (idle.row(), idle.rev)).collect()
    }
}

impl<'a> UserSeen<'a> {
    fn of(user: &'a Arc<str>, owned: &UserEntry) -> Self {
        let (connections, sessions) = (owned.connections.len(), owned.sessions.len());
        Self { user, connections, sessions, pages: owned.sessions.pages() }
    }
}

impl IdleSeen {
    fn row(&self) -> IdleRow {
        let user = self.user.as_deref().map(str::to_owned);
        let Self { session, connection, until, ending, .. } = *self;
        IdleRow { session, connection, user, until, ending }
    }
}
