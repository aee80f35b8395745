//! The body of a request, read only when a handler reads it.
//!
//! Owns: its size limit, its time limit, and the rest of it when the request is answered before the whole body was
//! read. Never: a buffer. No byte is read before a handler polls the body, so a client without permission to send a
//! body does not make the node read it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, timeout};

use super::http_limits::HttpLimits;

/// Bytes per second that a body of any duration needs on average, after the time of a whole body. One that drips would hold a
/// thread of an application for as long as its client likes.
const MIN_RATE: u64 = 500;

/// The limits of one body, which the route of its request may change before the body is read. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct BodyAllowance(Arc<AllowanceState>);

#[derive(Debug)]
struct AllowanceState {
    /// The most bytes.
    bytes: AtomicU64,
    /// Whether the time limit is for each part of the body instead of the whole.
    is_per_part: AtomicBool,
    is_too_long: AtomicBool,
    is_too_slow: AtomicBool,
    is_broken: AtomicBool,
}

impl BodyAllowance {
    fn new(bytes: u64) -> Self {
        Self(Arc::new(AllowanceState {
            bytes: AtomicU64::new(bytes),
            is_per_part: AtomicBool::new(false),
            is_too_long: AtomicBool::new(false),
            is_too_slow: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        }))
    }

    /// Allows a body of this many bytes, for as long as parts of it arrive in time.
    pub(super) fn stream(&self, bytes: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
        self.0.is_per_part.store(true, Ordering::Relaxed);
    }

    /// Returns the status for a body that has broken its limits, is malformed or has broken off.
    pub(super) fn failure(&self) -> Option<StatusCode> {
        let state = &self.0;
        let failures = [
            (&state.is_too_long, StatusCode::PAYLOAD_TOO_LARGE),
            (&state.is_too_slow, StatusCode::REQUEST_TIMEOUT),
            (&state.is_broken, StatusCode::BAD_REQUEST),
        ];
        failures
            .into_iter()
            .find(|(has_failed, _)| has_failed.load(Ordering::Relaxed))
            .map(|(_, status)| status)
    }
}

/// A body that is read when a handler reads it. Reading returns `ErrorKind::FileTooLarge` when the body exceeds its
/// size limit and `ErrorKind::TimedOut` when it exceeds its time limit.
pub(super) struct Arriving {
    /// `None` after the end of the body.
    rest: Option<Incoming>,
    /// Bytes that have arrived.
    read: u64,
    allowance: BodyAllowance,
    bounds: Arc<HttpLimits>,
    /// Time limit of the body, or of its next part. Starts with the first read.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long the parts that have arrived were waited for.
    waited: Duration,
    /// The client sent `Expect` and waits for `100 Continue`: a final response instead of it means that no body
    /// follows.
    waits: bool,
}

impl Arriving {
    pub(super) fn new(body: Incoming, headers: &HeaderMap, bounds: Arc<HttpLimits>) -> Self {
        let waits = headers.contains_key(header::EXPECT);
        let allowance = BodyAllowance::new(bounds.body as u64);
        Self { rest: Some(body), read: 0, allowance, bounds, deadline: None, waited: Duration::ZERO, waits }
    }

    /// Returns the limits of this body.
    pub(super) fn allowance(&self) -> BodyAllowance {
        self.allowance.clone()
    }

    fn too_long(&self) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.allowance.0.is_too_long.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(io::ErrorKind::FileTooLarge.into())))
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
        let room = this.allowance.0.bytes.load(Ordering::Relaxed).saturating_sub(this.read);
        if body.size_hint().lower() > room {
            return this.too_long();
        }
        let is_per_part = this.allowance.0.is_per_part.load(Ordering::Relaxed);
        let whole = this.bounds.timing.http_body;
        let within = if is_per_part { part_within(whole, this.read, this.waited) } else { whole };
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        if deadline.as_mut().poll(cx).is_ready() {
            this.allowance.0.is_too_slow.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        // the client is told to continue
        this.waits = false;
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if is_per_part {
            // nothing that decides `within` has changed since the wait began
            let left = deadline.deadline().saturating_duration_since(Instant::now());
            this.waited += within.saturating_sub(left);
            this.deadline = None;
        }
        match frame {
            None => {
                this.rest = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                this.allowance.0.is_broken.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                if length > room {
                    return this.too_long();
                }
                this.read += length;
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Returns how long the next part of a body may take, when `read` bytes have arrived and were waited for as long as `waited`.
/// The time in which no handler reads does not count.
fn part_within(whole: Duration, read: u64, waited: Duration) -> Duration {
    let earned = Duration::from_secs(read / MIN_RATE);
    whole.min(whole.saturating_add(earned).saturating_sub(waited))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_take_any_time_at_the_least_rate_and_none_that_drips() {
        let whole = Duration::from_secs(30);
        let within = |read, waited| part_within(whole, read, Duration::from_secs(waited)).as_secs();
        assert_eq!((within(0, 0), within(1, 29)), (30, 1), "one byte after 29 seconds");
        assert_eq!((within(500 * 600, 600), within(500 * 600, 629), within(500 * 600, 700)), (30, 1, 0));
        assert_eq!(within(100_000_000, 3600), 30);
    }
}
