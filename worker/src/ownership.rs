//! Events of the ownership of users.
//!
//! Owns: the types, and who receives them. Never: the turn rows (`user_turns`).

use std::sync::Arc;

use pagewire_cluster::worker::WorkerId;
use tokio::sync::broadcast;

/// Number of events that a slow receiver may lag behind.
const BACKLOG: usize = 1024;

/// Why a worker does not own a user any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    /// The user is assigned to another worker.
    Moved,
    /// The user had no work for a while.
    Idle,
    /// The worker has lost its lease or the turn row of the user.
    Lost,
}

/// A change of the ownership of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnershipEvent {
    /// This worker owns the user.
    Owned {
        /// The user.
        user: Arc<str>,
        /// Term of the ownership. A later owner of the user has a greater one.
        term: u64,
        /// The owner before, if it has not released the user.
        after: Option<WorkerId>,
    },
    /// This worker does not own the user any more.
    Released {
        /// The user.
        user: Arc<str>,
        /// Why.
        why: ReleaseReason,
    },
}

/// Sends the events to all receivers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnershipEvents(broadcast::Sender<OwnershipEvent>);

impl Default for OwnershipEvents {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl OwnershipEvents {
    /// Receives the events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<OwnershipEvent> {
        self.0.subscribe()
    }

    pub(crate) fn send(&self, event: OwnershipEvent) {
        // an error means that there is no receiver
        let _ = self.0.send(event);
    }
}
