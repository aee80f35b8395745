//! Sessions and connections without a page: how long they stay, and who may end them. Pure.
//!
//! **The rule.** A living node that has a page of a session owes its idle row, and the row of a page whose node is dead
//! owes it as well. A node pays by writing the idle rows of the session and of its connection before the row of its
//! last page of them goes, or in the same commit; whoever removes rows of dead nodes pays for each session before it
//! removes the first of them, whatever living pages it sees: its view may be late. Only a page that joins deletes an
//! idle row, after its own row is written or in the same commit, because from then on its node owes it. So whatever
//! order nodes act in, a session that has had pages has one, has an idle row, or has ended.
//!
//! An idle row counts only while no page lives: a node that joined before it had heard of the row leaves it behind. It
//! is put off when its time has come. An end is a mark first: from then on nobody joins, and the row goes when
//! everything that belongs to it has gone.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PageEntry, PageRow};
use crate::engine::{BatchOp, OperationId, Precondition, Put};
use crate::id::{Address, Key};
use crate::subject::page_key;
use crate::wire;

/// How long what has no page is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// A session after its last page.
    pub session: Duration,
    /// A connection after its last session.
    pub connection: Duration,
    /// How long an unregistered page is known as such: as long as its client may come back for it; whole seconds.
    pub unregistered: Duration,
}

/// What can be idle.
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

/// `session.<key>` and `connection.<key>` in the bucket `pages`, in the entry's meta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleRow {
    /// The session, of a session's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Address>,
    /// The connection.
    pub connection: Address,
    /// The user of the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it may end, in milliseconds since the Unix epoch.
    pub until: u64,
    /// Nobody joins it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

impl IdleRow {
    /// What the row is about.
    pub fn of(&self) -> Expirable {
        match self.session {
            Some(session) => Expirable::Session(session.key),
            None => Expirable::Connection(self.connection.key),
        }
    }

    /// `None` when the bytes are not such a row.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }

    /// The same with its whole time before it.
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

/// How an idle row stands, as far as its writer knows.
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

/// A page joins; `None` when what it joins is ending.
pub(super) fn join(page: Put, stands: &[IdleState]) -> Option<Vec<BatchOp>> {
    if stands.iter().any(|stand| stand.ending) {
        return None;
    }
    let taken = stands.iter().filter(|stand| stand.rev.is_some());
    let taken = taken.map(|stand| BatchOp::Delete { key: stand.of.key(), expect: stand.expect() });
    // the page first: who watches sees it before what it has taken goes
    Some(std::iter::once(BatchOp::Put(page)).chain(taken).collect())
}

/// A page that leaves, and of what it is the last page at its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRemoval {
    /// The page.
    pub page: Key,
    /// Its row's revision.
    pub rev: u64,
    /// Its session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user.
    pub user: Option<String>,
    /// Its node holds no other page of the session.
    pub last_of_session: bool,
    /// Its node holds no other page of the connection.
    pub last_of_connection: bool,
}

impl PageRemoval {
    /// What has to be idle from here on, if nobody else has a page of it.
    pub(super) fn lasting(&self) -> Vec<Expirable> {
        let session = self.last_of_session.then_some(Expirable::Session(self.session.key));
        let connection = self.last_of_connection.then_some(Expirable::Connection(self.connection.key));
        session.into_iter().chain(connection).collect()
    }

    /// A page whose row is all that is left of it.
    pub fn whole(page: Key, row: &PageRow, rev: u64) -> Self {
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

    /// A page whose node is dead.
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

    /// The idle rows, then what becomes of the page's own row.
    pub(super) fn leave(
        &self,
        own: BatchOp,
        stands: &[IdleState],
        lifetimes: &Lifetimes,
        now: u64,
    ) -> Vec<BatchOp> {
        self.idle(stands, lifetimes, now).into_iter().chain([own]).collect()
    }

    /// The idle rows. What is ending stays so.
    pub(super) fn idle(&self, stands: &[IdleState], lifetimes: &Lifetimes, now: u64) -> Vec<BatchOp> {
        let idle = stands.iter().filter(|stand| !stand.ending).map(|stand| {
            let session = matches!(stand.of, Expirable::Session(_)).then_some(self.session);
            let (connection, user) = (self.connection, self.user.clone());
            let row = IdleRow { session, connection, user, until: 0, ending: false };
            BatchOp::Put(row.put_off(lifetimes, now).put(stand.expect()))
        });
        idle.collect()
    }
}
