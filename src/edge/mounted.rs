//! The mounts beside the server's own paths.
//!
//! Owns: which requests leave the router for a mount, and the limits of their bodies. Never: what a mount answers
//! (`mount`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use tower::{ServiceExt, service_fn};

use super::Edge;
use super::body::BodyAllowance;
use crate::mount::route::Route;
use crate::mount::{MountRequest, Mounts};

/// Returns a router that asks the mounts for every path that is not the server's own. An answer of the server's own paths,
/// also a refusal, is final.
pub(super) fn mounted(native: Router, mounts: Arc<Mounts>, edge: Arc<Edge>) -> Router {
    Router::new().fallback_service(service_fn(move |request: Request<Body>| {
        dispatch(native.clone(), mounts.clone(), edge.clone(), request)
    }))
}

async fn dispatch(
    native: Router,
    mounts: Arc<Mounts>,
    edge: Arc<Edge>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let response = match mounts.route(request.uri().path()) {
        Route::Native => return native.oneshot(request).await,
        Route::Refuse(refusal) => mounts.refuse(&request, refusal.text()),
        Route::Mount(index) => mounts.respond(index, mount_request(&mounts, &edge, index, request)).await,
    };
    Ok(response.map(Body::new))
}

fn mount_request(mounts: &Mounts, edge: &Edge, index: usize, request: Request<Body>) -> MountRequest {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let allowance = request.extensions().get::<BodyAllowance>().cloned();
    if let Some(allowance) = &allowance {
        allowance.stream(mounts.max_body(index));
    }
    let user = mounts.needs_user(index).then(|| edge.user_of_mount(request.headers())).flatten();
    MountRequest {
        user,
        // every connection of the listener has an address
        peer: peer.unwrap_or(std::net::IpAddr::from([0, 0, 0, 0])),
        body_failure: Box::new(move || allowance.as_ref().and_then(BodyAllowance::failure)),
        request: request.map(|body| body.map_err(std::io::Error::other).boxed_unsync()),
    }
}
