//! A whole node from its first listening socket to its last word.

use std::sync::Arc;

use pagewire_cluster::engine::ConnectionState;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::Scope;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Node, StartError};
use crate::api;
use crate::config::Config;
use crate::edge::{Edge, StartupServer};
use crate::telemetry::Metrics;

/// How often a leaving node looks for pages that are still here, while their clients come back.
const POLL_STEPS: u32 = 100;

/// Runs a node until `stop`, then drains it: sockets close with advice to come back elsewhere, the number is given
/// back. The address is taken first, so that a process that cannot serve never claims a number.
pub async fn run(
    mut config: Config,
    timing: Timing,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let address = config.listen.to_string();
    let listen = |source| StartError::Listen { address: address.clone(), source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    config.listen = listener.local_addr().map_err(listen)?;
    if config.node.advertise.is_empty() {
        config.node.advertise = config.local_url();
    }
    let mut stop = std::pin::pin!(stop);
    let lobby = StartupServer::new(listener, &config, timing, api::not_ready());
    let node = tokio::select! {
        node = lobby.serve_until(Node::start(config, timing)) => node?,
        () = &mut stop => return Ok(()),
    };
    tokio::select! {
        () = lobby.serve_until(node.ready.wait()) => node.serve(lobby, stop).await,
        () = &mut stop => {}
    }
    node.stop().await;
    tracing::info!("stopped");
    Ok(())
}

impl Node {
    async fn serve(&self, lobby: StartupServer, stop: impl Future<Output = ()>) {
        let edge = Edge::new(&self.config, self.timing, self.context.clone(), self.metrics.clone());
        let router = edge.routes().merge(api::router(self.parts()));
        let node = self.lease.holder().map(|holder| holder.node.to_string());
        tracing::info!(url = self.config.local_url(), node, cluster = self.config.cluster, "ready");
        let stop = async {
            stop.await;
            self.ready.set(false);
            tracing::info!(pages = self.hub.len(), "stopping: pages are sent elsewhere");
        };
        edge.serve(lobby, router, stop).await;
        self.await_migration().await;
    }

    /// Other nodes ask for the pages that were sent away: this one stays until it has handed them over, as long as their
    /// clients are told to wait at most.
    async fn await_migration(&self) {
        let own = self.lease.holder();
        if self.registry.view().nodes().iter().all(|(holder, _)| Some(*holder) == own) {
            return;
        }
        let within = self.timing.reconnect_jitter + self.timing.handover;
        let gone = async {
            while self.hub.pages(&Scope::All).iter().any(|page| page.is_owned()) {
                tokio::time::sleep(self.timing.reconnect_jitter / POLL_STEPS).await;
            }
        };
        if tokio::time::timeout(within, gone).await.is_err() {
            tracing::info!("not all pages have come to another node; those that do will be told of a reset");
        }
    }

    /// What the API acts on.
    pub(crate) fn parts(&self) -> api::ApiState {
        api::ApiState {
            config: self.config.clone(),
            timing: self.timing,
            context: self.context.clone(),
            hub: self.hub.clone(),
            registry: self.registry.clone(),
            lease: self.lease.clone(),
            ready: self.ready.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// Counts how often the engine came back.
pub(super) async fn count_reconnects(mut link: watch::Receiver<ConnectionState>, metrics: Arc<Metrics>) {
    let mut last = 1;
    loop {
        if let ConnectionState::Up { generation } = *link.borrow_and_update() {
            metrics.nats_reconnects.inc_by(generation.saturating_sub(last));
            last = generation.max(last);
        }
        if link.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_return_of_the_engine_is_counted_even_one_that_was_not_seen() {
        let metrics = Arc::new(Metrics::new("stable", "dev"));
        let (sender, link) = watch::channel(ConnectionState::Up { generation: 1 });
        let counting = tokio::spawn(count_reconnects(link, metrics.clone()));
        sender.send_replace(ConnectionState::Down { since: std::time::Instant::now() });
        sender.send_replace(ConnectionState::Up { generation: 3 });
        drop(sender);
        counting.await.unwrap();
        assert_eq!(metrics.nats_reconnects.get(), 2);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_said_before_anything_else() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = crate::config::load(&crate::config::Sources::default()).unwrap();
        config.listen = taken.local_addr().unwrap();
        let error = run(config, Timing::TEST, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on {}", taken.local_addr().unwrap())));
    }
}
