//! Calls that pages wait for, so that a page can take one back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use tokio::sync::Notify;

/// A page and its own id of a call, as it wrote it.
type Name = (Key, Box<str>);

/// The calls in flight of this node's pages.
#[derive(Default)]
pub struct InFlight(Mutex<HashMap<Name, Arc<Notify>>>);

/// A call in flight, until it is dropped.
pub(super) struct Flight {
    all: Arc<InFlight>,
    name: Name,
    cancel: Arc<Notify>,
}

impl InFlight {
    /// Each change leaves the map whole, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins. A client that uses an id twice can take back the later call only.
    pub(super) fn begin(self: &Arc<Self>, page: Key, frame: &str) -> Flight {
        let (name, cancel): (Name, _) = ((page, frame.into()), Arc::new(Notify::new()));
        self.lock().insert(name.clone(), cancel.clone());
        Flight { all: self.clone(), name, cancel }
    }

    /// Whether there was such a call.
    pub(super) fn cancel(&self, page: Key, frame: &str) -> bool {
        let calls = self.lock();
        let call = calls.get(&(page, Box::from(frame)));
        call.inspect(|call| call.notify_one()).is_some()
    }
}

impl Flight {
    /// Resolves when the page takes the call back.
    pub(super) async fn cancelled(&self) {
        self.cancel.notified().await;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut calls = self.all.lock();
        if calls.get(&self.name).is_some_and(|current| Arc::ptr_eq(current, &self.cancel)) {
            calls.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_can_be_taken_back_by_its_own_page_while_it_is_in_flight() {
        let (calls, ann, bob) = (Arc::new(InFlight::default()), Key::from_bits(1), Key::from_bits(2));
        let flight = calls.begin(ann, "7");
        assert!(!calls.cancel(bob, "7") && !calls.cancel(ann, "\"7\""));
        assert!(calls.cancel(ann, "7"));
        flight.cancelled().await;
        let again = calls.begin(ann, "7");
        drop(flight);
        assert!(calls.cancel(ann, "7"), "the later call stands");
        drop(again);
        assert!(!calls.cancel(ann, "7") && calls.lock().is_empty());
    }
}
