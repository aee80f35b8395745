//! The page of an object, and what it belongs to.

use std::borrow::Cow;

use pagewire_cluster::id::{Address, Key, WorkOwner};
use pagewire_cluster::wire::{WorkerCall, split_method};

/// A page with the class of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageIdentity {
    pub(super) page: Address,
    pub(super) class: String,
    pub(super) user: Option<String>,
    pub(super) session: Option<Key>,
    pub(super) connection: Option<Key>,
    /// Whether the page keeps the lane of this worker.
    pub(super) keeps_lane: bool,
}

impl PageIdentity {
    /// Returns the page of a message; `None` without one.
    pub(super) fn of(call: &WorkerCall) -> Option<Self> {
        let class = split_method(&call.method).0.to_owned();
        let WorkerCall { page, user, session, connection, lane, .. } = call;
        Some(Self {
            page: (*page)?,
            class,
            user: user.clone(),
            session: *session,
            connection: *connection,
            keeps_lane: lane.is_some(),
        })
    }

    /// Returns whether the object of one is that of the other: the page may have moved to another node meanwhile.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.page.key == other.page.key && self.class == other.class && self.user == other.user
    }

    /// Returns the owner key of its work.
    pub(super) fn owner(&self) -> Option<Cow<'_, str>> {
        WorkOwner::of(self.user.as_deref(), self.connection).map(WorkOwner::key)
    }
}
