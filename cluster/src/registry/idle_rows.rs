//! The idle rows that this node has received. Pure.
//!
//! Owns: the rows, their order of expiry, and how many sessions and connections are idle. Never: which of them have a
//! page; the view reports that.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::idle::{Expirable, IdleRow, IdleState};
use crate::id::{Address, Key};
use crate::table;

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

impl IdleSeen {
    fn due(&self) -> u64 {
        if self.ending { 0 } else { self.until }
    }

    pub(super) fn row(&self) -> IdleRow {
        let user = self.user.as_deref().map(str::to_owned);
        let Self { session, connection, until, ending, .. } = *self;
        IdleRow { session, connection, user, until, ending }
    }
}

/// The rows.
#[derive(Debug, Default)]
pub(super) struct IdleRows {
    pub(super) rows: HashMap<Expirable, IdleSeen>,
    /// Rows in the order of their ends; rows that are ending come first.
    due: BTreeSet<(u64, Expirable)>,
    /// Number of sessions that have an idle row and no page.
    pub(super) sessions: usize,
    /// Number of connections that have an idle row and no page.
    pub(super) connections: usize,
}

impl IdleRows {
    pub(super) fn get(&self, of: Expirable) -> Option<&IdleSeen> {
        self.rows.get(&of)
    }

    /// Returns the row of a session or connection that can still be joined.
    pub(super) fn joinable(&self, of: Expirable) -> Option<&IdleSeen> {
        self.get(of).filter(|idle| !idle.ending)
    }

    pub(super) fn is_ending(&self, of: Expirable) -> bool {
        self.get(of).is_some_and(|idle| idle.ending)
    }

    /// Adds a row. The caller has removed the previous one.
    pub(super) fn insert(&mut self, of: Expirable, seen: IdleSeen) {
        self.due.insert((seen.due(), of));
        self.rows.insert(of, seen);
    }

    pub(super) fn remove(&mut self, of: Expirable) -> Option<IdleSeen> {
        let seen = self.rows.remove(&of)?;
        table::shrink(&mut self.rows);
        self.due.remove(&(seen.due(), of));
        Some(seen)
    }

    /// Updates the counters when a session or connection with an idle row has lost or got its last page, or when the
    /// idle row of one without pages changed.
    pub(super) fn count(&mut self, of: Expirable, more: bool) {
        if self.joinable(of).is_none() {
            return;
        }
        let count = match of {
            Expirable::Session(_) => &mut self.sessions,
            Expirable::Connection(_) => &mut self.connections,
        };
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Iterates over the rows that are due.
    pub(super) fn due(&self, now: u64) -> impl Iterator<Item = (Expirable, &IdleSeen)> {
        let due = self.due.iter().take_while(move |(due, _)| *due <= now);
        due.filter_map(|(_, of)| self.rows.get(of).map(|idle| (*of, idle)))
    }

    /// Returns whether a session of a connection is ending.
    pub(super) fn has_ending(&self, connection: Key) -> bool {
        self.due(0).any(|(_, idle)| idle.session.is_some() && idle.connection.key == connection)
    }

    /// Returns the state of rows, as far as this node has received them.
    pub(super) fn states(&self, of: &[Expirable]) -> Vec<IdleState> {
        let state = |of| {
            let idle = self.get(of);
            IdleState { of, rev: idle.map(|idle| idle.rev), ending: idle.is_some_and(|idle| idle.ending) }
        };
        of.iter().copied().map(state).collect()
    }
}
