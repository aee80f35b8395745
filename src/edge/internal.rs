//! The address at which this node receives requests of other nodes for its processes.
//!
//! Owns: the listener and its limits. Never: whether a request is from another node (`mount`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use tower::service_fn;

use super::body::BodyAllowance;
use crate::mount::{BodyFailure, Mounts};

/// Returns the router of that address, which has no path of its own.
pub(super) fn internal(mounts: Arc<Mounts>) -> Router {
    Router::new().fallback_service(service_fn(move |request| respond(mounts.clone(), request)))
}

async fn respond(mounts: Arc<Mounts>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let allowance = request.extensions().get::<BodyAllowance>().cloned();
    let failing = allowance.clone();
    let failure: BodyFailure = Box::new(move || failing.as_ref().and_then(BodyAllowance::failure));
    let request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
    let allow = |bytes| allowance.iter().for_each(|allowance| allowance.stream(bytes));
    Ok(mounts.respond_to_node(request, failure, allow).await.map(Body::new))
}
