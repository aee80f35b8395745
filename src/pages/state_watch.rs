//! Watches of pages on state trees: the path from the feed to outboxes.
//!
//! Owns: which pages are notified of an update, and that a page which moves continues at its last revision. Never:
//! trees, or the permission to watch them.

mod stream;

use std::sync::Arc;

use pagewire_cluster::id::Key;
use pagewire_cluster::id::{Entity, Level};
use pagewire_cluster::registry::View;
use pagewire_cluster::state::{Path, StateStore, TreeNotification, TreeUpdate};

use self::stream::Listeners;
pub use self::stream::WatchStream;
use super::hub::Hub;
use super::page::{Membership, Page, PageWatch};
use crate::protocol::FrameBody;

/// The owner of a page's tree at a level; `None` for the user level of an anonymous page.
pub fn owner(page: Key, place: &Membership, level: Level) -> Option<Entity> {
    Some(match level {
        Level::User => Entity::User(place.user.clone()?),
        Level::Connection => Entity::Connection(place.connection.key),
        Level::Session => Entity::Session(place.session.key),
        Level::Page => Entity::Page(page),
    })
}

/// Whether the owner of a tree exists. Users always exist.
pub fn exists(view: &View, owner: &Entity) -> bool {
    match owner {
        Entity::User(_) => true,
        Entity::Connection(connection) => view.connection(*connection).is_some(),
        Entity::Session(session) => view.session(*session).is_some(),
        Entity::Page(page) => view.page(*page).is_some(),
    }
}

/// Delivers updates of state trees to the pages of this node that watch them. Cheap to clone.
#[derive(Clone)]
pub struct StateWatchers {
    hub: Arc<Hub>,
    states: StateStore,
    listeners: Listeners,
}

impl StateWatchers {
    /// A [`StateWatchers`] without watches.
    pub fn new(hub: Arc<Hub>, states: StateStore) -> Self {
        Self { hub, states, listeners: Listeners::default() }
    }

    /// The pages that receive updates.
    pub(super) fn hub(&self) -> Arc<Hub> {
        self.hub.clone()
    }

    /// Starts a watch of a page: the page receives a snapshot, then changes. A path that the page already watches gets
    /// another snapshot. `false` when the page has the maximum number of watches.
    pub fn follow(&self, page: &Page, owner: Entity, path: Path) -> bool {
        let followed = page.watch(PageWatch::new(owner.level(), path.clone()));
        if followed {
            self.states.follow(owner, path, page.key());
        }
        followed
    }

    /// Follows a path for a receiver that is not a page.
    pub fn listen(&self, owner: Entity, path: Path) -> WatchStream {
        let listener = self.listeners.add(&self.states);
        self.states.follow(owner, path, listener.key());
        listener
    }

    /// Stops a watch of a page.
    pub fn unfollow(&self, page: &Page, owner: Entity, path: Path) {
        page.unwatch(owner.level(), &path);
        self.states.unfollow(owner, path, page.key());
    }

    /// Stops all watches of a page except those that `kept` selects.
    pub fn keep(&self, page: &Page, kept: impl Fn(&PageWatch) -> bool) {
        let place = page.place();
        for watch in page.watches().into_iter().filter(|watch| !kept(watch)) {
            if let Some(owner) = owner(page.key(), &place, watch.level) {
                self.unfollow(page, owner, watch.path);
            }
        }
    }

    /// Stops all watches of a page on this node.
    pub fn leave(&self, page: &Page) {
        page.unwatch_all();
        self.states.leave(page.key());
    }

    /// Continues the watches of a page that has come to this node.
    pub(super) fn arrived(&self, page: &Page) {
        let place = page.place();
        for watch in page.watches() {
            if let Some(owner) = owner(page.key(), &place, watch.level) {
                self.states.follow_on(owner, watch.path, page.key(), watch.revision);
            }
        }
    }

    /// Stops following for a page that has moved to another node, which follows for it from here on.
    pub(super) fn remove_page(&self, page: Key) {
        self.states.leave(page);
    }

    /// Delivers an update of the feed. The frame is encoded once for all pages that watch the same path.
    pub fn publish(&self, delivery: &TreeNotification) {
        let tail = FrameBody::data(delivery);
        let revision = match &delivery.update {
            TreeUpdate::Snapshot { revision, .. } | TreeUpdate::Changed { revision, .. } => Some(*revision),
            TreeUpdate::Removed => None,
        };
        self.hub.each(&delivery.to, |page| {
            page.deliver_update(delivery.owner.level(), &delivery.path, revision, &tail);
        });
        self.listeners.publish(delivery);
    }
}
