//! Serves one HTTP connection within limits.
//!
//! Owns: size limits and time-outs of request heads. Never: the meaning of a path or a header of its response (the
//! router), or a byte of a body (`body`). axum's own server installs no timer, so hyper's head
//! time-out has no effect there; this module installs one.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::body::Arriving;
use super::current_router::CurrentRouter;
use super::http_limits::HttpLimits;
use super::listener::Peer;
use super::write_timeout::WriteTimeout;

/// Maximum number of header fields in a request head.
const MAX_HEADERS: usize = 100;
/// Minimum buffer size that hyper accepts, in bytes.
const MIN_BUFFER: usize = 8192;

/// Serves HTTP/1 on a connection until it ends, becomes a WebSocket or `stop` turns true.
pub(super) async fn serve(
    stream: TcpStream,
    peer: Arc<Peer>,
    routes: CurrentRouter,
    bounds: HttpLimits,
    mut stop: watch::Receiver<bool>,
) {
    let io = TokioIo::new(WriteTimeout::new(stream, bounds.timing.write_stall));
    let caller = peer.clone();
    let service = service_fn(move |request| respond(request, caller.clone(), routes.now(), bounds));
    let mut connection = pin!(builder(bounds).serve_connection(io, service).with_upgrades());
    let mut first_head = pin!(tokio::time::sleep(bounds.timing.http_header));
    let (mut waits_for_head, mut stopping) = (true, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %peer.address, %error, "connection ended with an error");
                }
                return;
            }
            () = first_head.as_mut(), if waits_for_head => {
                if !peer.has_sent_request() {
                    return;
                }
                waits_for_head = false;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                if !peer.has_sent_request() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
        }
    }
}

fn builder(bounds: HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // measured from the end of one request to the end of the next head; the first head has its own, shorter limit
        .header_read_timeout(bounds.timing.http_idle)
        .max_header_size(bounds.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(bounds.head.max(MIN_BUFFER));
    builder
}

async fn respond(
    request: Request<Incoming>,
    peer: Arc<Peer>,
    router: Router,
    bounds: HttpLimits,
) -> Result<Response<Body>, Infallible> {
    peer.mark_request_seen();
    Ok(match read_body(request, bounds) {
        Ok(mut request) => {
            request.extensions_mut().insert(ConnectInfo(peer.address));
            request.extensions_mut().insert(peer);
            TowerToHyperService::new(router).call(request).await?
        }
        Err(status) => refusal(status),
    })
}

/// Wraps the body of a request so that it is read when a handler reads it.
///
/// # Errors
///
/// 400 when the request has more than one `Host`.
fn read_body(request: Request<Incoming>, bounds: HttpLimits) -> Result<Request<Body>, StatusCode> {
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let (mut head, body) = request.into_parts();
    let body = match body.is_end_stream() {
        true => Body::empty(),
        false => {
            let body = Arriving::new(body, &head.headers, bounds);
            head.extensions.insert(body.allowance());
            Body::new(body)
        }
    };
    Ok(Request::from_parts(head, body))
}

/// A response without reading the rest of the request, so it is the connection's last response.
fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Value of `Retry-After` for a client that is refused temporarily, at least one second.
pub(super) fn retry_after(delay: Duration) -> HeaderValue {
    HeaderValue::from(delay.as_secs().max(1))
}
