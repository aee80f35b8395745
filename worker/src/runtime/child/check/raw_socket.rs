//! The socket of a program under check, as bytes.
//!
//! Owns: what was received and not read yet, and what was not written yet. Never: what a message says.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustix::net::Shutdown;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::task::JoinSet;

use crate::runtime::child::frame_writer::FrameWriter;
use crate::runtime::child::wire::{WireError, body_length};

/// Bytes that are read at a time.
const READ: usize = 64 * 1024;

/// A socket that takes any bytes, and never waits in writing.
pub(super) struct RawSocket {
    reader: OwnedReadHalf,
    received: BytesMut,
    writer: Arc<FrameWriter>,
    /// Writes what the socket did not take at once, until this is dropped.
    _writing: JoinSet<()>,
}

impl RawSocket {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(FrameWriter::new(writer));
        let mut writing = JoinSet::new();
        writing.spawn({
            let writer = writer.clone();
            async move { writer.run().await }
        });
        Self { reader, received: BytesMut::new(), writer, _writing: writing }
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        self.writer.send(bytes);
    }

    /// Ends the socket in both directions, as the end of a supervisor does.
    pub(super) fn hang_up(&self) {
        let stream: &UnixStream = self.reader.as_ref();
        // an error means that the program has ended it
        let _ = rustix::net::shutdown(stream, Shutdown::Both);
    }

    /// Returns the body of the next frame; `None` at the end of the socket. If this is dropped, nothing is lost.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the socket ends within a frame, or the frame is too large.
    pub(super) async fn next_body(&mut self) -> Result<Option<BytesMut>, WireError> {
        loop {
            if let Some(prefix) = self.received.first_chunk::<4>() {
                let length = body_length(*prefix)?;
                if self.received.len() >= prefix.len() + length {
                    self.received.advance(4);
                    return Ok(Some(self.received.split_to(length)));
                }
            }
            self.received.reserve(READ);
            // an error is that of a program which has ended
            if self.reader.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return match self.received.is_empty() {
                    true => Ok(None),
                    false => Err(WireError("its socket ended within a frame".to_owned())),
                };
            }
        }
    }
}
