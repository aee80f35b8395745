//! Both sides of the handover of a page between live nodes.
//!
//! Owns: the request for a page and its reply, and the frames that still arrive at the old holder. Never: a socket, or
//! the decision which node wins the row.
//!
//! The new holder wins the row before it sends the request. The old holder freezes its copy before it replies
//! (`page/migration` has the states). Before the client is notified of its new socket, the row drops the old holder:
//! from then on only the new holder numbers frames, and no node requests the page from the old holder again.

use std::sync::Arc;

use pagewire_cluster::id::{Address, Holder, Key, NodeNumber};
use pagewire_cluster::peer::{PeerClient, PeerError};
use pagewire_cluster::registry::PageRow;
use pagewire_cluster::wire::{
    ForwardedFrames, HandedOver, HandoverReply, HandoverRequest, PageStatus, PageStatusQuery,
};

use super::close::PageCloser;
use super::page::{AttachKind, AttachmentId, ForwardedFrame, Forwarding, Handover, Page, idle};
use super::refusal::{RESUME_CONFLICT, refused};
use super::rows::RowError;
use super::store::PageStore;
use crate::protocol::Close;
use crate::telemetry;

/// Maximum attempts to resend a frame of a moved page while its new node has no connection.
const FORWARDS: u32 = 8;

/// Moves pages between this node and others.
pub struct PageMigrator {
    pub(super) store: Arc<PageStore>,
    pub(super) peers: PeerClient,
    pub(super) closer: Arc<PageCloser>,
}

impl PageMigrator {
    /// Takes the page over from its old holder. Returns how its socket attaches: if the old holder does not reply in
    /// time, the page is reset.
    pub(super) async fn take_over(
        &self,
        holder: Holder,
        page: &Arc<Page>,
        old: Holder,
        row: PageRow,
        seq: u64,
    ) -> Result<AttachKind, Close> {
        let handed = self.request_handover(page, holder, old, row.generation, seq).await;
        let installed = handed.is_some_and(|handed| page.install(&handed));
        if let Err(error) = self.clear_old_holder(holder, page, row).await {
            let lost = error == RowError::Lost;
            if installed && !lost {
                // the frames exist only on this node: the page waits for the client's next resume
                self.store.watching.arrived(page);
                page.wait();
                self.closer.keep_for_window(page, AttachmentId::NONE);
            } else {
                // another node was faster, or the cluster is unavailable: the client's next resume decides
                let generation = page.version().generation;
                page.leave(None, RESUME_CONFLICT);
                self.store.hub.remove(page);
                if !lost {
                    self.store.remove_unclaimed_row(page.key(), generation, false);
                }
            }
            return Err(refused(error, &self.store.timing));
        }
        self.store.watching.arrived(page);
        Ok(if installed { AttachKind::Resumed { seq } } else { AttachKind::Elsewhere })
    }

    /// Rewrites the row without the old holder, so that only this node owns the page.
    async fn clear_old_holder(&self, holder: Holder, page: &Arc<Page>, row: PageRow) -> Result<(), RowError> {
        loop {
            // the page may have got a user meanwhile
            let (known, place) = (page.version(), page.place());
            let settled = self.store.row(holder, known.generation, &place, page.opened(), &row.agent);
            match self.store.write_row(page, &known, &settled).await {
                Ok(rev) => {
                    page.set_row(rev, known.generation, known.user);
                    return Ok(());
                }
                Err(RowError::Changed) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn request_handover(
        &self,
        page: &Page,
        own: Holder,
        old: Holder,
        generation: u32,
        seq: u64,
    ) -> Option<HandedOver> {
        let rev = page.version().rev;
        let request = HandoverRequest { page: page.key(), to: own.node, generation, rev, seq };
        let reply = self.peers.request(old, &request, telemetry::current_trace());
        match tokio::time::timeout(self.store.timing.handover, reply).await {
            Ok(Ok(HandoverReply::Complete(handed))) => Some(handed),
            Ok(Ok(HandoverReply::Incomplete | HandoverReply::Unknown)) => None,
            other => {
                tracing::info!(node = %old.node, ?other, "the old holder of a page does not hand it over");
                None
            }
        }
    }

    /// Whether the holder of a page knows that its client has the newest token. `false` when the holder does not reply.
    pub(super) async fn is_confirmed(&self, page: Key, row: &PageRow) -> bool {
        let holder = Holder { node: row.node, epoch: row.epoch };
        if !self.store.registry.view().is_alive(holder) {
            return false;
        }
        let reply = self.peers.request(holder, &PageStatusQuery { page }, telemetry::current_trace()).await;
        reply == Ok(Some(PageStatus { generation: row.generation, confirmed: true }))
    }

    /// The generation of a page and whether its token is confirmed, for another node.
    pub fn status(&self, page: Key) -> Option<PageStatus> {
        let known = self.store.hub.page(page).filter(|page| page.is_owned())?.version();
        // no client has the token of a generation when the result of its row write was lost
        let confirmed = known.confirmed && known.issued == known.generation;
        Some(PageStatus { generation: known.generation, confirmed })
    }

    /// Hands a page over to another node that has won its row. That node gets the frames and, during the resume window,
    /// the frames that still arrive here. The page leaves at once. The reply follows when the command in progress has
    /// ended, so that its effects come before those of the frames that the other node processes.
    pub fn hand_over(
        self: &Arc<Self>,
        request: &HandoverRequest,
    ) -> impl Future<Output = HandoverReply> + Send + use<> {
        let HandoverRequest { page, to, generation, rev, seq } = *request;
        let page = self.store.hub.page(page);
        let frozen = page.clone().and_then(|page| self.freeze(page, to, generation, rev, seq));
        let within = self.store.timing.handover / 2;
        async move {
            if let Some(page) = page.filter(|_| frozen.is_some()) {
                // a longer command goes on, and its effects may come later
                let _ = tokio::time::timeout(within, idle(&page)).await;
            }
            match frozen {
                Some(Handover::Complete(handed)) => HandoverReply::Complete(handed),
                Some(Handover::Incomplete) => HandoverReply::Incomplete,
                None => HandoverReply::Unknown,
            }
        }
    }

    /// Applies a row write. If the row gives the page to another node and this node still holds the page, then the
    /// handover request was lost. The client has already received a reset, so frames that still arrive here are
    /// forwarded.
    pub(super) fn on_row(self: &Arc<Self>, page: Key, row: &PageRow, rev: u64) {
        if self.store.lease.holder().is_some_and(|own| own.node != row.node)
            && let Some(page) = self.store.hub.page(page)
        {
            page.mark_released(rev, row.generation);
            // while `prev` is set, the handover request is still in flight
            if row.prev.is_none() {
                self.freeze(page, row.node, row.generation, rev, u64::MAX);
            }
        }
    }

    pub(super) fn freeze(
        self: &Arc<Self>,
        page: Arc<Page>,
        to: NodeNumber,
        generation: u32,
        rev: u64,
        seq: u64,
    ) -> Option<Handover> {
        let (handover, forwarding) = page.freeze(to, generation, rev, seq)?;
        self.store.watching.remove_page(page.key());
        tokio::spawn(self.clone().forward(page.key(), forwarding));
        tokio::spawn(self.clone().drop_frozen_after_window(page));
        Some(handover)
    }

    /// Forwards one frame at a time, so that the frames keep their order.
    async fn forward(self: Arc<Self>, page: Key, mut forwarding: Forwarding) {
        let address = Address { key: page, node: forwarding.to };
        while let Some(ForwardedFrame { tail, counts }) = forwarding.frames.recv().await {
            let frames = tail.to_frame().into_iter().collect();
            let request = ForwardedFrames { page, frames };
            let mut reply = self.peers.request_page(address, &request, telemetry::current_trace()).await;
            for _ in 0..FORWARDS {
                if !matches!(reply, Err(PeerError::Gone)) {
                    break;
                }
                // the new node has no connection now: nothing has arrived there, so the frame may be sent again
                tokio::time::sleep(self.store.timing.handover / 4).await;
                reply = self.peers.request_page(address, &request, telemetry::current_trace()).await;
            }
            match reply {
                Ok(Some(reach)) => drop(counts.send(reach)),
                other => tracing::warn!(node = %address.node, ?other, "a frame for a moved page is lost"),
            }
        }
    }

    /// Removes the frozen copy after the resume window. Until then the old address stays valid.
    async fn drop_frozen_after_window(self: Arc<Self>, page: Arc<Page>) {
        tokio::time::sleep(self.store.options.resume_window).await;
        page.leave(None, RESUME_CONFLICT);
        self.store.hub.remove(&page);
    }
}
