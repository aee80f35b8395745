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
struct ListenerQueue {
    update: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// All listeners of this node.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<HashMap<Key, ListenerQueue>>>);

/// A stream of tree updates. It follows the tree until it is dropped.
pub struct WatchStream {
    key: Key,
    all: Listeners,
    states: StateStore,
    update: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl ListenerQueue {
    /// Queues an update; `false` when the listener is too slow.
    fn send(&self, update: &Bytes) -> bool {
        let before = self.waiting.fetch_add(update.len(), Ordering::Relaxed);
        let fits = before == 0 || before + update.len() <= WAITING_BYTES;
        fits && self.update.try_send(update.clone()).is_ok()
    }
}

impl Listeners {
    /// Each change leaves the map consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, ListenerQueue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, states: &StateStore) -> WatchStream {
        let (key, (sender, update)) = (Key::random(), mpsc::channel(WAITING));
        let waiting = Arc::new(AtomicUsize::new(0));
        self.lock().insert(key, ListenerQueue { update: sender, waiting: waiting.clone() });
        WatchStream { key, all: self.clone(), states: states.clone(), update, waiting }
    }

    pub(super) fn publish(&self, delivery: &TreeNotification) {
        let mut all = self.lock();
        if all.is_empty() {
            return;
        }
        let mut encoded = None;
        for key in delivery.to.iter() {
            // removing the sender ends the channel for the receiver
            if all
                .get(key)
                .is_some_and(|queue| !queue.send(encoded.get_or_insert_with(|| encode_update(delivery))))
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
        let update = self.update.recv().await?;
        self.waiting.fetch_sub(update.len(), Ordering::Relaxed);
        Some(update)
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
        TreeNotification { owner, path, to, update: TreeUpdate::Snapshot { revision: 1, value } }
    }

    #[tokio::test]
    async fn a_listener_that_does_not_read_holds_a_bounded_amount_and_finds_the_end_behind_it() {
        let states = StateStore::new(&Engine::Memory(Memory::new()));
        let listeners = Listeners::default();
        let mut listener = listeners.add(&states);
        for _ in 0..=WAITING {
            listeners.publish(&tree(250_000, &listener));
        }
        let mut held = 0;
        while let Some(update) = listener.next().await {
            held += update.len();
        }
        assert!((250_000..=WAITING_BYTES).contains(&held), "{held} bytes waited");
    }

    #[tokio::test]
    async fn a_listener_that_reads_is_told_everything_however_large() {
        let states = StateStore::new(&Engine::Memory(Memory::new()));
        let listeners = Listeners::default();
        let mut listener = listeners.add(&states);
        for bytes in [10, 2 * WAITING_BYTES, 250_000, 250_000] {
            listeners.publish(&tree(bytes, &listener));
            assert!(listener.next().await.is_some_and(|update| update.len() > bytes));
        }
    }
}
