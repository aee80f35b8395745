//! The reading half of the socket of a child.
//!
//! Owns: what was received and is not parsed yet. Never: what a frame says.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

use super::wire::{WireError, body_length};

/// Bytes that are read from a socket at a time.
const READ_BUFFER: usize = 64 * 1024;

/// Reads frames. Many frames that have arrived together need one call of the system, and no copy.
pub(super) struct FrameReader {
    socket: OwnedReadHalf,
    received: BytesMut,
}

impl FrameReader {
    pub(super) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, received: BytesMut::new() }
    }

    /// Takes the first frame that has been received whole, and returns what `parse` makes of its body.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the frame is too large, or from `parse`.
    pub(super) fn take<T>(
        &mut self,
        parse: impl FnOnce(&[u8]) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        let Some((prefix, rest)) = self.received.split_first_chunk() else { return Ok(None) };
        let length = body_length(*prefix)?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let (parsed, frame) = (parse(body)?, prefix.len() + length);
        self.received.advance(frame);
        Ok(Some(parsed))
    }

    /// Waits for more bytes. Returns `false` at the end of the connection. No byte is lost if this is dropped.
    ///
    /// # Errors
    ///
    /// [`WireError`] when the connection ends within a frame, or cannot be read.
    pub(super) async fn receive(&mut self) -> Result<bool, WireError> {
        self.received.reserve(READ_BUFFER);
        match self.socket.read_buf(&mut self.received).await {
            Ok(0) if self.received.is_empty() => Ok(false),
            Ok(0) => Err(WireError("the connection ended within a frame".to_owned())),
            Ok(_) => Ok(true),
            // the child has exited before it had read what was sent to it, which is no fault of its frames
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(WireError(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    fn pair() -> (FrameReader, UnixStream) {
        let (supervisor, child) = UnixStream::pair().unwrap();
        (FrameReader::new(supervisor.into_split().0), child)
    }

    fn taken(reader: &mut FrameReader) -> Option<Vec<u8>> {
        reader.take(|body| Ok(body.to_vec())).unwrap()
    }

    #[tokio::test]
    async fn frames_that_arrive_together_are_taken_one_by_one() {
        let (mut reader, mut child) = pair();
        let (large, rest) = (vec![7; 3 * READ_BUFFER], frame(b"end"));
        child.write_all(&[frame(b"one"), frame(b""), rest[..5].to_vec()].concat()).await.unwrap();
        assert!(reader.receive().await.unwrap());
        assert_eq!([taken(&mut reader), taken(&mut reader)], [Some(b"one".to_vec()), Some(Vec::new())]);
        assert_eq!(taken(&mut reader), None);
        assert!(reader.receive().now_or_never().is_none(), "it waits for the rest, and may be dropped");
        let writing = tokio::spawn(async move {
            child.write_all(&rest[5..]).await.unwrap();
            child.write_all(&frame(&large)).await.unwrap();
        });
        let mut bodies = Vec::new();
        while reader.receive().await.unwrap() {
            bodies.extend(std::iter::from_fn(|| taken(&mut reader)));
        }
        writing.await.unwrap();
        assert_eq!(bodies, [b"end".to_vec(), vec![7; 3 * READ_BUFFER]]);
    }

    #[tokio::test]
    async fn a_child_that_exits_with_unread_messages_only_ends_its_connection() {
        let (supervisor, child) = UnixStream::pair().unwrap();
        let (reader, mut writer) = supervisor.into_split();
        let mut reader = FrameReader::new(reader);
        writer.write_all(b"a message that is never read").await.unwrap();
        drop(child);
        assert!(!reader.receive().await.unwrap());
    }
}
