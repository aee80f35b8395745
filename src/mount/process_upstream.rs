//! The processes of a mount as its upstream.
//!
//! Owns: the connections to each process, and the process for one request. Never: the processes themselves
//! (`pagewire_worker::runtime::child`).

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use pagewire_cluster::lease::MountPlaces;
use pagewire_cluster::timing::Timing;
use pagewire_worker::runtime::child::http_lease::{HttpLease, NoProcess};
use pagewire_worker::runtime::child::options::ListenerAddress;

use super::body::MountBody;
use super::lane_pools::LanePool;
use super::unit::Unit;
use super::upstream::{UpstreamBody, UpstreamClient, UpstreamError};
use crate::config::UpstreamAddress;

/// Processes that a request is offered to: one that has just ended may not be known as such yet.
const OFFERS: usize = 4;

/// The processes of one lane of a mount.
pub(super) struct ProcessUpstream {
    pool: LanePool,
    timing: Timing,
    /// The connections to each process, by its number.
    clients: Mutex<BTreeMap<u64, UpstreamClient>>,
}

impl ProcessUpstream {
    pub(super) fn new(pool: LanePool, timing: &Timing) -> Self {
        Self { pool, timing: *timing, clients: Mutex::default() }
    }

    /// Returns the places for processes at this node.
    pub(super) fn places(&self) -> MountPlaces {
        self.pool.places()
    }

    /// Returns the place of the process that has the object of the page of a unit.
    pub(super) fn place_of_object(&self, unit: Unit) -> Option<u32> {
        self.pool.children.place_of_object(unit.page?)
    }

    /// Returns whether a process at this node is ready.
    pub(super) fn is_ready(&self) -> bool {
        !self.pool.children.http_places().borrow().is_empty()
    }

    /// Returns the release that the processes run.
    pub(super) fn release(&self) -> Arc<str> {
        self.pool.release.clone()
    }

    /// Sends a request to the process at `place`, or to any one, and returns the response with the lease of the process,
    /// which lasts until the response has ended. A request that its process has not received is sent to another one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] without a response.
    pub(super) async fn send(
        &self,
        request: Request<MountBody>,
        place: Option<u32>,
        within: Option<Duration>,
    ) -> Result<(Response<UpstreamBody>, HttpLease), UpstreamError> {
        let (head, body) = request.into_parts();
        let body = OfferedBody::new(body);
        for _ in 0..OFFERS {
            let lease = self.pool.children.http(place).await.map_err(UpstreamError::NoProcess)?;
            let offered = Request::from_parts(head.clone(), body.offer());
            let sent = match self.client(&lease) {
                Ok(client) => client.send(offered, within).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(response) => return Ok((response, lease)),
                Err(UpstreamError::Unreachable(error)) if is_of_listener(&error) => {
                    let child = lease.child();
                    tracing::warn!(child, %error, "a process of a mount accepts no connection");
                    lease.refused();
                }
                Err(UpstreamError::Unreachable(error)) => {
                    tracing::warn!(%error, "no connection to a process of a mount can be made");
                    return Err(UpstreamError::NoProcess(NoProcess::Busy));
                }
                Err(error) => return Err(error),
            }
        }
        Err(UpstreamError::NoProcess(NoProcess::Busy))
    }

    fn client(&self, lease: &HttpLease) -> Result<UpstreamClient, UpstreamError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&lease.child()) {
            return Ok(client.clone());
        }
        let living: Vec<u64> = self.pool.children.status().children.iter().map(|child| child.child).collect();
        clients.retain(|child, _| living.contains(child));
        let client = UpstreamClient::new(address(lease.address())?, &self.timing);
        clients.insert(lease.child(), client.clone());
        Ok(client)
    }
}

/// Returns whether a connection failed because its listener does not accept it. Otherwise this node lacks a resource, such
/// as file descriptors, and another process would be of no use.
fn is_of_listener(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::TimedOut
    )
}

fn address(listener: &ListenerAddress) -> Result<UpstreamAddress, UpstreamError> {
    Ok(match listener {
        ListenerAddress::Unix(path) => UpstreamAddress::Unix(path.clone()),
        ListenerAddress::Tcp(address) => {
            let authority: Result<Authority, _> = address.parse();
            UpstreamAddress::Tcp(
                authority.map_err(|error| UpstreamError::Unreachable(io::Error::other(error)))?,
            )
        }
    })
}

/// The body of a request that is offered to one process after the other. None of them has read it but the last one.
#[derive(Clone)]
pub(super) struct OfferedBody(Arc<Mutex<MountBody>>);

impl OfferedBody {
    pub(super) fn new(body: MountBody) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// Returns the body for one more process.
    pub(super) fn offer(&self) -> MountBody {
        self.clone().boxed_unsync()
    }

    fn lock(&self) -> MutexGuard<'_, MountBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for OfferedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut *self.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

/// The body of a response with the lease of its process.
pub(super) struct LeasedBody {
    pub(super) body: UpstreamBody,
    /// `None` when the body has ended, or for an upstream that is no process.
    pub(super) lease: Option<HttpLease>,
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.lease = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
