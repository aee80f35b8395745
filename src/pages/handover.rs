//! Pages that move between living nodes: both sides of the hand-over.
//!
//! The new holder has won the row before it asks; the old one freezes its copy before it answers (`page/moving`
//! holds the states). Before the client hears of its new socket, the row forgets the old holder: from then on only
//! the new one numbers frames, and nobody asks the old one again.

use std::sync::Arc;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::id::{Address, Holder, Key, NodeNumber};
use pagewire_cluster::peer::PeerError;
use pagewire_cluster::registry::{Expirable, PageRow, RegistryEvent};
use pagewire_cluster::wire::{HandedOver, PeerRequest, PeerResponse, Scope};
use serde_json::value::RawValue;

use super::hub::LocalPush;
use super::open::{Opened, RESUME_CONFLICT, UNREGISTERED};
use super::page::{AttachKind, AttachmentId, ForwardedFrame, Forwarding, Handover, Page};
use super::sessions::Sessions;
use crate::protocol::{Close, FrameBody, JobReference};
use crate::telemetry;

/// How often a frame for a moved page is sent again when its new node has no connection.
const FORWARDS: u32 = 8;

impl Sessions {
    /// Gets the page from its old holder and gives it to the socket. An old holder that does not answer in time
    /// means a reset.
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
                // its frames are here and nowhere else: it waits for the client's next resume
                self.watching.arrived(&page);
                page.wait();
                self.keep_for_window(&page, AttachmentId::NONE);
            } else {
                // another node was faster, or the cluster is gone: the client's next resume decides
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

    /// From here on the page is nobody else's.
    async fn forget_old_holder(
        &self,
        holder: Holder,
        page: &Arc<Page>,
        row: PageRow,
    ) -> Result<(), WriteError> {
        loop {
            // it may have got a user meanwhile
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
        let question = PeerRequest::Handover { page: page.key(), to: own.node, generation, rev, seq };
        let answer = self.post.ask(old, &question, telemetry::current_trace());
        match tokio::time::timeout(self.timing.handover, answer).await {
            Ok(Ok(PeerResponse::HandedOver(handed))) => Some(handed),
            Ok(Ok(PeerResponse::Incomplete | PeerResponse::Unknown)) => None,
            other => {
                tracing::info!(node = %old.node, ?other, "the old holder of a page does not hand it over");
                None
            }
        }
    }

    /// Whether the holder of a page knows that its client has the newest token. A holder that does not answer
    /// cannot say so.
    pub(super) async fn is_confirmed(&self, page: Key, row: &PageRow) -> bool {
        let holder = Holder { node: row.node, epoch: row.epoch };
        if !self.registry.view().lives(holder) {
            return false;
        }
        let answer = self.post.ask(holder, &PeerRequest::Ask { page }, telemetry::current_trace()).await;
        matches!(answer, Ok(PeerResponse::Standing { generation, confirmed }) if generation == row.generation && confirmed)
    }

    /// How a page stands, for another node.
    pub fn standing(&self, page: Key) -> PeerResponse {
        self.hub.page(page).filter(|page| page.is_owned()).map_or(PeerResponse::Unknown, |page| {
            let standing = page.standing();
            // nobody has the token of a generation whose row was written without an answer
            let confirmed = standing.confirmed && standing.told == standing.generation;
            PeerResponse::Standing { generation: standing.generation, confirmed }
        })
    }

    /// Another node has won the row of a page: it gets the frames and, for the resume window, what still arrives.
    pub fn hand_over(
        self: &Arc<Self>,
        page: Key,
        to: NodeNumber,
        generation: u32,
        rev: u64,
        seq: u64,
    ) -> PeerResponse {
        let Some(page) = self.hub.page(page) else { return PeerResponse::Unknown };
        match self.freeze(page, to, generation, rev, seq) {
            Some(Handover::Complete(handed)) => PeerResponse::HandedOver(handed),
            Some(Handover::Incomplete) => PeerResponse::Incomplete,
            None => PeerResponse::Unknown,
        }
    }

    /// What the registry has heard. Pages of what is ending go, also those that nobody asked this node for.
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

    /// A connection has become a user's, perhaps by a login at another node.
    fn notice_owner(self: &Arc<Self>, connection: Key, user: String) {
        if self.hub.has_pages(&Scope::Connection(connection)) {
            let this = self.clone();
            tokio::spawn(async move { this.identify_here(connection, &Arc::from(user)).await });
        }
    }

    /// Whoever unregistered the page could not ask this node.
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

    /// A row was written. If it gives a page to another node that this one still counts as its own, the question
    /// for it was lost: the client has been told of a reset, and what still arrives here is forwarded.
    fn notice_row(self: &Arc<Self>, page: Key, row: &PageRow, rev: u64) {
        if self.lease.holder().is_some_and(|own| own.node != row.node)
            && let Some(page) = self.hub.page(page)
        {
            page.mark_released(rev, row.generation);
            // on its way: the question is, too
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

    /// Frames that arrived at the old holder of a page of this node; `None` when it is not here.
    pub fn forwarded(&self, page: Key, frames: &[Box<RawValue>]) -> Option<LocalPush> {
        let page = self.hub.page(page)?;
        let mut pushed = LocalPush::default();
        for frame in frames {
            let Some(tail) = FrameBody::from_frame(frame) else { continue };
            pushed.count(match JobReference::read(frame) {
                // another way may have brought it here before
                Some(about) if about.is_end() => page.deliver_job_result(about.job, about.id.get(), &tail),
                about => {
                    // it was submitted at the old node while the page moved
                    if let Some(about) = about.filter(JobReference::is_accepted) {
                        page.track_job(about.job, about.id.get());
                    }
                    page.push(&tail)
                }
            });
        }
        Some(pushed)
    }

    /// One message after the other, so that frames stay in order.
    async fn forward(self: Arc<Self>, page: Key, mut forwarding: Forwarding) {
        let address = Address { key: page, node: forwarding.to };
        while let Some(ForwardedFrame { tail, met }) = forwarding.frames.recv().await {
            let frames = tail.to_frame().into_iter().collect();
            let question = PeerRequest::Forward { page, frames };
            let mut answer = self.post.ask_page(address, &question, telemetry::current_trace()).await;
            for _ in 0..FORWARDS {
                if !matches!(answer, Err(PeerError::Gone)) {
                    break;
                }
                // that node has no connection now: nothing has arrived, so that it may be sent again
                tokio::time::sleep(self.timing.handover / 4).await;
                answer = self.post.ask_page(address, &question, telemetry::current_trace()).await;
            }
            match answer {
                Ok(PeerResponse::Delivered(reach)) => drop(met.send(reach)),
                other => tracing::warn!(node = %address.node, ?other, "a frame for a moved page is lost"),
            }
        }
    }

    /// The old address is good for the resume window.
    async fn drop_frozen_after_window(self: Arc<Self>, page: Arc<Page>) {
        tokio::time::sleep(self.options.resume_window).await;
        page.leave(None, RESUME_CONFLICT);
        self.hub.remove(&page);
    }
}
