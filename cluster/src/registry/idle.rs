//! Sessions and connections without a page: how long they are kept, and which node may end them. Pure.
//!
//! **The rule.** A living node that has a page of a session is responsible for writing the idle row of the session. For
//! a page of a dead node, the node that removes the page's row is responsible. A node does so by writing the idle rows
//! of the session and of its connection before it removes the row of its last page of them, or in the same commit. A
//! node that removes rows of dead nodes writes the idle row of each session before it removes the first of them, even
//! if it still sees a living page, because its view may lag. Only a page that joins deletes an idle row, after its own
//! row is written or in the same commit, because from then on its node is responsible. So in any order of these steps,
//! a session that has had pages has a page, has an idle row, or has ended.
//!
//! An idle row counts only while its session or connection has no page: a node that joins before it has received the
//! row leaves it behind. Such a row is postponed when it is due. An end begins with a mark: from then on no page can
//! join, and the row is removed when everything that belongs to it is gone.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PageEntry, PageRow};
use crate::engine::{BatchOp, OperationId, Precondition, Put};
use crate::id::{Address, Key};
use crate::subject::page_key;
use crate::wire;

/// How long sessions and connections without a page are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Time of a session after its last page.
    pub session: Duration,
    /// Time of a connection after its last session.
    pub connection: Duration,
    /// How long the tombstone of an unregistered page is kept: as long as its client may try to resume it; whole
    /// seconds.
    pub unregistered: Duration,
}

/// A session or a connection, which can be idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expirable {
    /// A session.
    Session(Key),
    /// A connection.
    Connection(Key),
}

impl Expirable {
    pub(super) fn key(self) -> String {
        match self {
            Self::Session(key) => page_key::session(key),
            Self::Connection(key) => page_key::connection(key),
        }
    }
}

/// The row `session.<key>` or `connection.<key>` in the bucket `pages`, stored in the entry's meta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleRow {
    /// The session; absent in the row of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Address>,
    /// The connection.
    pub connection: Address,
    /// User of the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it may end, in milliseconds since the Unix epoch.
    pub until: u64,
    /// Whether it is ending, so that no page can join any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

impl IdleRow {
    /// Returns the session or connection of the row.
    pub fn of(&self) -> Expirable {
        match self.session {
            Some(session) => Expirable::Session(session.key),
            None => Expirable::Connection(self.connection.key),
        }
    }

    /// Parses a row. Returns `None` when the bytes are not an idle row.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }

    /// Returns the row with its full lifetime counted from `now`, in milliseconds since the Unix epoch.
    pub(super) fn put_off(self, lifetimes: &Lifetimes, now: u64) -> Self {
        let kept = match self.of() {
            Expirable::Session(_) => lifetimes.session,
            // its last session ends first
            Expirable::Connection(_) => lifetimes.session + lifetimes.connection,
        };
        Self { until: now + kept.as_millis() as u64, ..self }
    }

    pub(super) fn put(&self, expect: Precondition) -> Put {
        let (key, meta) = (self.of().key(), wire::encode(self));
        Put { key, value: Bytes::new(), meta, expect, ttl: None, op: OperationId::random() }
    }
}

/// The state of an idle row, as far as its writer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdleState {
    pub(super) of: Expirable,
    pub(super) rev: Option<u64>,
    pub(super) ending: bool,
}

impl IdleState {
    fn expect(self) -> Precondition {
        self.rev.map_or(Precondition::Absent, Precondition::Rev)
    }
}

/// Returns the commit of a page that joins; `None` when its session or connection is ending.
pub(super) fn join(page: Put, states: &[IdleState]) -> Option<Vec<BatchOp>> {
    if states.iter().any(|state| state.ending) {
        return None;
    }
    let taken = states.iter().filter(|state| state.rev.is_some());
    let taken = taken.map(|state| BatchOp::Delete { key: state.of.key(), expect: state.expect() });
    // the page first, so that watchers see it before the idle rows that it replaces are removed
    Some(std::iter::once(BatchOp::Put(page)).chain(taken).collect())
}

/// The removal of a page, and whether it is the last page of its session or connection on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRemoval {
    /// The page.
    pub page: Key,
    /// Revision of its row.
    pub rev: u64,
    /// Its session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user.
    pub user: Option<String>,
    /// Whether its node holds no other page of the session.
    pub last_of_session: bool,
    /// Whether its node holds no other page of the connection.
    pub last_of_connection: bool,
}

impl PageRemoval {
    /// Returns the session and connection that must become idle, if no other node has a page of them.
    pub(super) fn expirable(&self) -> Vec<Expirable> {
        let session = self.last_of_session.then_some(Expirable::Session(self.session.key));
        let connection = self.last_of_connection.then_some(Expirable::Connection(self.connection.key));
        session.into_iter().chain(connection).collect()
    }

    /// Describes the removal of a page of which only the row is left.
    pub fn of_row(page: Key, row: &PageRow, rev: u64) -> Self {
        Self {
            page,
            rev,
            session: row.session,
            connection: row.connection,
            user: row.user.clone(),
            last_of_session: true,
            last_of_connection: true,
        }
    }

    /// Describes the removal of a page of a dead node.
    pub(super) fn of_dead((page, seen): (Key, PageEntry)) -> Self {
        Self {
            page,
            rev: seen.rev,
            session: seen.session,
            connection: seen.connection,
            user: seen.user.as_deref().map(str::to_owned),
            last_of_session: true,
            last_of_connection: true,
        }
    }

    /// Returns the commit of a page that leaves: the idle rows, then the change `own` of its own row.
    pub(super) fn leave(
        &self,
        own: BatchOp,
        states: &[IdleState],
        lifetimes: &Lifetimes,
        now: u64,
    ) -> Vec<BatchOp> {
        self.idle(states, lifetimes, now).into_iter().chain([own]).collect()
    }

    /// Returns the writes of the idle rows. A row that is ending stays unchanged.
    pub(super) fn idle(&self, states: &[IdleState], lifetimes: &Lifetimes, now: u64) -> Vec<BatchOp> {
        let idle = states.iter().filter(|state| !state.ending).map(|state| {
            let session = matches!(state.of, Expirable::Session(_)).then_some(self.session);
            let (connection, user) = (self.connection, self.user.clone());
            let row = IdleRow { session, connection, user, until: 0, ending: false };
            BatchOp::Put(row.put_off(lifetimes, now).put(state.expect()))
        });
        idle.collect()
    }
}
