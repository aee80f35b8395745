//! Sends pages of this node to other nodes, in batches.
//!
//! Owns: which pages leave, and how fast. Never: where they go (`placement`), or their frames (`migrate`, `page`).
//!
//! A client that knows `move` opens a second socket at the other node, which takes the page over, while the first one
//! serves the page until then. Another client gets a close with an advised delay. The next batch begins when the pages of
//! the one before have left, so that the pages leave as fast as the other nodes take them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pagewire_cluster::id::Holder;
use pagewire_cluster::peer::{PeerClient, PeerError};
use pagewire_cluster::wire::DrainNode;
use tokio::sync::Notify;

use super::page::{Page, SendAway, knows_move, send_away};
use super::placement::{LaneNodes, MoveTarget};
use super::store::PageStore;
use crate::protocol::{Close, CloseCode, FrameBody};
use crate::telemetry;

/// Minimum number of pages in a batch.
const BATCH: usize = 200;
/// Maximum number of batches: with more pages, the batches are larger.
const BATCHES: usize = 50;
/// Number of pages per second over which the moves of a batch are spread.
const RATE: f64 = 4_000.0;
/// Checks for pages that have left, per longest wait for a batch.
const CHECKS: u32 = 100;

const DRAINED: Close = Close::new(CloseCode::Draining, "");
const LANE_CLOSED: Close = Close::new(CloseCode::Draining, "this lane is closed");

/// Sends pages to other nodes.
pub struct PageRelocator {
    pub(super) store: Arc<PageStore>,
    pub(super) peers: PeerClient,
    draining: AtomicBool,
    requested: Notify,
}

impl PageRelocator {
    pub(super) fn new(store: Arc<PageStore>, peers: PeerClient) -> Self {
        Self { store, peers, draining: AtomicBool::new(false), requested: Notify::new() }
    }

    /// Orders a node, which may be this one, to drain and stop.
    ///
    /// # Errors
    ///
    /// [`PeerError`] when the node does not reply.
    pub async fn drain_node(&self, holder: Holder) -> Result<(), PeerError> {
        if self.store.lease.holder() == Some(holder) {
            self.request_drain();
            return Ok(());
        }
        self.peers.request(holder, &DrainNode {}, telemetry::current_trace()).await
    }

    /// Orders this node to drain and stop.
    pub fn request_drain(&self) {
        self.requested.notify_one();
    }

    /// Resolves when this node is to drain and stop.
    pub async fn drain_requested(&self) {
        self.requested.notified().await;
    }

    /// Sends all pages away, because this node drains, and returns when those that can move have left or `within` is over.
    /// Returns at once when no other node takes pages.
    pub async fn leave_node(&self, within: Duration) {
        self.draining.store(true, Ordering::Release);
        if self.store.placement.other_nodes().is_empty() {
            return;
        }
        let target =
            |page: &Page, nodes: &LaneNodes| Some(self.store.placement.out_of_draining_node(page, nodes));
        let left = async {
            let mut late = self.send_in_batches(self.store.pages(), DRAINED, target).await;
            self.wait_until_left(&mut late).await;
        };
        if tokio::time::timeout(within, left).await.is_err() {
            tracing::info!("some pages have not moved in time; their sockets are closed");
        }
    }

    /// Sends the pages away whose lane the rollout has taken back, if a node of their present lane takes them. A client that
    /// does not know `move` is sent away only `once`: it may come back to this node, which then serves it.
    pub async fn leave_closed_lane(&self, once: bool) {
        if self.draining.load(Ordering::Acquire) {
            return;
        }
        let target = |page: &Page, nodes: &LaneNodes| {
            let target = self.store.placement.out_of_closed_lane(page, nodes)?;
            (once || knows_move(page)).then_some(Some(target))
        };
        let nodes = self.store.placement.other_nodes();
        let mut leaving = self.store.pages();
        leaving.retain(|page| target(page, &nodes).is_some());
        if !leaving.is_empty() {
            tracing::info!(pages = leaving.len(), "pages leave, because their lane was taken back");
            self.send_in_batches(leaving, LANE_CLOSED, target).await;
        }
    }

    /// Sends pages away, one batch after the other. `target` decides when a batch begins where a page goes: `Some(None)` is
    /// any node that its client finds, and `None` means that it stays. Returns the pages that can move and have not left
    /// yet.
    async fn send_in_batches(
        &self,
        leaving: Vec<Arc<Page>>,
        close: Close,
        target: impl Fn(&Page, &LaneNodes) -> Option<Option<MoveTarget>>,
    ) -> Vec<Arc<Page>> {
        let timing = self.store.timing;
        let mut late = Vec::new();
        for batch in leaving.chunks(BATCH.max(leaving.len().div_ceil(BATCHES))) {
            let nodes = self.store.placement.other_nodes();
            let spread = Duration::from_secs_f64(batch.len() as f64 / RATE);
            let mut moving: Vec<Arc<Page>> = Vec::with_capacity(batch.len());
            for page in batch {
                let Some(target) = target(page, &nodes) else { continue };
                let after = spread.mul_f64(rand::random());
                let url = target.as_ref().map(|target| &*target.url);
                let close = close.after(timing.reconnect_jitter.mul_f64(rand::random()));
                if send_away(page, FrameBody::move_to(url, after), close) == SendAway::Moves {
                    moving.push(page.clone());
                }
            }
            // a page that takes longer delays no other one
            let left = self.wait_until_left(&mut moving);
            let _ = tokio::time::timeout(spread + timing.move_wait, left).await;
            late.append(&mut moving);
        }
        late
    }

    /// Waits until none of these pages has a socket here, and removes those that have none.
    async fn wait_until_left(&self, pages: &mut Vec<Arc<Page>>) {
        pages.retain(|page| page.is_live());
        while !pages.is_empty() {
            tokio::time::sleep(self.store.timing.move_wait / CHECKS).await;
            pages.retain(|page| page.is_live());
        }
    }
}
