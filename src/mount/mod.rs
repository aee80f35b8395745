//! The dispatcher: what this server serves beside its own paths.
//!
//! Owns: the mounts of the configuration, and the path of a request through one of them. Never: the server's own paths
//! (`edge`, `api`), or sockets.
//!
//! `route` decides which mount gets a request (pure) → `folders` has its files → `forward` rewrites the heads (pure) →
//! `upstream` has the connections, `process_upstream` the processes of an application, `tunnel` the WebSockets →
//! `compression` compresses the answer, `compressed_files` keeps those of files.

pub(crate) mod body;
pub(crate) mod coding;
mod compressed_files;
mod compression;
mod folders;
mod forward;
mod path;
mod process_upstream;
mod proxy;
mod refusal;
pub(crate) mod route;
mod static_files;
mod trust;
mod tunnel;
mod upstream;

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, StatusCode, header};
use pagewire_cluster::id::Key;
use pagewire_cluster::timing::Timing;
use pagewire_worker::runtime::child::pool::ChildPool;

use self::body::{MountBody, MountResponse};
use self::coding::accepted;
use self::compressed_files::CompressedFiles;
use self::compression::compressed;
use self::folders::Folders;
pub(crate) use self::process_upstream::MountPools;
use self::proxy::{Proxy, ProxyRequest};
use self::refusal::refusal;
use self::route::{Route, RouteTable};
use self::trust::origin;
use crate::config::{Config, MountConfig, TrustedNet};
use crate::telemetry::MountMetrics;

/// What this server serves beside its own paths.
pub struct Mounts {
    table: RouteTable,
    mounts: Vec<Mount>,
    trusted: Vec<TrustedNet>,
    metrics: MountMetrics,
}

/// One mount.
struct Mount {
    path: String,
    /// The folders that are looked into first.
    folders: Folders,
    /// The upstream; `None`: what no folder has is missing.
    proxy: Option<Proxy>,
    /// The files that have been compressed; `None`: nothing is compressed.
    compressed: Option<Arc<CompressedFiles>>,
    max_body: u64,
}

/// A request of a mount, with what the connection knows about it.
pub(crate) struct MountRequest {
    pub(crate) request: Request<MountBody>,
    /// The address that the connection came from.
    pub(crate) peer: IpAddr,
    /// Tells whether the body was longer than the mount allows, or too slow.
    pub(crate) body_failure: Box<dyn Fn() -> Option<StatusCode> + Send + Sync>,
}

impl Mounts {
    /// Creates the mounts of a configuration; `pools` are the processes of their applications. `None` if there are none.
    pub(crate) fn new(
        config: &Config,
        timing: &Timing,
        metrics: MountMetrics,
        pools: &MountPools,
    ) -> Option<Arc<Self>> {
        if config.mount.is_empty() {
            return None;
        }
        let own = std::iter::once(config.websocket.path.clone());
        let table = RouteTable {
            native: config.native.iter().cloned().chain(own).collect(),
            mounts: config.mount.iter().map(|mount| mount.path.clone()).collect(),
        };
        let pool = |mount: &MountConfig| pools.get(&mount.path).cloned();
        let mounts = config.mount.iter().map(|mount| Mount::new(mount, timing, pool(mount))).collect();
        Some(Arc::new(Self { table, mounts, trusted: config.proxy.trusted.clone(), metrics }))
    }

    /// Returns where a path goes.
    pub(crate) fn route(&self, path: &str) -> Route {
        self.table.route(path)
    }

    /// Returns the longest body of a request to a mount, in bytes.
    pub(crate) fn max_body(&self, mount: usize) -> u64 {
        self.mounts.get(mount).map_or(0, |mount| mount.max_body)
    }

    /// Refuses a path that no server may see.
    pub(crate) fn refuse<B>(&self, request: &Request<B>, reason: &'static str) -> MountResponse {
        let request_id = Key::random().to_string();
        tracing::debug!(request_id, reason, path = request.uri().path(), "a path is refused");
        self.metrics.refused(reason);
        refusal(StatusCode::BAD_REQUEST, request.headers().get(header::ACCEPT), &request_id)
    }

    /// Answers a request of a mount.
    pub(crate) async fn respond(&self, index: usize, request: MountRequest) -> MountResponse {
        let request_id = Key::random().to_string();
        let Some(mount) = self.mounts.get(index) else {
            return refusal(
                StatusCode::NOT_FOUND,
                request.request.headers().get(header::ACCEPT),
                &request_id,
            );
        };
        let measure = self.metrics.begin(&mount.path);
        let origin = origin(request.peer, request.request.headers(), &self.trusted);
        let response = mount.respond(ProxyRequest { request, origin, request_id: &request_id }).await;
        measure.end(response.status());
        response
    }
}

impl Mount {
    fn new(config: &MountConfig, timing: &Timing, pool: Option<ChildPool>) -> Self {
        Self {
            path: config.path.clone(),
            folders: Folders::new(config),
            proxy: Proxy::new(config, timing, pool),
            compressed: config.compress.then(Arc::default),
            max_body: config.max_body(),
        }
    }

    async fn respond(&self, asked: ProxyRequest<'_>) -> MountResponse {
        let request = &asked.request.request;
        let (method, headers, uri) = (request.method(), request.headers(), request.uri());
        let codings = accepted(headers);
        let response = match (self.folders.serve(method, headers, uri, &codings).await, &self.proxy) {
            (Some(response), _) => response,
            (None, Some(proxy)) => proxy.respond(asked).await,
            (None, None) => refusal(StatusCode::NOT_FOUND, headers.get(header::ACCEPT), asked.request_id),
        };
        match &self.compressed {
            Some(files) => compressed(response, codings.first().copied(), files),
            None => response,
        }
    }
}
