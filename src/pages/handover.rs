//! Both sides of the handover of a page between live nodes.
//!
//! The new holder wins the row before it sends the request. The old holder freezes its copy before it replies
//! (`page/migration` has the states). Before the client is notified of its new socket, the row drops the old holder:
//! from then on only the new holder numbers frames, and no node requests the page from the old holder again.

use std::sync::Arc;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::id::{Address, Holder, Key, NodeNumber, Scope};
use pagewire_cluster::peer::PeerError;
use pagewire_cluster::registry::{Expirable, PageRow, RegistryEvent};
use pagewire_cluster::wire::{
    ForwardedFrames, HandedOver, HandoverReply, HandoverRequest, PageStatus, PageStatusQuery,
};
use serde_json::value::RawValue;

use super::hub::LocalPush;
use super::open::{Opened, RESUME_CONFLICT, UNREGISTERED};
use super::page::{AttachKind, AttachmentId, ForwardedFrame, Forwarding, Handover, Page};
use super::sessions::Sessions;
use crate::protocol::{Close, FrameBody, JobReference};
use crate::telemetry;

/// Maximum attempts to resend a frame of a moved page while its new node has no connection.
const FORWARDS: u32 = 8;

impl Sessions {
    /// Takes the page over from its old holder and gives it to the socket. If the old holder does not reply in time,
    /// the page is reset.
    pub(super) async fn take_over(
        self: &Arc<Self>,
        holder: Holder,
        page: Arc<Page>,
        old: Holder,
        row: PageRow,
        seq: u64,
    ) -> Result<Opened, Close> {
        let handed = self.ask_for(&page, holder, old, row.generation, seq).await;
        let installed = handed.is_some_and(|handed| page.install(&handed));
        if let Err(error) = self.forget_old_holder(holder, &page, row).await {
            let conflict = matches!(error, WriteError::Conflict { .. });
            if installed && !conflict {
                // the frames exist only on this node: the page waits for the client's next resume
                self.watching.arrived(&page);
                page.wait();
                self.keep_for_window(&page, AttachmentId::NONE);
            } else {
                // another node was faster, or the cluster is unavailable: the client's next resume decides
                let generation = page.standing().generation;
                page.leave(None, RESUME_CONFLICT);
                self.hub.remove(&page);
                if !conflict {
                    self.disown(page.key(), generation, false);
                }
            }
            return Err(self.refused(error));
        }
        self.watching.arrived(&page);
        let arrival = if installed { AttachKind::Resumed { seq } } else { AttachKind::Elsewhere };
        self.attach(holder, page, arrival).ok_or(RESUME_CONFLICT)
    }

    /// Rewrites the row without the old holder, so that only this node owns the page.
    async fn forget_old_holder(
        &self,
        holder: Holder,
        page: &Arc<Page>,
        row: PageRow,
    ) -> Result<(), WriteError> {
        loop {
            // the page may have got a user meanwhile
            let (standing, place) = (page.standing(), page.place());
            let settled = self.row(holder, standing.generation, &place, page.opened(), &row.agent);
            match self.registry.write(page.key(), &settled, Precondition::Rev(standing.rev)).await {
                Ok(rev) => {
                    page.set_row(rev, standing.generation, standing.user);
                    return Ok(());
                }
                Err(conflict @ WriteError::Conflict { .. }) => {
                    if !self.knows_better(page, &standing).await.map_err(|Unavailable| WriteError::Down)? {
                        return Err(conflict);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask_for(
        &self,
        page: &Page,
        own: Holder,
        old: Holder,
        generation: u32,
        seq: u64,
    ) -> Option<HandedOver> {
        let rev = page.standing().rev;
        let request = HandoverRequest { page: page.key(), to: own.node, generation, rev, seq };
        let answer = self.post.ask(old, &request, telemetry::current_trace());
        match tokio::time::timeout(self.timing.handover, answer).await {
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
        if !self.registry.view().lives(holder) {
            return false;
        }
        let answer = self.post.ask(holder, &PageStatusQuery { page }, telemetry::current_trace()).await;
        answer == Ok(Some(PageStatus { generation: row.generation, confirmed: true }))
    }

    /// The generation of a page and whether its token is confirmed, for another node.
    pub fn status(&self, page: Key) -> Option<PageStatus> {
        let standing = self.hub.page(page).filter(|page| page.is_owned())?.standing();
        // no client has the token of a generation when the result of its row write was lost
        let confirmed = standing.confirmed && standing.told == standing.generation;
        Some(PageStatus { generation: standing.generation, confirmed })
    }

    /// Hands a page over to another node that has won its row. That node gets the frames and, during the resume window,
    /// the frames that still arrive here.
    pub fn hand_over(self: &Arc<Self>, request: &HandoverRequest) -> HandoverReply {
        let HandoverRequest { page, to, generation, rev, seq } = *request;
        let frozen = self.hub.page(page).and_then(|page| self.freeze(page, to, generation, rev, seq));
        match frozen {
            Some(Handover::Complete(handed)) => HandoverReply::Complete(handed),
            Some(Handover::Incomplete) => HandoverReply::Incomplete,
            None => HandoverReply::Unknown,
        }
    }

    /// Applies a registry event. Closes the pages of an ending session or connection, including pages that this node
    /// was not asked to close.
    pub fn on_registry_event(self: &Arc<Self>, news: RegistryEvent) {
        let scope = match news {
            RegistryEvent::Page(page, row, rev) => return self.notice_row(page, &row, rev),
            RegistryEvent::Unregistered(page, rev) => return self.notice_unregistered(page, rev),
            RegistryEvent::Owned(connection, user) => return self.notice_owner(connection, user),
            RegistryEvent::Ending(Expirable::Session(key)) => Scope::Session(key),
            RegistryEvent::Ending(Expirable::Connection(key)) => Scope::Connection(key),
        };
        if self.hub.has_pages(&scope) {
            let this = self.clone();
            tokio::spawn(async move { this.unregister_here(&scope).await });
        }
    }

    /// Assigns the pages of a connection to the user that it now belongs to, perhaps after a login at another node.
    fn notice_owner(self: &Arc<Self>, connection: Key, user: String) {
        if self.hub.has_pages(&Scope::Connection(connection)) {
            let this = self.clone();
            tokio::spawn(async move { this.identify_here(connection, &Arc::from(user)).await });
        }
    }

    /// Closes a page that another node unregistered while it could not reach this node.
    fn notice_unregistered(&self, page: Key, rev: u64) {
        if let Some(page) = self.hub.page(page)
            && page.is_owned()
            && page.standing().rev < rev
        {
            page.leave(None, UNREGISTERED);
            self.hub.remove(&page);
            self.watching.leave(&page);
        }
    }

    /// Applies a row write. If the row gives the page to another node and this node still holds the page, then the
    /// handover request was lost. The client has already received a reset, so frames that still arrive here are
    /// forwarded.
    fn notice_row(self: &Arc<Self>, page: Key, row: &PageRow, rev: u64) {
        if self.lease.holder().is_some_and(|own| own.node != row.node)
            && let Some(page) = self.hub.page(page)
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
        self.watching.departed(page.key());
        tokio::spawn(self.clone().forward(page.key(), forwarding));
        tokio::spawn(self.clone().drop_frozen_after_window(page));
        Some(handover)
    }

    /// Pushes frames that arrived at the old holder of a page of this node; `None` when the page is not here.
    pub fn forwarded(&self, page: Key, frames: &[Box<RawValue>]) -> Option<LocalPush> {
        let page = self.hub.page(page)?;
        let mut pushed = LocalPush::default();
        for frame in frames {
            let Some(tail) = FrameBody::from_frame(frame) else { continue };
            pushed.count(match JobReference::read(frame) {
                // another path may have delivered this result before
                Some(about) if about.is_end() => page.deliver_job_result(about.job, about.id.get(), &tail),
                about => {
                    // the job was submitted at the old node while the page moved
                    if let Some(about) = about.filter(JobReference::is_accepted) {
                        page.track_job(about.job, about.id.get());
                    }
                    page.push(&tail)
                }
            });
        }
        Some(pushed)
    }

    /// Forwards one frame at a time, so that the frames keep their order.
    async fn forward(self: Arc<Self>, page: Key, mut forwarding: Forwarding) {
        let address = Address { key: page, node: forwarding.to };
        while let Some(ForwardedFrame { tail, met }) = forwarding.frames.recv().await {
            let frames = tail.to_frame().into_iter().collect();
            let request = ForwardedFrames { page, frames };
            let mut answer = self.post.ask_page(address, &request, telemetry::current_trace()).await;
            for _ in 0..FORWARDS {
                if !matches!(answer, Err(PeerError::Gone)) {
                    break;
                }
                // the new node has no connection now: nothing has arrived there, so the frame may be sent again
                tokio::time::sleep(self.timing.handover / 4).await;
                answer = self.post.ask_page(address, &request, telemetry::current_trace()).await;
            }
            match answer {
                Ok(Some(reach)) => drop(met.send(reach)),
                other => tracing::warn!(node = %address.node, ?other, "a frame for a moved page is lost"),
            }
        }
    }

    /// Removes the frozen copy after the resume window. Until then the old address stays valid.
    async fn drop_frozen_after_window(self: Arc<Self>, page: Arc<Page>) {
        tokio::time::sleep(self.options.resume_window).await;
        page.leave(None, RESUME_CONFLICT);
        self.hub.remove(&page);
    }
}
