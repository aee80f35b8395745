//! Serves the listener from the start of the process. Before the node can take traffic, every request is answered at
//! once (alive, not ready) instead of waiting in the listener's queue.
//!
//! Owns: the connections of the listener, and which router serves them. When the node is ready, its router takes
//! over: each request is served by the router that is set when it arrives, and no connection ends because of the
//! change. Never: the behaviour of a router.

use std::sync::Arc;

use pagewire_cluster::timing::Timing;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::connection_limit::ConnectionLimiter;
use super::current_router::CurrentRouter;
use super::http;
use super::http_limits::HttpLimits;
use super::listener;
use super::mounted::MountedRouter;
use crate::config::Config;
use crate::mount::Mounts;

/// The listener, its connections and its current router.
pub struct StartupServer {
    listener: TcpListener,
    routes: CurrentRouter,
    pub(super) limiter: Arc<ConnectionLimiter>,
    bounds: Arc<HttpLimits>,
    pub(super) stopping: watch::Sender<bool>,
}

impl StartupServer {
    /// A server without connections. `router` serves them until it is replaced.
    pub fn new(
        listener: TcpListener,
        config: &Config,
        timing: Timing,
        router: impl Into<MountedRouter>,
    ) -> Self {
        let limiter = ConnectionLimiter::new(config.limits.connections, config.limits.connections_per_ip);
        listener::bound_send_buffer(&listener, config.limits.send_buffer_bytes);
        let routes = CurrentRouter::new(router.into());
        Self {
            listener,
            routes,
            limiter,
            bounds: Arc::new(HttpLimits::new(config, timing)),
            stopping: watch::Sender::new(false),
        }
    }

    /// A server of requests of other nodes, without connections. One node may have all of them.
    pub(crate) fn internal(
        listener: TcpListener,
        config: &Config,
        timing: Timing,
        mounts: Arc<Mounts>,
    ) -> Self {
        let limits = &config.limits;
        let limiter = ConnectionLimiter::new(limits.connections, limits.connections);
        let routes = CurrentRouter::new(MountedRouter::ForNodes(mounts));
        let bounds = Arc::new(HttpLimits::of_nodes(config, timing));
        let stopping = watch::Sender::new(false);
        Self { listener, routes, limiter, bounds, stopping }
    }

    /// Serves requests of other nodes until `stop`, and then until those that have begun are answered, or for as long as a
    /// drain takes.
    pub(crate) async fn serve_nodes(self, stop: impl Future<Output = ()>) {
        self.serve_until(stop).await;
        let within = self.bounds.timing.drain;
        let limiter = self.close();
        if tokio::time::timeout(within, limiter.wait_until_idle()).await.is_err() {
            tracing::warn!("some requests of other nodes did not end in time");
        }
    }

    /// Serves requests while `work` is in progress. Afterwards open connections stay open, and new ones wait in the
    /// listener's queue.
    pub async fn serve_until<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let accept = listener::accept(
            &self.listener,
            &self.limiter,
            self.bounds.timing.close_timeout,
            |stream, peer| {
                let stopped = self.stopping.subscribe();
                tokio::spawn(http::serve(stream, peer, self.routes.clone(), self.bounds.clone(), stopped));
            },
        );
        tokio::select! {
            done = &mut work => done,
            () = accept => work.await,
        }
    }

    /// Replaces the router. Connections that are already open use the new one for their next request.
    pub(super) fn set_router(&self, router: MountedRouter) {
        self.routes.set(router);
    }

    /// Stops accepting connections. Open connections end when their responses have been sent. Returns the limiter,
    /// which knows when none is left.
    pub(super) fn close(self) -> Arc<ConnectionLimiter> {
        drop(self.listener);
        self.stopping.send_replace(true);
        self.limiter
    }
}
