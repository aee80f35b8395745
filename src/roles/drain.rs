//! How long a draining node waits for its pages and their calls.
//!
//! Owns: the wait after the sockets are closed. Never: moving the pages or closing sockets, which the edge does.

use pagewire_cluster::id::Scope;

use super::Node;

/// Checks for pages that are still here, within the time that their clients are to wait.
const POLL_STEPS: u32 = 100;

impl Node {
    /// Waits until other nodes have taken over the pages of this one, at most as long as their clients are to wait, and
    /// until the calls of these pages have ended, which belong to this node. Returns at once when there is no other node.
    pub(super) async fn await_migration(&self) {
        let own = self.lease.holder();
        if self.registry.view().nodes().iter().all(|(holder, _)| Some(*holder) == own) {
            return;
        }
        let within = self.timing.reconnect_jitter + self.timing.handover;
        let closed = async {
            while self.hub.pages(&Scope::All).iter().any(|page| page.is_owned()) {
                tokio::time::sleep(self.timing.reconnect_jitter / POLL_STEPS).await;
            }
        };
        if tokio::time::timeout(within, closed).await.is_err() {
            tracing::info!("some pages were not taken over in time; those that return get a reset");
        }
        let ended = async {
            while !self.context.in_flight.is_empty() {
                tokio::time::sleep(self.timing.reconnect_jitter / POLL_STEPS).await;
            }
        };
        if tokio::time::timeout(self.timing.drain / 4, ended).await.is_err() {
            tracing::info!("some calls did not end in time; their results are lost");
        }
        // other nodes may not have seen the last rows yet: what they send here is forwarded
        tokio::time::sleep(self.timing.hop_drain).await;
    }
}
