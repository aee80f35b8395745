//! Page rows, idle rows and the view.
//!
//! Owns: the rows in the bucket `pages`, and this node's view of them and of the living nodes, updated by two meta
//! watches. Never: sockets, or which client may see which rows. There is no heartbeat per page: a row is valid while
//! the lease of its node is.

mod adopted;
mod entries;
mod holder_counts;
mod holders;
mod idle;
mod idle_rows;
mod idle_writer;
mod key_counts;
mod members;
mod owner;
mod presence;
mod queries;
mod row;
mod rows;
mod stats;
mod sweep;
mod view;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::{broadcast, watch as channel};

pub use entries::PageEntry;
pub use idle::{Expirable, IdleRow, Lifetimes, PageRemoval};
pub use owner::OwnerClaim;
pub use presence::{ChangeKind, PresenceChange};
pub use queries::{ConnectionSeen, SessionSeen, UserSeen, leader_in};
pub use row::PageRow;
pub use rows::RemovalKind;
pub use stats::{Counts, LaneStats, NodeStats, Stats};
pub use view::View;

use self::owner::OwnerRow;
use crate::clock::ClusterClock;
use crate::engine::{Bucket, Consistency, Engine, Kv, Unavailable, Watch, WatchEvent, WatchMode};
use crate::id::{Key, NodeNumber};
use crate::lease::NodeRow;
use crate::subject::{node_key, page_key};

/// Maximum number of unread events of a receiver of [`Registry::presence_events`].
const MAX_UNREAD_EVENTS: usize = 1024;

/// A change, and when this node saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceEvent {
    /// The change.
    pub change: PresenceChange,
    /// Time in milliseconds since the Unix epoch.
    pub at: u64,
}

/// The registry of one process. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    rows: Kv,
    nodes: Kv,
    view: Arc<RwLock<View>>,
    lifetimes: Lifetimes,
    /// The clock by which rows become due.
    pub clock: ClusterClock,
    events: broadcast::Sender<PresenceEvent>,
    /// Revision of the last row that the view shows.
    applied: channel::Sender<u64>,
}

/// The content of a page's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowLookup {
    /// No row exists.
    Nothing,
    /// The row with the holder of the page, and its revision.
    Page(Box<PageRow>, u64),
    /// The page was unregistered, and its client may not have been notified yet.
    Unregistered,
}

/// An event that a node must handle at once.
#[derive(Debug)]
pub enum RegistryEvent {
    /// The row of a page was written, with this revision.
    Page(Key, Box<PageRow>, u64),
    /// A page was unregistered by a row of this revision: its holder must close it.
    Unregistered(Key, u64),
    /// A session or connection is ending: no page can join, and existing pages must be closed.
    Ending(Expirable),
    /// An anonymous connection was claimed by this user: its anonymous pages must get the user.
    Owned(Key, String),
}

/// Which rows a watch event belongs to.
enum WatchKind {
    Pages,
    Nodes,
}

impl Registry {
    /// Creates an empty view; [`Registry::follow`] fills it.
    pub fn new(engine: &Engine, lifetimes: Lifetimes) -> Self {
        let (rows, nodes) = (engine.kv(Bucket::Pages), engine.kv(Bucket::Nodes));
        let (events, _) = broadcast::channel(MAX_UNREAD_EVENTS);
        let (clock, applied) = (engine.clock(), channel::Sender::new(0));
        Self { rows, nodes, view: Arc::default(), lifetimes, clock, events, applied }
    }

    /// Subscribes to presence events from now on. A slow receiver gets the number of events that it has missed.
    pub fn presence_events(&self) -> broadcast::Receiver<PresenceEvent> {
        self.events.subscribe()
    }

    /// Returns the current view under a read lock. Hold the lock only for a short time.
    pub fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the view shows every row up to this revision.
    pub async fn reached(&self, rev: u64) {
        let mut applied = self.applied.subscribe();
        // never an error: the sender is here
        let _ = applied.wait_for(|applied| *applied >= rev).await;
    }

    /// Resolves when the view shows the session or connection.
    pub async fn shown(&self, of: Expirable) {
        let mut applied = self.applied.subscribe();
        while !self.view().shows(of) {
            // never an error: the sender is here
            let _ = applied.changed().await;
        }
    }

    /// Starts both watches and returns when the view shows every row that existed.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn follow(&self) -> Result<Following, Unavailable> {
        let mut nodes = self.nodes.watch(node_key::LEASES, WatchMode::Meta).await?;
        let mut pages = self.rows.watch(page_key::ALL, WatchMode::Meta).await?;
        let (mut live_nodes, mut live_pages) = (false, false);
        while !(live_nodes && live_pages) {
            tokio::select! {
                Some(event) = nodes.next(), if !live_nodes => live_nodes = self.apply(&WatchKind::Nodes, event),
                Some(event) = pages.next(), if !live_pages => live_pages = self.apply(&WatchKind::Pages, event),
                else => return Err(Unavailable),
            }
        }
        Ok(Following { registry: self.clone(), nodes, pages })
    }

    /// Applies an event to the view. Returns `true` for [`WatchEvent::Live`].
    fn apply(&self, feed: &WatchKind, event: WatchEvent) -> bool {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let changes = match (feed, event) {
            (_, WatchEvent::Live) => return true,
            (WatchKind::Pages, event) => {
                if let WatchEvent::Put(entry) = &event {
                    view.applied = entry.rev;
                    self.applied.send_replace(entry.rev);
                }
                apply_row(&mut view, event)
            }
            (WatchKind::Nodes, WatchEvent::Put(entry)) => {
                match (node_of(&entry.key), NodeRow::decode(&entry.meta)) {
                    (Some(number), Some(row)) => view.put_node(number, row.epoch_at(entry.rev), row),
                    _ => Vec::new(),
                }
            }
            (WatchKind::Nodes, WatchEvent::Delete { key, .. }) => {
                node_of(&key).map(|number| view.delete_node(number)).unwrap_or_default()
            }
        };
        // while the view is locked, so that events are sent in the order of the changes
        self.publish(changes);
        false
    }

    fn publish(&self, changes: Vec<PresenceChange>) {
        if changes.is_empty() || self.events.receiver_count() == 0 {
            return;
        }
        let at = self.clock.now_ms();
        for change in changes {
            // an error means that there is no receiver
            let _ = self.events.send(PresenceEvent { change, at });
        }
    }

    /// Returns the row of a page and its revision, read from the latest state.
    pub async fn row(&self, page: Key) -> Result<Option<(PageRow, u64)>, Unavailable> {
        match self.find(page).await? {
            RowLookup::Page(row, rev) => Ok(Some((*row, rev))),
            RowLookup::Nothing | RowLookup::Unregistered => Ok(None),
        }
    }

    /// Returns the content of a page's row, read from the latest state.
    pub async fn find(&self, page: Key) -> Result<RowLookup, Unavailable> {
        let Some(entry) = self.rows.get(&page_key::page(page), Consistency::Latest).await? else {
            return Ok(RowLookup::Nothing);
        };
        Ok(match PageRow::decode(&entry.meta) {
            Some(row) => RowLookup::Page(Box::new(row), entry.rev),
            None if PageRow::is_unregistered(&entry.meta) => RowLookup::Unregistered,
            None => RowLookup::Nothing,
        })
    }
}

fn apply_row(view: &mut View, event: WatchEvent) -> Vec<PresenceChange> {
    match event {
        WatchEvent::Put(entry) => match Subject::of(&entry.key) {
            Some(Subject::Page(page)) => match PageRow::decode(&entry.meta) {
                Some(row) => view.put_page(page, entry.rev, row),
                None if PageRow::is_unregistered(&entry.meta) => view.delete_page(page),
                None => {
                    tracing::warn!(key = entry.key, "page row of an unknown shape ignored");
                    Vec::new()
                }
            },
            Some(Subject::Lasting(of)) => {
                match IdleRow::decode(&entry.meta).filter(|row| row.of() == of) {
                    Some(row) => view.put_idle(entry.rev, row),
                    None => tracing::warn!(key = entry.key, "idle row of an unknown shape ignored"),
                }
                Vec::new()
            }
            // read on request, not kept in the view
            Some(Subject::Owner(_)) | None => Vec::new(),
        },
        WatchEvent::Delete { key, .. } => match Subject::of(&key) {
            Some(Subject::Page(page)) => view.delete_page(page),
            Some(Subject::Lasting(of)) => view.delete_idle(of),
            Some(Subject::Owner(_)) | None => Vec::new(),
        },
        WatchEvent::Live => Vec::new(),
    }
}

/// Both watches, live.
pub struct Following {
    registry: Registry,
    nodes: Watch,
    pages: Watch,
}

impl Following {
    /// Keeps the view current and calls `on_event` with each event that a node must handle; ends only when the engine
    /// is gone.
    pub async fn run(mut self, mut on_event: impl FnMut(RegistryEvent)) {
        loop {
            tokio::select! {
                Some(event) = self.nodes.next() => self.registry.apply(&WatchKind::Nodes, event),
                Some(event) = self.pages.next() => {
                    // before the view shows it, so that a node that sees a row has already received its event
                    to_event(&event).into_iter().for_each(&mut on_event);
                    self.registry.apply(&WatchKind::Pages, event)
                }
                else => return,
            };
        }
    }
}

fn to_event(event: &WatchEvent) -> Option<RegistryEvent> {
    let WatchEvent::Put(entry) = event else { return None };
    match Subject::of(&entry.key)? {
        Subject::Page(page) => match PageRow::decode(&entry.meta) {
            Some(row) => Some(RegistryEvent::Page(page, Box::new(row), entry.rev)),
            None => {
                PageRow::is_unregistered(&entry.meta).then_some(RegistryEvent::Unregistered(page, entry.rev))
            }
        },
        Subject::Lasting(of) => {
            IdleRow::decode(&entry.meta).filter(|row| row.ending).map(|_| RegistryEvent::Ending(of))
        }
        Subject::Owner(connection) => {
            OwnerRow::decode(&entry.meta).map(|row| RegistryEvent::Owned(connection, row.owner))
        }
    }
}

/// The object of a row of the bucket.
enum Subject {
    Page(Key),
    Lasting(Expirable),
    Owner(Key),
}

impl Subject {
    fn of(key: &str) -> Option<Self> {
        let rest = |prefix: &str| key.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
        None.or_else(|| rest(page_key::PAGES).map(Self::Page))
            .or_else(|| rest(page_key::SESSIONS).map(|key| Self::Lasting(Expirable::Session(key))))
            .or_else(|| rest(page_key::CONNECTIONS).map(|key| Self::Lasting(Expirable::Connection(key))))
            .or_else(|| rest(page_key::OWNERS).map(Self::Owner))
    }
}

fn node_of(key: &str) -> Option<NodeNumber> {
    key.strip_prefix(node_key::LEASES)?.parse().ok()
}

#[cfg(test)]
mod tests;
