//! The users that this worker was chosen for and found another owner of.
//!
//! Owns: when this worker looks at such a user again, because the owner may have forgotten the user. Never: who owns a
//! user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pagewire_cluster::clock;

/// Users of other living workers, each with a time on the boot clock of this process.
#[derive(Debug, Default)]
pub(crate) struct ForeignUsers(Mutex<HashMap<Arc<str>, Duration>>);

impl ForeignUsers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a user, to look again after this time.
    pub(crate) fn put(&self, user: Arc<str>, pause: Duration) {
        self.lock().insert(user, clock::boot() + pause);
    }

    /// Returns whether it is too early to look at a user again.
    pub(crate) fn has(&self, user: &str) -> bool {
        self.lock().get(user).is_some_and(|until| clock::boot() < *until)
    }

    /// Removes a user, because the owner has released it.
    pub(crate) fn remove(&self, user: &str) {
        self.lock().remove(user);
    }

    /// Removes and returns the users to look at again now.
    pub(crate) fn take_due(&self) -> Vec<Arc<str>> {
        let now = clock::boot();
        self.lock().extract_if(|_, until| *until <= now).map(|(user, _)| user).collect()
    }

    /// Removes all users, because the living workers have changed.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}
