//! Which pages, sessions, connections, users and topics belong together. Pure.
//!
//! Owns: the indexes of the view, with the number of pages of each entry, and the texts that they share. Never: rows, or
//! whether a holder is alive: the view adds the pages of living holders only.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::entries::PageEntry;
use super::idle::Expirable;
use super::idle_rows::IdleSeen;
use super::key_counts::KeyCounts;
use crate::id::Key;
use crate::table;

/// The connections and sessions of a user.
#[derive(Debug, Default)]
pub(super) struct UserEntry {
    pub(super) connections: KeyCounts,
    pub(super) sessions: KeyCounts,
}

/// The indexes.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Pages of each session.
    pub(super) sessions: HashMap<Key, KeyCounts>,
    /// Sessions of each connection.
    pub(super) connections: HashMap<Key, KeyCounts>,
    users: BTreeMap<Arc<str>, UserEntry>,
    /// Pages of each topic.
    topics: BTreeMap<Arc<str>, KeyCounts>,
}

impl Members {
    /// Adds a page.
    pub(super) fn add(&mut self, page: Key, seen: &PageEntry) {
        self.sessions.entry(seen.session.key).or_default().add_page(page);
        self.connections.entry(seen.connection.key).or_default().add_page(seen.session.key);
        if let Some(user) = &seen.user {
            let owned = self.users.entry(user.clone()).or_default();
            owned.connections.add_page(seen.connection.key);
            owned.sessions.add_page(seen.session.key);
        }
        for topic in &seen.topics {
            self.topics.entry(topic.clone()).or_default().add_page(page);
        }
    }

    /// Removes a page that was added.
    pub(super) fn remove(&mut self, page: Key, seen: &PageEntry) {
        change(&mut self.sessions, seen.session.key, |pages| pages.remove_page(page));
        change(&mut self.connections, seen.connection.key, |sessions| sessions.remove_page(seen.session.key));
        self.change_user(seen.user.clone(), |owned| {
            owned.connections.remove_page(seen.connection.key);
            owned.sessions.remove_page(seen.session.key);
        });
        for topic in &seen.topics {
            if let Some(pages) = self.topics.get_mut(topic) {
                pages.remove_page(page);
                if pages.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
    }

    /// Marks a session or connection as idle for its user, and a session for its connection. Rows that are ending do
    /// not count.
    pub(super) fn set_idle(&mut self, of: Expirable, seen: &IdleSeen, idle: bool) {
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

    /// Returns whether a session or connection has a page.
    pub(super) fn has_pages(&self, of: Expirable) -> bool {
        match of {
            Expirable::Session(key) => self.sessions.contains_key(&key),
            Expirable::Connection(key) => {
                self.connections.get(&key).is_some_and(|sessions| sessions.pages() > 0)
            }
        }
    }

    /// Shares one allocation per user, however many pages it has.
    pub(super) fn intern_user(&self, user: String) -> Arc<str> {
        self.users.get_key_value(user.as_str()).map_or_else(|| user.into(), |(known, _)| known.clone())
    }

    /// Shares one allocation per topic, however many pages it has.
    pub(super) fn intern_topic(&self, topic: String) -> Arc<str> {
        self.topics.get_key_value(topic.as_str()).map_or_else(|| topic.into(), |(known, _)| known.clone())
    }

    pub(super) fn user(&self, user: &str) -> Option<(&Arc<str>, &UserEntry)> {
        self.users.get_key_value(user)
    }

    /// Iterates in order over the sessions of a user after `after`.
    pub(super) fn sessions_of_user(&self, user: &str, after: Option<Key>) -> impl Iterator<Item = Key> {
        self.users.get(user).into_iter().flat_map(move |owned| owned.sessions.after(after))
    }

    /// Iterates in order over the sessions of a connection after `after`.
    pub(super) fn sessions_of_connection(
        &self,
        connection: Key,
        after: Option<Key>,
    ) -> impl Iterator<Item = Key> {
        self.connections.get(&connection).into_iter().flat_map(move |sessions| sessions.after(after))
    }

    /// Iterates over the users after `after`, ordered by name.
    pub(super) fn users_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<str>, &UserEntry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.users.range::<str, _>((from, Bound::Unbounded))
    }

    /// Iterates over the pages of a topic.
    pub(super) fn pages_of_topic(&self, topic: &str) -> impl Iterator<Item = Key> {
        self.topics.get(topic).into_iter().flat_map(|pages| pages.after(None))
    }

    /// Iterates over the topics after `after`, ordered by name.
    pub(super) fn topics_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<str>, &KeyCounts)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.topics.range::<str, _>((from, Bound::Unbounded))
    }

    fn change_user(&mut self, user: Option<Arc<str>>, change: impl FnOnce(&mut UserEntry)) {
        let Some(user) = user else { return };
        let owned = self.users.entry(user.clone()).or_default();
        change(owned);
        if owned.connections.is_empty() && owned.sessions.is_empty() {
            self.users.remove(&user);
        }
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
