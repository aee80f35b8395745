//! Counts the frames that all clients have received, and keeps the first error.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use tokio::sync::Notify;

use crate::measure::now_ns;

/// Counters for one thread of clients.
#[derive(Default)]
pub(super) struct Counters {
    frames: Cell<u64>,
    bytes: Cell<u64>,
    goal: Cell<u64>,
    /// Ages in microseconds of messages that carry their send time, if they are recorded.
    ages: RefCell<Option<Vec<f64>>>,
    /// The number of moves so far, and the gaps in microseconds of those since the last call.
    moved: Cell<u64>,
    gaps: RefCell<Vec<f64>>,
    failure: RefCell<Option<String>>,
    changed: Notify,
}

impl Counters {
    /// Counts a sequenced frame.
    pub(super) fn frame(&self) {
        self.frames.set(self.frames.get() + 1);
        if self.frames.get() == self.goal.get() {
            self.changed.notify_one();
        }
    }

    /// Counts bytes.
    pub(super) fn bytes(&self, more: usize) {
        self.bytes.set(self.bytes.get() + more as u64);
    }

    /// Starts or stops recording the ages of messages.
    pub(super) fn note_ages(&self, noted: bool) {
        *self.ages.borrow_mut() = noted.then(Vec::new);
    }

    /// Returns the ages of the messages since the last call.
    pub(super) fn ages(&self) -> Vec<f64> {
        self.ages.borrow_mut().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Records the age of a message with this text.
    pub(super) fn message(&self, text: &[u8]) {
        if let Some(ages) = &mut *self.ages.borrow_mut()
            && let Some(sent) = super::frame::sent(text)
        {
            ages.push(now_ns().saturating_sub(sent) as f64 / 1e3);
        }
    }

    /// Records that a page has moved, with the longest time in which it can have had no node.
    pub(super) fn moved(&self, gap: Duration) {
        self.moved.set(self.moved.get() + 1);
        self.gaps.borrow_mut().push(gap.as_secs_f64() * 1e6);
        self.changed.notify_one();
    }

    /// Waits until pages have moved that many times in total, and returns the gaps since the last call. Returns at once if
    /// a client fails.
    pub(super) async fn reach_moves(&self, moves: u64) -> io::Result<Vec<f64>> {
        loop {
            if let Some(reason) = &*self.failure.borrow() {
                return Err(io::Error::other(reason.clone()));
            }
            if self.moved.get() >= moves {
                return Ok(self.gaps.take());
            }
            self.changed.notified().await;
        }
    }

    /// Records that a client has failed.
    pub(super) fn fail(&self, error: &io::Error) {
        self.failure.borrow_mut().get_or_insert_with(|| error.to_string());
        self.changed.notify_one();
    }

    /// Waits until that many frames have arrived in total, and returns frames and bytes. Returns at once if a client
    /// fails.
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

    /// Returns the number of sequenced frames so far.
    pub(super) fn frames(&self) -> u64 {
        self.frames.get()
    }
}
