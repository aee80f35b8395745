//! The dispatcher: what this server serves beside its own paths.
//!
//! Owns: the mounts of the configuration and of the program, and the path of a request through one of them. Never: the
//! server's own paths (`edge`, `api`), or sockets.
//!
//! `route` decides which mount gets a request (pure) → `folders` has its files → `forward` rewrites the heads (pure) →
//! `lanes` has the release of an application that serves, `sticky_upstream` the process of it, `process_upstream` the ones
//! of this node, `upstream` the connections, `tunnel` the WebSockets,
//! `own_service` the services of this program, `site` the news of the pages of Genropy sites → `compression` compresses the answer, `compressed_files` keeps those of
//! files.

pub(crate) mod body;
pub(crate) mod coding;
mod compressed_files;
mod compression;
pub(crate) mod connection_header;
pub(crate) mod cookie;
mod folders;
mod forward;
mod hop_ticket;
mod hops;
mod identity;
mod lane_pools;
mod lanes;
mod own_service;
mod path;
mod placement;
mod process_upstream;
mod proxy;
mod refusal;
pub(crate) mod route;
mod site;
mod static_files;
mod sticky_upstream;
pub(crate) mod trust;
mod tunnel;
mod unit;
mod upstream;

use std::sync::Arc;

use http::{Request, StatusCode, header};
use pagewire_cluster::timing::Timing;

pub use self::body::MountBody;
use self::body::MountResponse;
use self::coding::accepted;
use self::compressed_files::CompressedFiles;
use self::compression::compressed;
use self::folders::Folders;
use self::hop_ticket::HopRefusal;
use self::hops::Hops;
pub(crate) use self::hops::MountCluster;
use self::identity::knows_identity;
pub(crate) use self::lane_pools::{LanePool, MountPool, MountPools};
use self::lanes::{LaneRef, LanedUpstream};
pub use self::own_service::OwnMount;
use self::own_service::OwnService;
use self::proxy::{NodeRequest, Proxy, ProxyRequest, no_process};
use self::refusal::refusal;
use self::route::{Route, RouteTable};
pub(crate) use self::site::{SiteListener, SitePage, SiteVisitor};
use self::site::{SitePages, poll};
use self::sticky_upstream::{LocalProcesses, StickyUpstream};
use self::trust::{ClientAddress, origin};
use self::unit::Unit;
use crate::config::{Config, MountConfig, Sticky, TrustedNet};
use crate::telemetry::{MountAnswers, MountMetrics, RequestId};

/// What this server serves beside its own paths.
pub struct Mounts {
    table: RouteTable,
    mounts: Vec<Mount>,
    trusted: Vec<TrustedNet>,
    metrics: MountMetrics,
    hops: Hops,
    timing: Timing,
}

/// One mount.
struct Mount {
    path: String,
    answers: MountAnswers,
    /// The folders that are looked into first.
    folders: Folders,
    /// What answers then; `None`: what no folder has is missing.
    target: Option<MountTarget>,
    /// The files that have been compressed; `None`: nothing is compressed.
    compressed: Option<Arc<CompressedFiles>>,
    max_body: u64,
    needs_user: bool,
    /// The pages of a Genropy site that has sockets here.
    site_pages: Option<Arc<SitePages>>,
}

/// What answers the requests of a mount.
enum MountTarget {
    /// An upstream, or processes of an application.
    Proxy(Proxy),
    /// A service of this program.
    Service(OwnService),
}

/// A request of a mount, with what the connection knows about it.
pub(crate) struct MountRequest {
    pub(crate) request: Request<MountBody>,
    /// The address that the connection came from.
    pub(crate) peer: ClientAddress,
    /// The user whom the token of the request names. It decides which process serves it, and an application in Python learns
    /// it.
    pub(crate) user: Option<Arc<str>>,
    /// Tells whether the body was longer than the mount allows, or too slow.
    pub(crate) body_failure: BodyFailure,
}

/// Tells whether the body of a request has broken its limits, with the status for that.
pub(crate) type BodyFailure = Box<dyn Fn() -> Option<StatusCode> + Send + Sync>;

impl Mounts {
    /// Creates the mounts of a configuration, with those in code; `pools` are the processes of their applications at this
    /// node of `cluster`. `None` if there are none.
    pub(crate) fn new(
        config: &Config,
        timing: &Timing,
        metrics: MountMetrics,
        pools: &MountPools,
        cluster: MountCluster,
        own: &[OwnMount],
    ) -> Option<Arc<Self>> {
        if config.mount.is_empty() && own.is_empty() {
            return None;
        }
        let hops = Hops::new(cluster, timing);
        let processes = |mount: &MountConfig| {
            let (path, pool) = (&mount.path, pools.get(&mount.path)?);
            let local = LocalProcesses::new(pool, timing);
            let sticky = StickyUpstream::new(path, &mount.sticky, local, hops.clone(), metrics.clone());
            let rollout = (hops.cluster().rollouts.clone(), hops.cluster().outcomes.clone());
            Some(LanedUpstream::new(path, pool.rollout.clone(), sticky, rollout, metrics.clone()))
        };
        let registers = &hops.cluster().registers;
        let configured = config.mount.iter().map(|mount| {
            let site_pages = SitePages::of(mount, registers, timing, &metrics);
            Mount { site_pages, ..Mount::new(mount, timing, &metrics, processes(mount)) }
        });
        let mounts: Vec<Mount> = configured.chain(own.iter().map(|own| Mount::own(own, &metrics))).collect();
        let websocket = std::iter::once(config.websocket.path.clone());
        let table = RouteTable {
            native: config.native.iter().cloned().chain(websocket).collect(),
            mounts: mounts.iter().map(|mount| mount.path.clone()).collect(),
        };
        let (trusted, timing) = (config.proxy.trusted.clone(), *timing);
        Some(Arc::new(Self { table, mounts, trusted, metrics, hops, timing }))
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
        let request_id = RequestId::random();
        tracing::debug!(%request_id, reason, path = request.uri().path(), "a path is refused");
        self.metrics.refused(reason);
        refusal(StatusCode::BAD_REQUEST, request.headers().get(header::ACCEPT), &request_id)
    }

    /// Returns whether a service of this program answers, which may ask for the address of the client.
    pub(crate) fn is_service(&self, mount: usize) -> bool {
        let target = self.mounts.get(mount).and_then(|mount| mount.target.as_ref());
        matches!(target, Some(MountTarget::Service(_)))
    }

    /// Returns whether the user of a request decides which process or which lane serves it, or its application learns it.
    pub(crate) fn needs_user(&self, mount: usize) -> bool {
        self.mounts.get(mount).is_some_and(|mount| mount.needs_user)
    }

    /// Answers a request that came to the address for other nodes. `allow` is told the longest body of its mount.
    pub(crate) async fn respond_to_node(
        &self,
        mut request: Request<MountBody>,
        body_failure: BodyFailure,
        allow: impl FnOnce(u64),
    ) -> MountResponse {
        let ticket = match self.hops.accept(&mut request).await {
            Ok(ticket) => ticket,
            Err(refused) => {
                let reason = refused.text();
                tracing::warn!(reason, "a request that no node of the cluster has sent is refused");
                self.metrics.refused(reason);
                let failed = |status| refusal(status, None, &RequestId::random());
                return match refused {
                    // the sender has not seen yet that this node has started again or lost its number
                    HopRefusal::OtherNode => no_process(failed(StatusCode::SERVICE_UNAVAILABLE)),
                    _ => failed(StatusCode::FORBIDDEN),
                };
            }
        };
        let mount = self.mounts.iter().find(|mount| mount.path == ticket.mount);
        let Some((mount, proxy)) = mount.and_then(|mount| Some((mount, mount.proxy()?))) else {
            return refusal(StatusCode::NOT_FOUND, None, &RequestId::random());
        };
        allow(mount.max_body);
        let unit = Unit::of(ticket.unit);
        let lane = LaneRef { name: &ticket.lane, is_base: ticket.is_base };
        proxy.respond_to_node(NodeRequest { request, unit, lane, body_failure }).await
    }

    /// Answers a request of a mount.
    pub(crate) async fn respond(&self, index: usize, request: Box<MountRequest>) -> MountResponse {
        let request_id = RequestId::random();
        let Some(mount) = self.mounts.get(index) else {
            return refusal(
                StatusCode::NOT_FOUND,
                request.request.headers().get(header::ACCEPT),
                &request_id,
            );
        };
        let measure = mount.answers.begin();
        let origin = origin(&request.peer, request.request.headers(), &self.trusted);
        let response = mount.respond(ProxyRequest { request, origin, request_id: &request_id }).await;
        measure.end(response.status());
        response
    }
}

impl Mount {
    fn new(
        config: &MountConfig,
        timing: &Timing,
        metrics: &MountMetrics,
        processes: Option<LanedUpstream>,
    ) -> Self {
        Self {
            path: config.path.clone(),
            answers: metrics.answers(&config.path),
            folders: Folders::new(config),
            target: Proxy::new(config, timing, processes).map(MountTarget::Proxy),
            compressed: config.compress.then(Arc::default),
            max_body: config.max_body(),
            needs_user: config.sticky == Sticky::User
                || config.rollout_pool().is_some()
                || knows_identity(config),
            site_pages: None,
        }
    }

    fn proxy(&self) -> Option<&Proxy> {
        match &self.target {
            Some(MountTarget::Proxy(proxy)) => Some(proxy),
            _ => None,
        }
    }

    fn own(own: &OwnMount, metrics: &MountMetrics) -> Self {
        Self {
            path: own.path.clone(),
            answers: metrics.answers(&own.path),
            folders: Folders::default(),
            target: Some(MountTarget::Service(own.service.clone())),
            compressed: own.compress.then(Arc::default),
            max_body: own.max_body,
            needs_user: false,
            site_pages: None,
        }
    }

    /// Answers by a proxy. A poll of a Genropy site may be answered without it, and the answer may have more than that of the
    /// site.
    async fn respond_by(&self, proxy: &Proxy, asked: ProxyRequest<'_>) -> MountResponse {
        let pages = self.site_pages.as_ref().filter(|_| poll::is_poll(&self.path, &asked.request.request));
        match pages {
            // on the heap, because it is larger than every other answer
            Some(pages) => Box::pin(Self::respond_to_poll(pages, proxy, asked)).await,
            None => proxy.respond(asked).await,
        }
    }

    /// Answers a poll of a Genropy site.
    async fn respond_to_poll(pages: &SitePages, proxy: &Proxy, asked: ProxyRequest<'_>) -> MountResponse {
        let ProxyRequest { request, origin, request_id } = asked;
        let failed = |status| refusal(status, None, request_id);
        let (request, poll) = match poll::read(request).await {
            Ok(read) => read,
            Err(status) => return failed(status),
        };
        let site = proxy.respond(ProxyRequest { request, origin, request_id });
        pages.answer(&poll, site).await.unwrap_or_else(failed)
    }

    async fn respond(&self, asked: ProxyRequest<'_>) -> MountResponse {
        let request = &asked.request.request;
        let (method, headers, uri) = (request.method(), request.headers(), request.uri());
        let codings = accepted(headers);
        let response = match (self.folders.serve(method, headers, uri, &codings).await, &self.target) {
            (Some(response), _) => response,
            (None, Some(MountTarget::Proxy(proxy))) => self.respond_by(proxy, asked).await,
            (None, Some(MountTarget::Service(service))) => service.respond(asked).await,
            (None, None) => refusal(StatusCode::NOT_FOUND, headers.get(header::ACCEPT), asked.request_id),
        };
        match &self.compressed {
            Some(files) => compressed(response, codings.first().copied(), files),
            None => response,
        }
    }
}
