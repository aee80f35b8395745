//! What all clients have got, and the first thing that went wrong.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::sync::Notify;

/// Counts for one thread of clients.
#[derive(Default)]
pub(super) struct Tally {
    frames: Cell<u64>,
    bytes: Cell<u64>,
    goal: Cell<u64>,
    failure: RefCell<Option<String>>,
    changed: Notify,
}

impl Tally {
    /// A sequenced frame came.
    pub(super) fn frame(&self) {
        self.frames.set(self.frames.get() + 1);
        if self.frames.get() == self.goal.get() {
            self.changed.notify_one();
        }
    }

    /// Bytes came.
    pub(super) fn bytes(&self, more: usize) {
        self.bytes.set(self.bytes.get() + more as u64);
    }

    /// A client is of no use any more.
    pub(super) fn fail(&self, error: &io::Error) {
        self.failure.borrow_mut().get_or_insert_with(|| error.to_string());
        self.changed.notify_one();
    }

    /// Returns when that many frames have come in all, with the bytes; at once when a client fails.
    pub(super) async fn reach(&self, frames: u64) -> io::Result<(u64, u64)> {
        self.goal.set(frames);
        loop {
            if let Some(reason) = &*self.failure.borrow() {
                return Err(io::Error::other(reason.clone()));
            }
            if self.frames.get() >= frames {
                return Ok((self.frames.get(), self.bytes.get()));
            }
            self.changed.notified().await;
        }
    }

    /// How many sequenced frames have come.
    pub(super) fn frames(&self) -> u64 {
        self.frames.get()
    }
}
