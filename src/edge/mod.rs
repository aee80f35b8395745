//! The edge: listener, HTTP, upgrade and one task per socket.
//!
//! Owns: everything between a TCP connection and a frame. Never: the effect of a frame (`command`) or the existence
//! of pages (`pages`). Only this folder and `api` use axum.
//!
//! The path of a connection: `listener` (connection limits) → `http` (limited requests, over `framing`) → `upgrade` → `connection`
//! (one socket) over `socket` (its bytes) over `websocket` (the codec). `heartbeat` pings and closes it. `site_socket` serves the
//! sockets of Genropy sites in the place of `connection`.

mod anonymous_limit;
mod asset;
mod body;
mod client;
mod connection;
mod connection_limit;
mod current_router;
pub mod framing;
pub mod handshake;
mod heartbeat;
mod http;
mod http_call;
mod http_limits;
mod http_page;
mod listener;
mod mounted;
mod origin;
mod rate_limit;
mod site_socket;
mod socket;
mod startup_server;
mod upgrade;
pub mod websocket;
mod welcome;
mod write_timeout;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use pagewire_cluster::timing::Timing;

use self::anonymous_limit::AnonymousLimiter;
use self::client::{BrowserClient, CLIENT_PATH};
use self::heartbeat::Heartbeats;
pub use self::mounted::MountedRouter;
use self::origin::{ForeignOriginLog, Origins};
use self::socket::FrameLimits;
pub use self::startup_server::StartupServer;
use crate::command::Context;
use crate::config::{Config, TrustedNet};
use crate::mount::Mounts;
use crate::telemetry::Metrics;

/// Number of sockets that are closed per second when the node shuts down, so that clients do not all reconnect at once.
const DRAIN_RATE: f64 = 10_000.0;

/// The sockets of a node and the rules for them.
pub struct Edge {
    context: Arc<Context>,
    metrics: Arc<Metrics>,
    timing: Timing,
    path: String,
    welcome: bool,
    client: Arc<BrowserClient>,
    cookie: Option<String>,
    /// The proxies that name the client of a request.
    trusted: Vec<TrustedNet>,
    origins: Origins,
    foreign_origins: ForeignOriginLog,
    allowance: FrameLimits,
    anonymous_limit: AnonymousLimiter,
    /// Calls over HTTP of clients without a user; such a client has no page to count them against.
    anonymous_calls: AnonymousLimiter,
    heartbeats: Heartbeats,
    draining: AtomicBool,
}

impl Edge {
    /// An edge without connections.
    pub fn new(config: &Config, timing: Timing, context: Arc<Context>, metrics: Arc<Metrics>) -> Arc<Self> {
        let websocket = &config.websocket;
        let (ping, timeout) = (websocket.ping_ms, websocket.ping_timeout_ms);
        Arc::new(Self {
            context,
            metrics,
            timing,
            path: websocket.path.clone(),
            welcome: config.welcome,
            client: Arc::new(BrowserClient::new(&websocket.client_origins)),
            cookie: Some(config.auth.cookie.clone()).filter(|name| !name.is_empty()),
            trusted: config.proxy.trusted.clone(),
            origins: Origins::new(
                &websocket.origins,
                &config.node.advertise,
                config.listen.ip().is_loopback(),
            ),
            foreign_origins: ForeignOriginLog::new(timing.log_pause),
            allowance: FrameLimits {
                max_frame: websocket.max_frame,
                frames_per_second: config.limits.frames_per_second,
            },
            anonymous_limit: AnonymousLimiter::new(config.limits.anonymous_pages_per_ip_per_minute),
            anonymous_calls: AnonymousLimiter::new(config.limits.anonymous_pages_per_ip_per_minute),
            heartbeats: Heartbeats::new(Duration::from_millis(ping), Duration::from_millis(timeout)),
            draining: AtomicBool::new(false),
        })
    }

    /// Routes of the edge, to be merged with other routes: the WebSocket path, the browser client and
    /// calls over HTTP. A request that
    /// has no route goes to the welcome page, which therefore takes no path from a route.
    pub fn routes(self: &Arc<Self>) -> Router {
        let client = self.client.clone();
        let rest = if self.welcome { welcome::router() } else { Router::new() };
        Router::new()
            .route(&self.path, get(upgrade::upgrade))
            .route(CLIENT_PATH, get(async move |request: HeaderMap| client.answer(&request).await))
            .route(http_call::PATH, post(http_call::call))
            .route(http_page::PATH, post(http_page::call))
            .with_state(self.clone())
            .fallback_service(rest)
    }

    /// Returns the routes of the node: `native` ones, and the mounts for all other paths.
    pub(crate) fn with_mounts(
        self: &Arc<Self>,
        native: Router,
        mounts: Option<Arc<Mounts>>,
    ) -> MountedRouter {
        match mounts {
            Some(mounts) => MountedRouter::Mounted { native, mounts, edge: self.clone() },
            None => native.into(),
        }
    }

    /// Returns the user of a request to a mount. The web page that sent it may be of any origin: an application that learns
    /// the user protects its forms as it does for its own session cookie.
    fn user_of_mount(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let token = handshake::token(headers, self.cookie.as_deref())?;
        self.context.authenticator.verify(&token).ok()?.identity.user
    }

    /// Serves `router` in `server` until `stop` completes. Then sends the pages to other nodes, for at most a third of
    /// `Timing::drain`, orders every socket that is left to close, and returns when no connection is open or a quarter of
    /// `Timing::drain` has passed. The caller owns the stop signal.
    pub async fn serve(
        &self,
        server: StartupServer,
        router: impl Into<MountedRouter>,
        stop: impl Future<Output = ()>,
    ) {
        listener::raise_nofile_limit(server.limiter.limit());
        server.set_router(router.into());
        server.serve_until(stop).await;
        self.draining.store(true, Ordering::Release);
        let limiter = server.close();
        self.context.pages.relocator.leave_node(self.timing.drain / 3).await;
        let spread = Duration::from_secs_f64(limiter.open() as f64 / DRAIN_RATE);
        self.heartbeats.drain(spread);
        if tokio::time::timeout(spread + self.timing.drain / 4, limiter.wait_until_idle()).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }

    /// Whether the request comes from a web page of a node of this cluster.
    fn is_page_of_cluster(&self, headers: &HeaderMap) -> bool {
        let origin = origin::only_origin(headers);
        origin.is_some_and(|origin| self.context.pages.store.is_origin_of_a_node(origin))
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
