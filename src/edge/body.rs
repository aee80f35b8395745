//! The body of a request, read only when a handler reads it.
//!
//! Owns: its size limit, its time limit, and the rest of it when the request is answered before the whole body was
//! read. Never: a buffer. No byte is read before a handler polls the body, so a client without permission to send a
//! body does not make the node read it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, timeout};

use super::http_limits::HttpLimits;

/// A body that is read when a handler reads it. Reading returns `ErrorKind::FileTooLarge` when the body exceeds its
/// size limit and `ErrorKind::TimedOut` when it exceeds its time limit.
pub(super) struct Arriving {
    /// `None` after the end of the body.
    rest: Option<Incoming>,
    /// Bytes that may still arrive.
    room: u64,
    bounds: HttpLimits,
    /// Time limit of the body. Starts with the first read.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client sent `Expect` and waits for `100 Continue`: a final response instead of it means that no body
    /// follows.
    waits: bool,
}

impl Arriving {
    pub(super) fn new(body: Incoming, headers: &HeaderMap, bounds: HttpLimits) -> Self {
        let waits = headers.contains_key(header::EXPECT);
        Self { rest: Some(body), room: bounds.body as u64, bounds, deadline: None, waits }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.rest else { return Poll::Ready(None) };
        if body.size_hint().lower() > this.room {
            return Poll::Ready(Some(Err(io::ErrorKind::FileTooLarge.into())));
        }
        let within = this.bounds.timing.http_body;
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        Poll::Ready(match frame {
            None => {
                this.rest = None;
                None
            }
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                match this.room.checked_sub(length) {
                    Some(room) => {
                        this.room = room;
                        Some(Ok(frame))
                    }
                    None => Some(Err(io::ErrorKind::FileTooLarge.into())),
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Discards the rest of an unread body. The response may be sent while the client is still sending: closing the
/// connection then would reset it and the client would lose the response. Bytes that arrive within a short time are
/// read and dropped.
impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take().filter(|rest| !rest.is_end_stream() && !self.waits) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(rest, self.bounds.body as u64, self.bounds.timing.close_timeout));
        }
    }
}

/// Reads and drops up to `max` bytes. A longer body ends its connection.
async fn discard(mut rest: Incoming, max: u64, limit: Duration) {
    let mut room = max;
    let discarding = async {
        while let Some(Ok(frame)) = rest.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = room.checked_sub(length) else { return };
            room = left;
        }
    };
    // on timeout the connection ends
    let _ = timeout(limit, discarding).await;
}
