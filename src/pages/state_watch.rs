//! What pages watch of state trees: the road from the feed to outboxes.
//!
//! Owns: who is told what, and that a page which moves goes on where it was. Never: trees, or who may watch what.

mod stream;

use std::sync::Arc;

use pagewire_cluster::id::Key;
use pagewire_cluster::registry::View;
use pagewire_cluster::state::{Level, Owner, Path, StateStore, TreeNotification, TreeUpdate};
use pagewire_cluster::wire::WatchedPath;

use self::stream::Listeners;
pub use self::stream::WatchStream;
use super::hub::Hub;
use super::page::{Membership, Page};
use crate::protocol::FrameBody;

/// The most paths that a page watches.
pub(super) const MAX_WATCHES: usize = 64;

/// A path of a tree that a page watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageWatch {
    /// Of which tree of its chain.
    pub level: Level,
    /// Where; empty for all of it.
    pub path: Path,
    /// The revision that the page was told last.
    pub(super) revision: u64,
}

impl PageWatch {
    /// Nothing was told yet.
    pub fn new(level: Level, path: Path) -> Self {
        Self { level, path, revision: 0 }
    }

    /// As it travels with its page.
    pub(super) fn to_wire(&self) -> WatchedPath {
        let (level, path) = (self.level.name().to_owned(), self.path.to_string());
        WatchedPath { level, path, revision: self.revision }
    }

    /// `None` for one that this release does not know.
    pub(super) fn from_wire(watched: &WatchedPath) -> Option<Self> {
        let level = Level::ALL.into_iter().find(|level| level.name() == watched.level)?;
        Some(Self { level, path: watched.path.parse().ok()?, revision: watched.revision })
    }
}

/// Whose tree a page means by a level; `None` for the user of somebody anonymous.
pub fn owner(page: Key, place: &Membership, level: Level) -> Option<Owner> {
    Some(match level {
        Level::User => Owner::User(place.user.as_deref()?.to_owned()),
        Level::Connection => Owner::Connection(place.connection.key),
        Level::Session => Owner::Session(place.session.key),
        Level::Page => Owner::Page(page),
    })
}

/// Whether there is what a tree belongs to. Users are for good.
pub fn exists(view: &View, owner: &Owner) -> bool {
    match owner {
        Owner::User(_) => true,
        Owner::Connection(connection) => view.connection(*connection).is_some(),
        Owner::Session(session) => view.session(*session).is_some(),
        Owner::Page(page) => view.page(*page).is_some(),
    }
}

/// Tells pages of this node what they watch. Cheap to clone.
#[derive(Clone)]
pub struct StateWatchers {
    hub: Arc<Hub>,
    states: StateStore,
    listeners: Listeners,
}

impl StateWatchers {
    /// Nobody watches anything yet.
    pub fn new(hub: Arc<Hub>, states: StateStore) -> Self {
        Self { hub, states, listeners: Listeners::default() }
    }

    /// The pages that it tells.
    pub(super) fn hub(&self) -> Arc<Hub> {
        self.hub.clone()
    }

    /// A page watches a path: a snapshot, then changes. One that does already gets another snapshot. `false` when it
    /// watches as much as it may.
    pub fn follow(&self, page: &Page, owner: Owner, path: Path) -> bool {
        let followed = page.watch(PageWatch::new(owner.level(), path.clone()));
        if followed {
            self.states.follow(owner, path, page.key());
        }
        followed
    }

    /// Follows a path for somebody who is no page.
    pub fn listen(&self, owner: Owner, path: Path) -> WatchStream {
        let listener = self.listeners.add(&self.states);
        self.states.follow(owner, path, listener.key());
        listener
    }

    /// It watches the path no more.
    pub fn unfollow(&self, page: &Page, owner: Owner, path: Path) {
        page.unwatch(owner.level(), &path);
        self.states.unfollow(owner, path, page.key());
    }

    /// It watches nothing any more but these.
    pub fn keep(&self, page: &Page, kept: impl Fn(&PageWatch) -> bool) {
        let place = page.place();
        for watch in page.watches().into_iter().filter(|watch| !kept(watch)) {
            if let Some(owner) = owner(page.key(), &place, watch.level) {
                self.unfollow(page, owner, watch.path);
            }
        }
    }

    /// It watches nothing more on this node.
    pub fn leave(&self, page: &Page) {
        page.unwatch_all();
        self.states.leave(page.key());
    }

    /// A page has come here with what it watches.
    pub(super) fn arrived(&self, page: &Page) {
        let place = page.place();
        for watch in page.watches() {
            if let Some(owner) = owner(page.key(), &place, watch.level) {
                self.states.follow_on(owner, watch.path, page.key(), watch.revision);
            }
        }
    }

    /// It has gone to another node, which follows for it from here on.
    pub(super) fn departed(&self, page: Key) {
        self.states.leave(page);
    }

    /// News of the feed: encoded once for all pages that watch the same.
    pub fn tell(&self, delivery: &TreeNotification) {
        let tail = FrameBody::data(delivery);
        let revision = match &delivery.news {
            TreeUpdate::Snapshot { revision, .. } | TreeUpdate::Changed { revision, .. } => Some(*revision),
            TreeUpdate::Removed => None,
        };
        self.hub.each(&delivery.to, |page| {
            page.deliver_update(delivery.owner.level(), &delivery.path, revision, &tail);
        });
        self.listeners.tell(delivery);
    }
}
