//! A request's body on its way to a handler.
//!
//! Owns: how large it may be, how long it may take, and what becomes of the rest when the request is answered without
//! it. Never: a buffer, and no byte before a handler asks: who may not send a body does not make the node read it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, timeout};

use super::http::HttpLimits;

/// A body that is read when a handler reads it. `ErrorKind::FileTooLarge` and `ErrorKind::TimedOut` say that it broke
/// its bounds.
pub(super) struct Arriving {
    /// `None` behind its end.
    rest: Option<Incoming>,
    /// Bytes that may still come.
    room: u64,
    bounds: HttpLimits,
    /// From the first read on.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client waits for leave to send: an answer instead is its end.
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
                let came = frame.data_ref().map_or(0, Bytes::len) as u64;
                match this.room.checked_sub(came) {
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

/// The answer may be ready while the client still sends. Closing then would reset the connection, and the client would
/// lose the answer: what comes within a moment is thrown away.
impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take().filter(|rest| !rest.is_end_stream() && !self.waits) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(rest, self.bounds.body as u64, self.bounds.timing.close_timeout));
        }
    }
}

/// Up to `most` bytes; a body with more ends its connection.
async fn discard(mut rest: Incoming, most: u64, patience: Duration) {
    let mut room = most;
    let discarding = async {
        while let Some(Ok(frame)) = rest.frame().await {
            let came = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = room.checked_sub(came) else { return };
            room = left;
        }
    };
    // late: the connection ends
    let _ = timeout(patience, discarding).await;
}
