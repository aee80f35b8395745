//! The writing half of the socket of a child.
//!
//! Owns: the order of frames, and what the socket has not taken yet. Never: what a frame says.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;

/// Writes frames. A frame that the socket takes at once needs no other task.
pub(super) struct FrameWriter {
    socket: OwnedWriteHalf,
    waiting: Mutex<BytesMut>,
    added: Notify,
}

impl FrameWriter {
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket, waiting: Mutex::default(), added: Notify::new() }
    }

    /// Each change leaves the buffer consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame after the frames before it. An error of the socket shows at its reading half.
    pub(super) fn send(&self, frame: &[u8]) {
        let mut waiting = self.lock();
        let taken = if waiting.is_empty() { self.socket.try_write(frame).unwrap_or(0) } else { 0 };
        if taken < frame.len() {
            waiting.extend_from_slice(&frame[taken..]);
            self.added.notify_one();
        }
    }

    /// Writes what waits, again and again. Ends when the socket does.
    pub(super) async fn run(&self) {
        loop {
            self.added.notified().await;
            while !self.lock().is_empty() {
                if self.socket.writable().await.is_err() {
                    return;
                }
                let mut waiting = self.lock();
                match self.socket.try_write(&waiting) {
                    Ok(taken) => waiting.advance(taken),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        }
    }
}
