//! Mounts in code: services of the program that uses this crate.
//!
//! Owns: how such a service gets a request, and what becomes of its answer. Never: which requests it gets (`route`), or
//! what it does.

use std::error::Error;
use std::fmt;

use bytes::Bytes;
use http::header;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use tower::util::{BoxCloneSyncService, MapErrLayer, MapResponseLayer};
use tower::{Layer, Service, ServiceExt};

use super::MountRequest;
use super::body::{MountBody, MountResponse};
use super::forward::{ForwardFacts, asks_for_upgrade, request_headers, response_headers};
use super::proxy::ProxyRequest;
use super::refusal::refusal;
use crate::telemetry::RequestId;

/// An error of a service or of its body.
type ServiceError = Box<dyn Error + Send + Sync>;

/// A mount in code: a service of this program, beside the mounts of the configuration.
#[derive(Clone)]
pub struct OwnMount {
    pub(super) path: String,
    pub(super) max_body: u64,
    pub(super) compress: bool,
    pub(super) service: OwnService,
}

/// A service that answers the requests of a mount.
#[derive(Clone)]
pub(super) struct OwnService(BoxCloneSyncService<Request<MountBody>, MountResponse, ServiceError>);

impl fmt::Debug for OwnMount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("OwnMount").field("path", &self.path).finish_non_exhaustive()
    }
}

impl OwnMount {
    /// Creates a mount at a path such as `/admin`, or `/` for all that has no other mount, with the limits of a mount of the
    /// configuration. The service is for example an `axum::Router`. It gets paths as they are, with that of the mount.
    pub fn new<S, B>(path: impl Into<String>, service: S) -> Self
    where
        S: Service<Request<MountBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<ServiceError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<ServiceError>,
    {
        let whole = |response: Response<B>| {
            response.map(|body| body.map_err(|error| std::io::Error::other(error.into())).boxed_unsync())
        };
        let service = MapResponseLayer::new(whole).layer(MapErrLayer::new(Into::into).layer(service));
        let defaults = crate::config::MountConfig::default();
        Self {
            path: path.into(),
            max_body: defaults.max_body(),
            compress: defaults.compress,
            service: OwnService(BoxCloneSyncService::new(service)),
        }
    }

    /// Sets the longest body of a request, in bytes.
    #[must_use]
    pub const fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets whether text is compressed while it is sent.
    #[must_use]
    pub const fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Returns the path.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl OwnService {
    /// Passes a request to the service and returns its answer, or the page for its failure.
    pub(super) async fn respond(&self, asked: ProxyRequest<'_>) -> MountResponse {
        let ProxyRequest { request, origin, request_id } = asked;
        let MountRequest { mut request, body_failure, .. } = *request;
        let accept = request.headers().get(header::ACCEPT).cloned();
        let is_upgrade = asks_for_upgrade(request.version(), request.headers());
        let facts = ForwardFacts { origin: &origin, request_id, prefix: None, host: None, is_upgrade };
        let headers = std::mem::take(request.headers_mut());
        *request.headers_mut() = request_headers(headers, facts);
        let answered = self.0.clone().oneshot(request).await;
        let failed = |status| refusal(status, accept.as_ref(), request_id);
        match (body_failure(), answered) {
            (Some(status), _) => failed(status),
            (None, Ok(response)) => passed_on(response, request_id),
            (None, Err(error)) => {
                tracing::error!(%request_id, error, "a service of a mount has failed");
                failed(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

fn passed_on(mut response: MountResponse, request_id: &RequestId) -> MountResponse {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = std::mem::take(response.headers_mut());
    *response.headers_mut() = response_headers(headers, switches, request_id);
    response
}
