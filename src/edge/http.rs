//! Serves one HTTP connection within limits.
//!
//! Owns: size limits and time-outs of request heads, and the end of a connection whose framing is refused. Never: the
//! framing itself (`framing`), the meaning of a path or a header of its response (the router), or a byte of a body
//! (`body`). axum's own server installs no timer, so hyper's head
//! time-out has no effect there; this module installs one.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::current_router::CurrentRouter;
use super::framing::{GuardState, GuardedStream, refusal_response};
use super::http_limits::HttpLimits;
use super::listener::{self, Peer};
use super::mounted::MountedRouter;
use super::write_timeout::WriteTimeout;
use crate::mount::connection_header::names_close;
use crate::telemetry::{RequestId, count_refused_request};

/// Minimum buffer size that hyper accepts, in bytes.
const MIN_BUFFER: usize = 8192;

/// How hyper's work on a connection has ended.
enum Served {
    /// All responses are sent.
    Finished,
    /// The connection broke, or the peer or this node had no time left.
    Broken,
}

/// Serves HTTP/1 on a connection until it ends, becomes a WebSocket or `stop` turns true. A request whose framing is
/// refused is the last one: it is answered after the requests before it.
pub(super) async fn serve(
    stream: TcpStream,
    peer: Arc<Peer>,
    routes: CurrentRouter,
    bounds: Arc<HttpLimits>,
    stop: watch::Receiver<bool>,
) {
    let guard = Arc::new(GuardState::default());
    let stream = WriteTimeout::new(stream, bounds.timing.write_stall);
    let io = TokioIo::new(GuardedStream::new(stream, bounds.head, guard.clone(), peer.clone()));
    let (caller, state, limits) = (peer.clone(), guard.clone(), bounds.clone());
    // on the heap, because hyper moves it twice and keeps its size for as long as the connection lasts
    let service = service_fn(move |request| {
        Box::pin(respond(request, caller.clone(), routes.now(), limits.clone(), state.clone()))
    });
    let mut connection = builder(&bounds).serve_connection(io, service).with_upgrades();
    let served = run(&mut connection, &peer, &guard, &bounds, stop).await;
    // taken in any case: the stream that it holds refers to the guard
    let upgrade = guard.take_upgrade();
    let Some(refusal) = guard.refusal() else { return };
    count_refused_request(refusal.word());
    let request_id = RequestId::random();
    let reason = refusal.word();
    tracing::debug!(peer = %peer.address, reason, %request_id, "the framing of a request was refused");
    let io = match connection.into_parts() {
        Some(parts) => Some(parts.io),
        None => handed_over(upgrade).await,
    };
    if let (Some(io), Served::Finished) = (io, served) {
        let answerable = guard.answerable_refusal();
        let response = answerable.map(|refusal| refusal_response(refusal, &request_id)).unwrap_or_default();
        let (stream, _) = io.into_inner().into_parts();
        // the peer may be gone already
        let _ = timeout(bounds.timing.close_timeout, listener::end(stream, response.as_bytes())).await;
    }
}

/// Returns the stream of a connection that had a request with `Upgrade`: hyper hands it over at the end, even if no
/// response has switched the protocol.
async fn handed_over(upgrade: Option<OnUpgrade>) -> Option<TokioIo<GuardedStream>> {
    let upgraded = upgrade?.await.ok()?;
    upgraded.downcast::<TokioIo<GuardedStream>>().ok().map(|parts| parts.io)
}

async fn run<S>(
    connection: &mut UpgradeableConnection<TokioIo<GuardedStream>, S>,
    peer: &Peer,
    guard: &GuardState,
    bounds: &HttpLimits,
    mut stop: watch::Receiver<bool>,
) -> Served
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let mut first_head = pin!(sleep(bounds.timing.http_header));
    let (mut waits_for_head, mut stopping) = (true, false);
    loop {
        let progress = poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if !stopping && guard.answerable_refusal().is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            ended = progress => match ended {
                Some(Ok(())) => return Served::Finished,
                Some(Err(error)) => {
                    tracing::debug!(peer = %peer.address, %error, "connection ended with an error");
                    return Served::Broken;
                }
                None if !peer.has_sent_request() => return Served::Finished,
                None => {
                    Pin::new(&mut *connection).graceful_shutdown();
                    stopping = true;
                }
            },
            () = first_head.as_mut(), if waits_for_head => {
                if !peer.has_sent_request() {
                    return Served::Broken;
                }
                waits_for_head = false;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                if !peer.has_sent_request() {
                    return Served::Broken;
                }
                guard.mark_final();
                Pin::new(&mut *connection).graceful_shutdown();
                stopping = true;
            }
        }
    }
}

fn builder(bounds: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // measured from the end of one request to the end of the next head; the first head has its own, shorter limit
        .header_read_timeout(bounds.timing.http_idle)
        .max_header_size(bounds.head)
        .max_headers(bounds.headers)
        .max_buf_size(bounds.head.max(MIN_BUFFER));
    builder
}

async fn respond(
    mut request: Request<Incoming>,
    peer: Arc<Peer>,
    router: MountedRouter,
    bounds: Arc<HttpLimits>,
    guard: Arc<GuardState>,
) -> Result<Response<Body>, Infallible> {
    peer.mark_request_seen();
    let may_switch = guard.begin_request();
    if !may_switch && let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() {
        guard.keep_upgrade(upgrade);
    }
    let mut response = router.respond(request, peer, bounds).await?;
    if may_switch && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // what follows the request may be of another protocol and is not checked
        response.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if names_close(response.headers()) {
        guard.mark_final();
    }
    Ok(response)
}

/// Value of `Retry-After` for a client that is refused temporarily, at least one second.
pub(super) fn retry_after(delay: Duration) -> HeaderValue {
    HeaderValue::from(delay.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_returned<A, B, C, D, E, R>(_: impl Fn(A, B, C, D, E) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_request_is_not_much_to_move() {
        // the copies of 30 KiB were 43 % of the instructions for a request of a mount
        let size = size_of_returned(respond);
        assert!(size <= 6 * 1024, "{size} bytes");
    }
}
