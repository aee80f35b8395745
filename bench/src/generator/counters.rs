//! What all clients have got, and the first thing that went wrong.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::sync::Notify;

use crate::measure::now_ns;

/// Counts for one thread of clients.
#[derive(Default)]
pub(super) struct Counters {
    frames: Cell<u64>,
    bytes: Cell<u64>,
    goal: Cell<u64>,
    /// In microseconds, of messages that say when they were sent, if that is wanted.
    ages: RefCell<Option<Vec<f64>>>,
    failure: RefCell<Option<String>>,
    changed: Notify,
}

impl Counters {
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

    /// Whether to note how old messages are.
    pub(super) fn note_ages(&self, noted: bool) {
        *self.ages.borrow_mut() = noted.then(Vec::new);
    }

    /// How old the messages since the last time were.
    pub(super) fn ages(&self) -> Vec<f64> {
        self.ages.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A message came whose text is this.
    pub(super) fn message(&self, text: &[u8]) {
        if let Some(ages) = &mut *self.ages.borrow_mut()
            && let Some(sent) = super::frame::sent(text)
        {
            ages.push(now_ns().saturating_sub(sent) as f64 / 1e3);
        }
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
