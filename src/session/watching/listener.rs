//! Who follows a tree without being a page: a program that watches over the server API.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use pagewire_cluster::state::{Delivery, States};
use tokio::sync::mpsc;

/// What may wait for a listener; one that is slower is cut off.
const WAITING: usize = 256;

/// All listeners of this node.
#[derive(Clone, Default)]
pub(super) struct Listeners(Arc<Mutex<HashMap<Key, mpsc::Sender<Delivery>>>>);

/// One that follows until it is dropped.
pub struct Listener {
    key: Key,
    all: Listeners,
    states: States,
    news: mpsc::Receiver<Delivery>,
}

impl Listeners {
    /// Each change leaves the map whole, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, mpsc::Sender<Delivery>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, states: &States) -> Listener {
        let (key, (sender, news)) = (Key::random(), mpsc::channel(WAITING));
        self.lock().insert(key, sender);
        Listener { key, all: self.clone(), states: states.clone(), news }
    }

    pub(super) fn tell(&self, delivery: &Delivery) {
        let mut all = self.lock();
        if all.is_empty() {
            return;
        }
        for key in delivery.to.iter() {
            // the receiver finds the end of the channel
            if all.get(key).is_some_and(|listener| listener.try_send(delivery.clone()).is_err()) {
                all.remove(key);
            }
        }
    }
}

impl Listener {
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// What is new; `None` when it was too slow.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.news.recv().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
        self.states.leave(self.key);
    }
}
