//! The mounts beside the server's own paths.
//!
//! Owns: which requests leave the router for a mount, and the limits of their bodies. Never: what a mount answers
//! (`mount`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tower::ServiceExt;

use super::Edge;
use super::body::{Arriving, BodyAllowance};
use super::http_limits::HttpLimits;
use super::listener::Peer;
use super::site_socket;
use crate::mount::body::{MountBody, empty};
use crate::mount::route::Route;
use crate::mount::{BodyFailure, MountRequest, Mounts};

/// What answers the requests of a listener. A request of a mount meets no layer of the router. Cheap to clone.
#[derive(Clone)]
pub enum MountedRouter {
    /// The server's own paths.
    Native(Router),
    /// The server's own paths, and the mounts that get all other ones. An answer of the own paths, also a refusal, is final.
    Mounted {
        /// The own paths.
        native: Router,
        /// The mounts.
        mounts: Arc<Mounts>,
        /// The edge, which knows the users of requests.
        edge: Arc<Edge>,
    },
    /// The mounts, for requests that other nodes send.
    ForNodes(Arc<Mounts>),
}

impl From<Router> for MountedRouter {
    fn from(native: Router) -> Self {
        Self::Native(native)
    }
}

impl MountedRouter {
    /// Answers a request of this peer. Its body is read when a handler reads it.
    pub(super) async fn respond(
        self,
        request: Request<Incoming>,
        peer: Arc<Peer>,
        bounds: Arc<HttpLimits>,
    ) -> Result<Response<Body>, Infallible> {
        let (router, mounts, edge) = match self {
            Self::Native(router) => return native(router, request, peer, bounds).await,
            // on the heap, because the listener for clients would keep room for it
            Self::ForNodes(mounts) => return Ok(Box::pin(for_node(&mounts, request, bounds)).await),
            Self::Mounted { native, mounts, edge } => (native, mounts, edge),
        };
        let response = match mounts.route(request.uri().path()) {
            Route::Native => return native(router, request, peer, bounds).await,
            Route::Refuse(refusal) => mounts.refuse(&request, refusal.text()),
            Route::Mount(index) if mounts.is_site_socket(index, request.uri().path()) => {
                let (head, _) = request.into_parts();
                return Ok(site_socket::upgrade(edge, mounts, index, head, peer));
            }
            Route::Mount(index) => {
                let user = mounts.needs_user(index).then(|| edge.user_of_mount(request.headers())).flatten();
                let (mut request, allowance) = with_allowance(request, bounds);
                if mounts.is_service(index) {
                    request.extensions_mut().insert(ConnectInfo(peer.address));
                }
                allowance.iter().for_each(|allowance| allowance.stream(mounts.max_body(index)));
                let (peer, body_failure) = (peer.client.clone(), failure(allowance));
                mounts.respond(index, Box::new(MountRequest { request, peer, user, body_failure })).await
            }
        };
        Ok(response.map(Body::new))
    }
}

async fn native(
    router: Router,
    request: Request<Incoming>,
    peer: Arc<Peer>,
    bounds: Arc<HttpLimits>,
) -> Result<Response<Body>, Infallible> {
    let (mut head, body) = request.into_parts();
    let body = match body.is_end_stream() {
        true => Body::empty(),
        false => Body::new(Arriving::new(body, &head.headers, bounds)),
    };
    head.extensions.insert(ConnectInfo(peer.address));
    head.extensions.insert(peer);
    router.oneshot(Request::from_parts(head, body)).await
}

async fn for_node(mounts: &Mounts, request: Request<Incoming>, bounds: Arc<HttpLimits>) -> Response<Body> {
    let (request, allowance) = with_allowance(request, bounds);
    let failure = failure(allowance.clone());
    let allow = |bytes| allowance.iter().for_each(|allowance| allowance.stream(bytes));
    mounts.respond_to_node(request, failure, allow).await.map(Body::new)
}

/// Returns a request with its body, and the limits of that if there is one.
fn with_allowance(
    request: Request<Incoming>,
    bounds: Arc<HttpLimits>,
) -> (Request<MountBody>, Option<BodyAllowance>) {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return (Request::from_parts(head, empty()), None);
    }
    let body = Arriving::new(body, &head.headers, bounds);
    let allowance = body.allowance();
    (Request::from_parts(head, body.boxed_unsync()), Some(allowance))
}

fn failure(allowance: Option<BodyAllowance>) -> BodyFailure {
    Box::new(move || allowance.as_ref().and_then(BodyAllowance::failure))
}
