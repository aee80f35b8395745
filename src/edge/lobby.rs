//! Before a node can take traffic: whoever asks is answered at once that it lives and is not ready, instead of waiting
//! in the listener's queue.

use std::sync::Arc;

use axum::Router;
use pagewire_cluster::timing::Timing;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::gate::Gate;
use super::http::{self, Bounds};
use super::listener;
use crate::config::Config;

/// What answers meanwhile.
pub struct Lobby {
    router: Router,
    gate: Arc<Gate>,
    bounds: Bounds,
}

impl Lobby {
    /// A lobby where `router` answers.
    pub fn new(config: &Config, timing: Timing, router: Router) -> Self {
        let gate = Gate::new(config.limits.connections, config.limits.connections_per_ip);
        Self { router, gate, bounds: Bounds::new(config, timing) }
    }

    /// Answers on `listener` while `work` is in progress; then connections end and are made again by who needs them.
    pub async fn attend<T>(&self, listener: &TcpListener, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let (leaving, left) = watch::channel(false);
        let accept = listener::accept(listener, &self.gate, self.bounds.timing.goodbye, |stream, peer| {
            tokio::spawn(http::serve(stream, peer, self.router.clone(), self.bounds, left.clone()));
        });
        let done = tokio::select! {
            done = &mut work => done,
            () = accept => work.await,
        };
        leaving.send_replace(true);
        done
    }
}
