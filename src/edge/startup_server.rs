//! The way in, from the first moment of a process: before a node can take traffic, whoever asks is answered at once that
//! it lives and is not ready, instead of waiting in the listener's queue.
//!
//! Owns: the listener's connections and which router answers on them. A node that has come up takes them over: each
//! request goes to the router that stands when it comes, and no connection ends because of that. Never: what a
//! router does.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use pagewire_cluster::timing::Timing;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::connection_limit::ConnectionLimiter;
use super::http::{self, HttpLimits};
use super::listener;
use crate::config::Config;

/// The router that answers now. All clones change together.
#[derive(Clone)]
pub(super) struct CurrentRouter(Arc<RwLock<Router>>);

impl CurrentRouter {
    /// The router for a request that has just come.
    pub(super) fn now(&self) -> Router {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = router;
    }
}

/// The connections of a listener.
pub struct StartupServer {
    listener: TcpListener,
    routes: CurrentRouter,
    pub(super) gate: Arc<ConnectionLimiter>,
    bounds: HttpLimits,
    pub(super) stopping: watch::Sender<bool>,
}

impl StartupServer {
    /// No connections yet; `router` answers until another one does.
    pub fn new(listener: TcpListener, config: &Config, timing: Timing, router: Router) -> Self {
        let gate = ConnectionLimiter::new(config.limits.connections, config.limits.connections_per_ip);
        listener::bound_send_buffer(&listener, config.limits.send_buffer_bytes);
        let routes = CurrentRouter(Arc::new(RwLock::new(router)));
        Self {
            listener,
            routes,
            gate,
            bounds: HttpLimits::new(config, timing),
            stopping: watch::Sender::new(false),
        }
    }

    /// Answers while `work` is in progress. Connections stay, and new ones wait in the listener's queue.
    pub async fn serve_until<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let accept =
            listener::accept(&self.listener, &self.gate, self.bounds.timing.close_timeout, |stream, peer| {
                let stopped = self.stopping.subscribe();
                tokio::spawn(http::serve(stream, peer, self.routes.clone(), self.bounds, stopped));
            });
        tokio::select! {
            done = &mut work => done,
            () = accept => work.await,
        }
    }

    /// From here on `router` answers, also on connections that are open already.
    pub(super) fn give_to(&self, router: Router) {
        self.routes.set(router);
    }

    /// No connection is accepted any more, and those that are open end when their answers are sent.
    pub(super) fn close(self) -> Arc<ConnectionLimiter> {
        drop(self.listener);
        self.stopping.send_replace(true);
        self.gate
    }
}
