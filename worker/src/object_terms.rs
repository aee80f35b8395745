//! The pages whose objects live at a worker, each with its term.
//!
//! Owns: which objects of this worker may have effects. Never: the objects (`residence`), or the check of an effect (`effects`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Key;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ObjectTerms(Mutex<HashMap<Key, u64>>);

impl ObjectTerms {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the object of a page lives here since this term.
    pub(crate) fn begin(&self, page: Key, term: u64) {
        self.lock().insert(page, term);
    }

    /// Records that the object of a page does not live here any more.
    pub(crate) fn end(&self, page: Key) {
        self.lock().remove(&page);
    }

    /// Returns the term of the object of a page, if it lives here.
    pub(crate) fn of(&self, page: Key) -> Option<u64> {
        self.lock().get(&page).copied()
    }

    /// Returns how many objects live here.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}
