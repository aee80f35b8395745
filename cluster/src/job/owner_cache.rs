//! Caches the assigned worker of a user from the last call, which saves a read of the turn row.
//!
//! Owns: at most [`MAX_CACHED_OWNERS`] entries, which may be stale. Never: the authoritative owner. A called worker
//! serves a user only while it owns the user, and otherwise returns the worker that does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::Key;

/// More entries than a process has users that call at the same time; above this number, the cache is cleared and all
/// users are looked up again.
const MAX_CACHED_OWNERS: usize = 16 * 1024;

/// Workers by the key of the turn row. Cheap to clone; all clones share one cache.
#[derive(Clone, Default)]
pub struct OwnerCache(Arc<Mutex<HashMap<String, Key>>>);

impl OwnerCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the worker that replied last.
    pub fn get(&self, turn: &str) -> Option<Key> {
        self.lock().get(turn).copied()
    }

    /// Stores the worker that has replied.
    pub fn remember(&self, turn: String, worker: Key) {
        let mut guesses = self.lock();
        if guesses.len() >= MAX_CACHED_OWNERS && !guesses.contains_key(&turn) {
            guesses.clear();
        }
        guesses.insert(turn, worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_bounded_and_the_newest_one_counts() {
        let owners = OwnerCache::default();
        for user in 0..2 * MAX_CACHED_OWNERS {
            owners.remember(user.to_string(), Key::from_bits(1));
            assert!(owners.lock().len() <= MAX_CACHED_OWNERS);
        }
        let last = (2 * MAX_CACHED_OWNERS - 1).to_string();
        owners.remember(last.clone(), Key::from_bits(2));
        assert_eq!(owners.get(&last), Some(Key::from_bits(2)));
        assert_eq!(owners.get("nobody"), None);
    }
}
