//! The stream between TCP and hyper: hyper reads checked bytes only.
//!
//! Owns: the bytes that have arrived and are not checked yet, and those that hyper has not read yet. Never: a response.
//! Writes pass unchanged. A head that arrives in one read is checked in hyper's buffer and is not copied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{GuardState, RequestFollower};
use crate::edge::listener::Peer;
use crate::edge::write_timeout::WriteTimeout;

/// A TCP stream whose reader gets complete, checked request heads and checked bodies. After a refusal its reader gets
/// nothing more: no end of the stream either, because hyper would then stop the handlers of earlier requests.
pub(in crate::edge) struct GuardedStream {
    stream: WriteTimeout,
    follower: RequestFollower,
    /// Bytes that have arrived and were not read yet.
    held: Vec<u8>,
    /// How many of them are checked.
    checked: usize,
    state: Arc<GuardState>,
    /// A connection counts for as long as its stream is open, also when it has changed its protocol.
    _peer: Arc<Peer>,
}

impl GuardedStream {
    /// A stream whose request heads have at most `max_head` bytes. It records its progress in `state`.
    pub(in crate::edge) fn new(
        stream: WriteTimeout,
        max_head: usize,
        state: Arc<GuardState>,
        peer: Arc<Peer>,
    ) -> Self {
        let follower = RequestFollower::new(max_head);
        Self { stream, follower, held: Vec::new(), checked: 0, state, _peer: peer }
    }

    /// Returns the stream below, and the checked bytes that were not read.
    pub(in crate::edge) fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        self.held.truncate(self.checked);
        (self.stream.into_inner(), self.held)
    }

    /// Checks the bytes of `buffer` from `before` on, and leaves only those in it that may be read now.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let arrived = &buffer.filled()[before..];
        let requests = self.follower.requests();
        let readable = if self.held.is_empty() {
            let checked = self.follower.follow(arrived);
            self.held.extend_from_slice(&arrived[checked..]);
            checked
        } else {
            self.held.extend_from_slice(arrived);
            self.checked = self.follower.follow(&self.held);
            0
        };
        buffer.set_filled(before + readable);
        let refusal = self.follower.refusal();
        if refusal.is_some() || self.follower.has_ended() {
            self.held.truncate(self.checked);
        }
        if refusal.is_some() || self.follower.requests() > requests {
            self.state.record(self.follower.requests(), refusal, self.follower.is_released());
        }
    }

    /// Moves checked bytes into the buffer.
    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.checked.min(buffer.remaining());
        buffer.put_slice(&self.held[..length]);
        self.held.drain(..length);
        self.checked -= length;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.checked > 0 {
                this.deliver(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.follower.is_released() {
                return Pin::new(&mut this.stream).poll_read(cx, buffer);
            }
            match this.follower.refusal() {
                Some(refusal) if refusal.is_in_body => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, refusal.reason.meaning());
                    return Poll::Ready(Err(error));
                }
                // the task of the connection ends it when the requests before are answered
                Some(_) => return Poll::Pending,
                None => {}
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            if buffer.filled().len() > before {
                this.check(buffer, before);
                if buffer.filled().len() == before {
                    continue;
                }
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Keeps the stream open after a refusal, because the response to it follows.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.follower.refusal().is_some() {
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
