//! Streams of tree updates for receivers that are not pages: programs that watch through the server API.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pagewire_cluster::id::Key;
use pagewire_cluster::state::{StateStore, TreeNotification};
use tokio::sync::mpsc;

use crate::protocol::encode_update;

/// The maximum number of updates that wait for a listener. A slower listener is disconnected.
const WAITING: usize = 256;
/// The maximum bytes of waiting updates: a few whole trees. An update of any size is accepted when none waits.
const WAITING_BYTES: usize = 1024 * 1024;

/// The sending side of one listener's stream.
struct Road {
    news: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// All listeners of this node.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<HashMap<Key, Road>>>);

/// A stream of tree updates. It follows the tree until it is dropped.
pub struct WatchStream {
    key: Key,
    all: Listeners,
    states: StateStore,
    news: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Road {
    /// Queues an update; `false` when the listener is too slow.
    fn send(&self, news: &Bytes) -> bool {
        let before = self.waiting.fetch_add(news.len(), Ordering::Relaxed);
        let fits = before == 0 || before + news.len() <= WAITING_BYTES;
        fits && self.news.try_send(news.clone()).is_ok()
    }
}

impl Listeners {
    /// Each change leaves the map consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Road>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, states: &StateStore) -> WatchStream {
        let (key, (sender, news)) = (Key::random(), mpsc::channel(WAITING));
        let waiting = Arc::new(AtomicUsize::new(0));
        self.lock().insert(key, Road { news: sender, waiting: waiting.clone() });
        WatchStream { key, all: self.clone(), states: states.clone(), news, waiting }
    }

    pub(super) fn tell(&self, delivery: &TreeNotification) {
        let mut all = self.lock();
        if all.is_empty() {
            return;
        }
        let mut encoded = None;
        for key in delivery.to.iter() {
            // removing the sender ends the channel for the receiver
            if all
                .get(key)
                .is_some_and(|road| !road.send(encoded.get_or_insert_with(|| encode_update(delivery))))
            {
                all.remove(key);
            }
        }
    }
}

impl WatchStream {
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Returns the next update as the JSON object of [`encode_update`]; `None` when the listener was too
    /// slow.
    pub async fn next(&mut self) -> Option<Bytes> {
        let news = self.news.recv().await?;
        self.waiting.fetch_sub(news.len(), Ordering::Relaxed);
        Some(news)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
        self.states.leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::engine::{Engine, Memory};
    use pagewire_cluster::id::Entity;
    use pagewire_cluster::state::{Path, TreeUpdate};
    use serde_json::Value;

    use super::*;

    fn tree(bytes: usize, to: &WatchStream) -> TreeNotification {
        let value = Some(Value::String("x".repeat(bytes)));
        let (owner, path, to) = (Entity::User("ann".into()), Path::ROOT, [to.key].into());
        TreeNotification { owner, path, to, news: TreeUpdate::Snapshot { revision: 1, value } }
    }

    #[tokio::test]
    async fn a_listener_that_does_not_read_holds_a_bounded_amount_and_finds_the_end_behind_it() {
        let states = StateStore::new(&Engine::Memory(Memory::new()));
        let listeners = Listeners::default();
        let mut listener = listeners.add(&states);
        for _ in 0..=WAITING {
            listeners.tell(&tree(250_000, &listener));
        }
        let mut held = 0;
        while let Some(news) = listener.next().await {
            held += news.len();
        }
        assert!((250_000..=WAITING_BYTES).contains(&held), "{held} bytes waited");
    }

    #[tokio::test]
    async fn a_listener_that_reads_is_told_everything_however_large() {
        let states = StateStore::new(&Engine::Memory(Memory::new()));
        let listeners = Listeners::default();
        let mut listener = listeners.add(&states);
        for bytes in [10, 2 * WAITING_BYTES, 250_000, 250_000] {
            listeners.tell(&tree(bytes, &listener));
            assert!(listener.next().await.is_some_and(|news| news.len() > bytes));
        }
    }
}
