//! The work that runs in a worker, by id.
//!
//! Owns: which jobs and calls run here, how one of them is cancelled, and which jobs were dropped without an end. Never:
//! claims (`claim`), or slots.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;
use tokio::sync::watch;

/// The work that runs in a worker.
#[derive(Debug, Default)]
pub(crate) struct RunningWork {
    running: Mutex<HashMap<Key, Arc<watch::Sender<bool>>>>,
    /// Jobs that began here and were dropped without an end, until their claims are given back.
    dropped: Mutex<HashSet<Key>>,
}

/// Work that runs here and can be cancelled, or a job with a claim that is being changed here.
pub(crate) struct RunningGuard {
    id: Key,
    work: Arc<RunningWork>,
    pub(crate) cancel: Arc<watch::Sender<bool>>,
    /// Whether a handler has begun and its end is not written yet.
    begun: bool,
}

impl RunningWork {
    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<watch::Sender<bool>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers work under an id. Returns `None` when the id is already registered.
    pub(crate) fn begin(self: &Arc<Self>, id: Key) -> Option<RunningGuard> {
        let cancel = Arc::new(watch::Sender::new(false));
        match self.running().entry(id) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(cancel.clone())),
        }
        Some(RunningGuard { id, work: self.clone(), cancel, begun: false })
    }

    /// Returns whether work of this id is registered.
    pub(crate) fn has(&self, id: Key) -> bool {
        self.running().contains_key(&id)
    }

    /// Cancels the work of an id. Returns `false` when it does not run here.
    pub(crate) fn cancel(&self, id: Key) -> bool {
        let running = self.running();
        let found = running.get(&id);
        if let Some(cancel) = found {
            cancel.send_replace(true);
        }
        found.is_some()
    }

    /// Returns whether a job began here and was dropped without an end.
    pub(crate) fn was_dropped(&self, job: Key) -> bool {
        self.dropped().contains(&job)
    }

    /// Forgets that a job was dropped, after its claim was given back.
    pub(crate) fn forget_dropped(&self, job: Key) {
        self.dropped().remove(&job);
    }
}

impl RunningGuard {
    /// Marks the handler as begun.
    pub(crate) fn begun(&mut self) {
        self.begun = true;
    }

    /// Marks the end as written, or the job as held by another worker.
    pub(crate) fn over(&mut self) {
        self.begun = false;
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        if self.begun {
            self.work.dropped().insert(self.id);
        }
        self.work.running().remove(&self.id);
    }
}
