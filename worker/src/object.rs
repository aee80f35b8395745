//! The objects of resident pages, as runtimes see them.
//!
//! Owns: what a runtime is asked to do with an object, and the seat by which a worker finds the executor of an object again.
//! Never: which worker has an object (`residence`), or its row.

use std::sync::{Arc, OnceLock};

use pagewire_cluster::id::Key;
use pagewire_cluster::wire::MoveReason;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

/// What happens to an object.
#[derive(Debug, Clone)]
pub enum ObjectStep {
    /// Its method is called.
    Call,
    /// It is made, because its page has opened.
    Open,
    /// It is made again, from what the one before it has kept, or from its state trees.
    Restore {
        /// Why.
        why: MoveReason,
        /// Raw JSON.
        saved: Option<Box<RawValue>>,
    },
    /// Its page has lost its socket.
    Away,
    /// Its page has a socket again.
    Back,
    /// It returns what it keeps, and ends here.
    Save {
        /// Why.
        why: MoveReason,
    },
    /// Its page has ended.
    Close,
}

/// Work for an object.
#[derive(Debug, Clone)]
pub struct ObjectWork {
    /// What happens to it.
    pub step: ObjectStep,
    /// Where it lives.
    pub seat: Seat,
}

/// A message of a runtime, or of another worker, about the object of a page.
#[derive(Debug)]
pub enum ObjectMessage {
    /// The executor of the object has died.
    Died(Seat),
    /// The object has to leave its executor, or this worker.
    Leave {
        /// The page.
        page: Key,
        /// The seat that it has to leave; `None` for any.
        seat: Option<Seat>,
        /// Why; `None` when the page has ended.
        why: Option<MoveReason>,
        /// Receives whether there was an object, when it has left.
        left: oneshot::Sender<bool>,
    },
    /// An executor needs too much memory: a part of its objects has to leave, those first that were used longest ago.
    Shrink {
        /// The number of the executor.
        executor: u64,
    },
    /// All objects have to leave.
    LeaveAll {
        /// Receives a message when they have left.
        left: oneshot::Sender<()>,
    },
}

/// The executor that an object lives in, from its opening on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Seat(Arc<SeatInner>);

#[derive(Debug)]
struct SeatInner {
    page: Key,
    executor: OnceLock<u64>,
    messages: mpsc::UnboundedSender<ObjectMessage>,
}

impl Seat {
    /// Creates the seat of an object that has no executor yet. `messages` receives what happens to its executor.
    pub fn new(page: Key, messages: mpsc::UnboundedSender<ObjectMessage>) -> Self {
        Self(Arc::new(SeatInner { page, executor: OnceLock::new(), messages }))
    }

    /// Returns the page.
    pub fn page(&self) -> Key {
        self.0.page
    }

    /// Returns the number of the executor, if it has one.
    pub fn executor(&self) -> Option<u64> {
        self.0.executor.get().copied()
    }

    /// Sets the number of the executor.
    pub fn take(&self, executor: u64) {
        // an error means that it has one
        let _ = self.0.executor.set(executor);
    }

    /// Returns whether both are the same seat.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends a message to the worker that has the object.
    pub fn send(&self, message: ObjectMessage) {
        // an error means that the worker has ended
        let _ = self.0.messages.send(message);
    }

    /// Reports that the executor has died.
    pub fn died(&self) {
        self.send(ObjectMessage::Died(self.clone()));
    }
}
