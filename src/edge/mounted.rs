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

use super::body::{Arriving, BodyAllowance};
use super::http_limits::HttpLimits;
use super::listener::Peer;
use crate::mount::body::empty;
use crate::mount::route::Route;
use crate::mount::{MountRequest, Mounts};

/// The server's own paths, and the mounts that get all other ones. An answer of the own paths, also a refusal, is final. A
/// request of a mount meets no layer of the router. Cheap to clone.
#[derive(Clone)]
pub struct MountedRouter {
    native: Router,
    mounts: Option<Arc<Mounts>>,
}

impl From<Router> for MountedRouter {
    fn from(native: Router) -> Self {
        Self { native, mounts: None }
    }
}

impl MountedRouter {
    pub(super) fn new(native: Router, mounts: Option<Arc<Mounts>>) -> Self {
        Self { native, mounts }
    }

    /// Answers a request of this peer. Its body is read when a handler reads it.
    pub(super) async fn respond(
        self,
        request: Request<Incoming>,
        peer: Arc<Peer>,
        bounds: HttpLimits,
    ) -> Result<Response<Body>, Infallible> {
        let Some(mounts) = &self.mounts else { return native(self.native, request, peer, bounds).await };
        let response = match mounts.route(request.uri().path()) {
            Route::Native => return native(self.native, request, peer, bounds).await,
            Route::Refuse(refusal) => mounts.refuse(&request, refusal.text()),
            Route::Mount(index) => {
                let max_body = mounts.max_body(index);
                mounts.respond(index, mount_request(request, &peer, bounds, max_body)).await
            }
        };
        Ok(response.map(Body::new))
    }
}

async fn native(
    router: Router,
    request: Request<Incoming>,
    peer: Arc<Peer>,
    bounds: HttpLimits,
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

fn mount_request(request: Request<Incoming>, peer: &Peer, bounds: HttpLimits, max_body: u64) -> MountRequest {
    let (head, body) = request.into_parts();
    let (body, allowance) = match body.is_end_stream() {
        true => (empty(), None),
        false => {
            let body = Arriving::new(body, &head.headers, bounds);
            let allowance = body.allowance();
            allowance.stream(max_body);
            (body.boxed_unsync(), Some(allowance))
        }
    };
    MountRequest {
        peer: peer.address.ip(),
        body_failure: Box::new(move || allowance.as_ref().and_then(BodyAllowance::failure)),
        request: Request::from_parts(head, body),
    }
}
