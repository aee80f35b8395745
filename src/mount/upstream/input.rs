//! The bytes of an upstream that have arrived and are not passed on yet.
//!
//! Owns: the buffer of a connection, which its requests use one after the other. Never: their meaning.

use bytes::Bytes;

/// Size of the buffer of a connection that is kept.
const KEPT: usize = 8 * 1024;
/// Maximum size: a response head must fit into it.
const MAX: usize = 128 * 1024;

/// A buffer that grows while an upstream fills it.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read has filled the buffer.
    is_full: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; KEPT], start: 0, end: 0, is_full: false }
    }

    /// Returns the bytes that have arrived.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes bytes out of the buffer.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        let taken = Bytes::copy_from_slice(&self.filled()[..length]);
        self.skip(length);
        taken
    }

    pub(super) fn skip(&mut self, length: usize) {
        self.start += length;
    }

    /// Returns the space for further bytes; empty when the buffer is full.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.is_full && self.bytes.len() < MAX {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Adds bytes that were written into the space.
    pub(super) fn add(&mut self, length: usize) {
        self.end += length;
        self.is_full = self.end == self.bytes.len();
    }

    /// Gives back what a large response has needed.
    pub(super) fn shrink(&mut self) {
        if self.bytes.len() > KEPT && self.filled().is_empty() {
            *self = Self::new();
        }
    }
}
