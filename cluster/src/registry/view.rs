//! The view: this node's picture of all pages of the cluster. Pure.
//!
//! Owns: rows, their indexes and the filter "does a living node hold it". Never: how it is fed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use serde::Serialize;

use super::Row;
use crate::id::{Address, Holder, Key, NodeNumber};
use crate::lease::NodeRow;
use crate::wire::Scope;

/// What the view keeps of a row.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who holds it.
    pub holder: Holder,
    /// Its session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// The entry's revision.
    pub rev: u64,
    /// When it was first opened, in milliseconds since the Unix epoch.
    pub opened: u64,
}

/// Most sessions have one page: no vector for them.
#[derive(Debug)]
enum Members {
    One(Key),
    Many(Vec<Key>),
}

impl Members {
    fn add(&mut self, key: Key) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, key]),
            Self::Many(keys) => keys.push(key),
        }
    }

    /// `true` when none is left.
    fn remove(&mut self, key: Key) -> bool {
        match self {
            Self::One(only) => *only == key,
            Self::Many(keys) => {
                keys.retain(|other| *other != key);
                keys.is_empty()
            }
        }
    }

    fn keys(&self) -> &[Key] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

fn index<K: Eq + Hash>(members: &mut HashMap<K, Members>, scope: K, key: Key) {
    match members.entry(scope) {
        Entry::Occupied(mut entry) => entry.get_mut().add(key),
        Entry::Vacant(entry) => {
            entry.insert(Members::One(key));
        }
    }
}

fn unindex<K: Eq + Hash>(members: &mut HashMap<K, Members>, scope: K, key: Key) {
    if let Entry::Occupied(mut entry) = members.entry(scope)
        && entry.get_mut().remove(key)
    {
        entry.remove();
    }
}

/// Counts over the living pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Users with at least one page.
    pub users: usize,
    /// Connections with at least one page.
    pub connections: usize,
    /// Sessions with at least one page.
    pub sessions: usize,
    /// Pages, with a socket or in their resume window.
    pub pages: usize,
    /// Pages of each living node, in the order of their numbers.
    pub nodes: Vec<NodeStats>,
}

/// One node in [`Stats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStats {
    /// Its number.
    pub node: NodeNumber,
    /// Its lane.
    pub lane: String,
    /// Its release.
    pub release: String,
    /// Its pages.
    pub pages: usize,
}

/// All pages and all living nodes.
#[derive(Debug, Default)]
pub struct View {
    pages: HashMap<Key, Seen>,
    by_session: HashMap<Key, Members>,
    by_connection: HashMap<Key, Members>,
    by_user: HashMap<Arc<str>, Members>,
    by_holder: HashMap<Holder, usize>,
    nodes: HashMap<NodeNumber, (u64, NodeRow)>,
}

impl View {
    /// A page's row was written.
    pub fn put_page(&mut self, key: Key, rev: u64, row: Row) {
        if self.pages.get(&key).is_some_and(|seen| seen.rev >= rev) {
            return;
        }
        self.delete_page(key);
        // one allocation per user, however many pages
        let user = row.user.map(|user| match self.by_user.get_key_value(user.as_str()) {
            Some((known, _)) => known.clone(),
            None => Arc::from(user),
        });
        let holder = Holder { node: row.node, epoch: row.epoch };
        index(&mut self.by_session, row.session.key, key);
        index(&mut self.by_connection, row.connection.key, key);
        if let Some(user) = &user {
            index(&mut self.by_user, user.clone(), key);
        }
        *self.by_holder.entry(holder).or_default() += 1;
        let (session, connection) = (row.session, row.connection);
        self.pages.insert(key, Seen { holder, session, connection, user, rev, opened: row.opened });
    }

    /// A page's row is gone.
    pub fn delete_page(&mut self, key: Key) {
        let Some(seen) = self.pages.remove(&key) else { return };
        unindex(&mut self.by_session, seen.session.key, key);
        unindex(&mut self.by_connection, seen.connection.key, key);
        if let Some(user) = seen.user {
            unindex(&mut self.by_user, user, key);
        }
        if let Entry::Occupied(mut count) = self.by_holder.entry(seen.holder) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// A node's lease was claimed or renewed.
    pub fn put_node(&mut self, number: NodeNumber, epoch: u64, row: NodeRow) {
        self.nodes.insert(number, (epoch, row));
    }

    /// A node's lease is gone: its pages stop counting at once.
    pub fn delete_node(&mut self, number: NodeNumber) {
        self.nodes.remove(&number);
    }

    /// The current epoch of a node, if it lives.
    pub fn epoch(&self, node: NodeNumber) -> Option<u64> {
        self.nodes.get(&node).map(|(epoch, _)| *epoch)
    }

    /// Whether that life of a node holds its lease.
    pub fn lives(&self, holder: Holder) -> bool {
        self.epoch(holder.node) == Some(holder.epoch)
    }

    /// The living nodes, in the order of their numbers.
    pub fn nodes(&self) -> Vec<(Holder, &NodeRow)> {
        let mut nodes: Vec<_> =
            self.nodes.iter().map(|(&node, (epoch, row))| (Holder { node, epoch: *epoch }, row)).collect();
        nodes.sort_by_key(|(holder, _)| *holder);
        nodes
    }

    /// A living page.
    pub fn page(&self, key: Key) -> Option<&Seen> {
        self.pages.get(&key).filter(|seen| self.lives(seen.holder))
    }

    /// The living pages of a session, connection or user. For `All` and a page use the other questions.
    pub fn pages_of<'a>(&'a self, scope: &Scope) -> impl Iterator<Item = (Key, &'a Seen)> {
        let members = match scope {
            Scope::Session(key) => self.by_session.get(key),
            Scope::Connection(key) => self.by_connection.get(key),
            Scope::User(user) => self.by_user.get(user.as_str()),
            Scope::Page(_) | Scope::All => None,
        };
        let keys = members.map(Members::keys).unwrap_or_default();
        keys.iter().filter_map(|key| self.page(*key).map(|seen| (*key, seen)))
    }

    /// The users with a living page, in no order.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        let online = |members: &Members| members.keys().iter().any(|key| self.page(*key).is_some());
        self.by_user.iter().filter(move |(_, members)| online(members)).map(|(user, _)| &**user)
    }

    /// The living nodes that hold pages of a scope, each once, in the order of their numbers.
    pub fn holders(&self, scope: &Scope) -> Vec<Holder> {
        let mut holders: Vec<Holder> = match scope {
            Scope::All => self.by_holder.keys().copied().filter(|holder| self.lives(*holder)).collect(),
            Scope::Page(address) => self.page(address.key).map(|seen| seen.holder).into_iter().collect(),
            _ => self.pages_of(scope).map(|(_, seen)| seen.holder).collect(),
        };
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Pages whose holder has no living lease, with the revision to delete them at.
    pub fn dead(&self) -> Vec<(Key, u64)> {
        if self.by_holder.keys().all(|holder| self.lives(*holder)) {
            return Vec::new();
        }
        let dead = self.pages.iter().filter(|(_, seen)| !self.lives(seen.holder));
        dead.map(|(key, seen)| (*key, seen.rev)).collect()
    }

    /// Counts over the living pages.
    pub fn stats(&self) -> Stats {
        let nodes = self.nodes().into_iter().map(|(holder, row)| NodeStats {
            node: holder.node,
            lane: row.lane.clone(),
            release: row.release.clone(),
            pages: self.by_holder.get(&holder).copied().unwrap_or(0),
        });
        let nodes: Vec<_> = nodes.collect();
        let count = |members: &mut dyn Iterator<Item = &Members>| {
            members.filter(|members| members.keys().iter().any(|key| self.page(*key).is_some())).count()
        };
        Stats {
            users: count(&mut self.by_user.values()),
            connections: count(&mut self.by_connection.values()),
            sessions: count(&mut self.by_session.values()),
            pages: nodes.iter().map(|node| node.pages).sum(),
            nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: u16) -> NodeNumber {
        NodeNumber::new(number).unwrap()
    }

    fn row(number: u16, epoch: u64, session: u128, user: Option<&str>) -> Row {
        let at = |bits| Address { key: Key::from_bits(bits), node: node(number) };
        Row {
            node: node(number),
            epoch,
            generation: 1,
            prev: None,
            session: at(session),
            connection: at(session / 2),
            user: user.map(str::to_owned),
            lane: "stable".into(),
            release: "dev".into(),
            opened: 0,
            agent: String::new(),
        }
    }

    #[test]
    fn pages_of_a_dead_node_leave_the_view_with_its_lease() {
        let mut view = View::default();
        view.put_node(node(1), 5, NodeRow::default());
        view.put_page(Key::from_bits(1), 10, row(1, 5, 8, Some("ann")));
        assert_eq!(view.stats().pages, 1);
        view.delete_node(node(1));
        assert_eq!(view.stats(), Stats::default());
        assert_eq!(view.holders(&Scope::User("ann".into())), []);
        assert_eq!(view.dead(), [(Key::from_bits(1), 10)]);
        view.put_node(node(1), 6, NodeRow::default());
        assert_eq!(view.stats().pages, 0, "a new life of the node does not revive them");
    }

    #[test]
    fn an_older_version_of_a_row_never_replaces_a_newer_one() {
        let mut view = View::default();
        view.put_node(node(1), 1, NodeRow::default());
        view.put_node(node(2), 1, NodeRow::default());
        view.put_page(Key::from_bits(1), 10, row(2, 1, 8, None));
        view.put_page(Key::from_bits(1), 9, row(1, 1, 8, None));
        assert_eq!(view.holders(&Scope::Session(Key::from_bits(8))), [Holder { node: node(2), epoch: 1 }]);
    }

    proptest! {
        /// Against a plain list of rows.
        #[test]
        fn the_indexes_say_what_the_rows_say(
            steps in prop::collection::vec((0u128..6, prop::option::of((1u16..4, 0u128..5, 0usize..3))), 0..60)
        ) {
            let users = [None, Some("ann"), Some("*")];
            let mut view = View::default();
            for number in 1..3 {
                view.put_node(node(number), 1, NodeRow::default()); // node 3 is dead
            }
            let mut rows: HashMap<Key, Row> = HashMap::new();
            for (rev, (key, step)) in steps.into_iter().enumerate() {
                let key = Key::from_bits(key);
                match step {
                    Some((number, session, user)) => {
                        let row = row(number, 1, session, users[user]);
                        rows.insert(key, row.clone());
                        view.put_page(key, rev as u64 + 1, row);
                    }
                    None => {
                        rows.remove(&key);
                        view.delete_page(key);
                    }
                }
            }
            rows.retain(|_, row| row.node != node(3));
            let distinct = |of: &dyn Fn(&Row) -> Option<String>| {
                rows.values().filter_map(of).collect::<std::collections::HashSet<_>>().len()
            };
            let stats = view.stats();
            prop_assert_eq!(stats.pages, rows.len());
            prop_assert_eq!(stats.users, distinct(&|row| row.user.clone()));
            prop_assert_eq!(stats.sessions, distinct(&|row| Some(row.session.key.to_string())));
            prop_assert_eq!(stats.connections, distinct(&|row| Some(row.connection.key.to_string())));
            for user in ["ann", "*"] {
                let mut expected: Vec<_> =
                    rows.values().filter(|row| row.user.as_deref() == Some(user)).map(|row| row.node).collect();
                expected.sort_unstable();
                expected.dedup();
                let holders = view.holders(&Scope::User(user.into()));
                prop_assert_eq!(holders.iter().map(|holder| holder.node).collect::<Vec<_>>(), expected);
            }
        }
    }
}
