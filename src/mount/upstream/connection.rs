//! One connection to an upstream.
//!
//! Owns: its socket and the bytes that have arrived. Never: which request it gets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::input::Input;
use super::socket::{UpstreamReader, UpstreamWriter};

/// A connection for one request at a time. It is closed when this is dropped.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    reader: UpstreamReader,
    /// `None` while a task of its own sends the rest of the request.
    pub(super) writer: Option<UpstreamWriter>,
    pub(super) input: Input,
    /// Whether it has served a request before.
    pub(super) is_used: bool,
}

impl UpstreamConnection {
    pub(super) fn new((reader, writer): (UpstreamReader, UpstreamWriter)) -> Self {
        Self { reader, writer: Some(writer), input: Input::new(), is_used: false }
    }

    /// Reads further bytes into the buffer, and returns how many; 0 at the end.
    ///
    /// # Errors
    ///
    /// Also when the buffer is full.
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = ReadBuf::new(self.input.space());
        if space.capacity() == 0 {
            return Poll::Ready(Err(io::Error::other("the upstream has sent too large a head")));
        }
        ready!(Pin::new(&mut self.reader).poll_read(cx, &mut space))?;
        let length = space.filled().len();
        self.input.add(length);
        Poll::Ready(Ok(length))
    }

    /// Returns whether the upstream is silent, as it is between two requests. It is not when it has closed the connection.
    pub(super) fn is_silent(&mut self) -> bool {
        self.input.filled().is_empty()
            && self.poll_input(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}
