//! Sessions and connections without a page: how long they are kept, and which node may end them. Pure.
//!
//! **The rule.** A session that has had pages has a page row, has an idle row, or has ended; the same holds for a
//! connection. All writes are single compare-and-set writes, in an order that keeps the rule after each of them, so a
//! process may stop between any two and the writes of several nodes may be mixed in any way:
//!
//! - A page that leaves: the idle rows of its session and connection first, its own row last. A living node does so for
//!   the last of its pages of a session. A node that removes the row of a page that is not its own, such as that of a
//!   dead node, does so for each page, even if it still sees a living page, because its view may lag. The idle row gets
//!   a new revision in any case, also when it is ending.
//! - A page that joins: its own row first, then the deletion of the idle rows at the revisions that were read before
//!   that. A row that is still at that revision was there before the page, and the page is still there, because the
//!   removal of its row would have changed the revision. Nothing else deletes an idle row that is not ending.
//! - An end: a mark in the idle row, then everything that belongs to it, then the row. The row goes when the view, which
//!   shows the mark, shows no row of a page below it, of a dead node either. A page that has joined after the mark
//!   renews the mark before it leaves, so the row does not go before the page. No page joins a marked row: a page whose
//!   deletion of the idle row meets the mark takes its own row back.
//!
//! An idle row counts only while its session or connection has no page. It is left behind beside a page when a node
//! joins before it has received the row, or stops before it has deleted it; then it is postponed when it is due.
//!
//! A leave that finds the row of its page gone deletes an idle row that it has created for it, because the session may
//! have ended meanwhile, and a session ends once.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PageEntry, PageRow};
use crate::engine::{OperationId, Precondition, Put};
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
    pub(super) fn expect(self) -> Precondition {
        self.rev.map_or(Precondition::Absent, Precondition::Rev)
    }
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

    /// Returns the idle row of its session or connection, without a time.
    pub(super) fn idle_row(&self, of: Expirable) -> IdleRow {
        let session = matches!(of, Expirable::Session(_)).then_some(self.session);
        IdleRow { session, connection: self.connection, user: self.user.clone(), until: 0, ending: false }
    }
}
