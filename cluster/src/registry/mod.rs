//! Page rows and the view.
//!
//! Owns: the rows in the bucket `pages`, and this node's view of them and of the living nodes, fed by two meta
//! watches. Never: sockets, or who may see what. No heartbeat per page: a row lives while its node's lease does.

mod row;
mod view;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

pub use row::Row;
pub use view::{NodeStats, Seen, Stats, View};

use crate::engine::{
    Bucket, Consistency, Down, Engine, Expect, Kv, Op, Put, Settled, Watch, WatchEvent, WatchMode, WriteError,
};
use crate::id::{Key, NodeNumber};
use crate::lease::NodeRow;
use crate::subject::{node_key, page_key};

/// The registry of one process. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    rows: Kv,
    nodes: Kv,
    view: Arc<RwLock<View>>,
}

/// Which rows a watch event is about.
enum Feed {
    Pages,
    Nodes,
}

impl Registry {
    /// An empty view; call [`Registry::follow`] to fill it.
    pub fn new(engine: &Engine) -> Self {
        Self { rows: engine.kv(Bucket::Pages), nodes: engine.kv(Bucket::Nodes), view: Arc::default() }
    }

    /// The view as it is now. Hold it shortly.
    pub fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts both watches and returns when the view shows everything that stood.
    pub async fn follow(&self) -> Result<Following, Down> {
        let mut nodes = self.nodes.watch(node_key::LEASES, WatchMode::Meta).await?;
        let mut pages = self.rows.watch(page_key::PAGES, WatchMode::Meta).await?;
        let (mut live_nodes, mut live_pages) = (false, false);
        while !(live_nodes && live_pages) {
            tokio::select! {
                Some(event) = nodes.next(), if !live_nodes => live_nodes = self.apply(&Feed::Nodes, event),
                Some(event) = pages.next(), if !live_pages => live_pages = self.apply(&Feed::Pages, event),
                else => return Err(Down),
            }
        }
        Ok(Following { registry: self.clone(), nodes, pages })
    }

    /// `true` for [`WatchEvent::Live`].
    fn apply(&self, feed: &Feed, event: WatchEvent) -> bool {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        match (feed, event) {
            (_, WatchEvent::Live) => return true,
            (Feed::Pages, WatchEvent::Put(entry)) => match (page_of(&entry.key), Row::decode(&entry.meta)) {
                (Some(key), Some(row)) => view.put_page(key, entry.rev, row),
                _ => tracing::warn!(key = entry.key, "page row of an unknown shape ignored"),
            },
            (Feed::Pages, WatchEvent::Delete { key, .. }) => {
                if let Some(key) = page_of(&key) {
                    view.delete_page(key);
                }
            }
            (Feed::Nodes, WatchEvent::Put(entry)) => {
                if let (Some(number), Some(row)) = (node_of(&entry.key), NodeRow::decode(&entry.meta)) {
                    let epoch = row.epoch_at(entry.rev);
                    view.put_node(number, epoch, row);
                }
            }
            (Feed::Nodes, WatchEvent::Delete { key, .. }) => {
                if let Some(number) = node_of(&key) {
                    view.delete_node(number);
                }
            }
        }
        false
    }

    /// The row of a page and its revision, as acknowledged last.
    pub async fn row(&self, page: Key) -> Result<Option<(Row, u64)>, Down> {
        let entry = self.rows.get(&page_key::page(page), Consistency::Latest).await?;
        Ok(entry.and_then(|entry| Row::decode(&entry.meta).map(|row| (row, entry.rev))))
    }

    /// Writes a row if the expectation holds; the new revision. An unknown outcome is resolved by reading.
    pub async fn write(&self, page: Key, row: &Row, expect: Expect) -> Result<u64, WriteError> {
        let (key, op) = (page_key::page(page), Op::random());
        let put = Put { key: key.clone(), value: Bytes::new(), meta: row.encode(), expect, ttl: None, op };
        match self.rows.put(put).await {
            Err(WriteError::Unknown) => match self.rows.settle(&key, op).await {
                Ok(Settled::Written { rev }) => Ok(rev),
                _ => Err(WriteError::Unknown),
            },
            outcome => outcome,
        }
    }

    /// Deletes a row if it is still at that revision.
    pub async fn remove(&self, page: Key, rev: u64) -> Result<(), WriteError> {
        self.rows.delete(&page_key::page(page), Expect::Rev(rev)).await
    }

    /// Deletes rows of dead holders, one by one and only at the revision seen; how many were deleted. Safe to run
    /// anywhere at any time, worth running on one node.
    pub async fn sweep(&self) -> usize {
        let dead = self.view().dead();
        let mut swept = 0;
        for (page, rev) in dead {
            match self.remove(page, rev).await {
                Ok(()) => swept += 1,
                Err(WriteError::Conflict { .. }) => {}
                Err(_) => break,
            }
        }
        swept
    }
}

/// Both watches, live.
pub struct Following {
    registry: Registry,
    nodes: Watch,
    pages: Watch,
}

impl Following {
    /// Keeps the view current and shows every row as it is written; ends only when the engine is gone.
    pub async fn run(mut self, mut written: impl FnMut(Key, &Row)) {
        loop {
            tokio::select! {
                Some(event) = self.nodes.next() => self.registry.apply(&Feed::Nodes, event),
                Some(event) = self.pages.next() => {
                    if let WatchEvent::Put(entry) = &event
                        && let (Some(page), Some(row)) = (page_of(&entry.key), Row::decode(&entry.meta))
                    {
                        written(page, &row);
                    }
                    self.registry.apply(&Feed::Pages, event)
                }
                else => return,
            };
        }
    }
}

fn page_of(key: &str) -> Option<Key> {
    key.strip_prefix(page_key::PAGES)?.parse().ok()
}

fn node_of(key: &str) -> Option<NodeNumber> {
    key.strip_prefix(node_key::LEASES)?.parse().ok()
}
