//! The single path of every delivery, from this node or another one, to this node or another one.
//!
//! Owns: the nodes of a scope, the acknowledged request to each of them, and this node's own share through the hub.
//! Never: encoding per socket (the hub shares one frame body), or the retry of a message that may have arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pagewire_cluster::id::{Address, Holder, Key, NodeNumber, Scope};
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::peer::{PeerClient, PeerError};
use pagewire_cluster::registry::Registry;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{JobNotification, JobUpdate, ObjectNotice, PageMessage, PushCounts};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::hub::{Hub, LocalPush};
use super::page::PushOutcome;
use crate::protocol::{CommandError, ErrorCode, FrameBody, JobReference};
use crate::telemetry::{self, Metrics};

/// Result of a push in the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushReport {
    /// Pages with an open socket, and pages in their resume window.
    pub reach: PushCounts,
    /// The nodes that replied.
    pub nodes: Vec<NodeNumber>,
    /// The nodes that did not reply: their pages may or may not have received the message.
    pub unreachable: Vec<NodeNumber>,
}

/// Sends messages to pages on any node. Cheap to clone.
#[derive(Clone)]
pub struct Pusher {
    hub: Arc<Hub>,
    registry: Registry,
    lease: NodeLease,
    peers: PeerClient,
    /// How long a delivery waits until this node has applied the rows that the sender has seen.
    view_wait: Duration,
    /// The last applied revision of the view when such a wait timed out.
    stalled_at: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl Pusher {
    /// A pusher that delivers through this node's hub, and through the peer client to other nodes.
    pub fn new(
        hub: Arc<Hub>,
        registry: Registry,
        lease: NodeLease,
        peers: PeerClient,
        timing: Timing,
        metrics: Arc<Metrics>,
    ) -> Self {
        let stalled_at = Arc::new(AtomicU64::new(u64::MAX));
        Self { hub, registry, lease, peers, view_wait: timing.view_wait, stalled_at, metrics }
    }

    /// Sends a message to the pages of a scope.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unavailable`] while this node is cut off from its cluster, [`ErrorCode::TooLarge`] when the message
    /// does not fit into a request between nodes.
    pub async fn send(
        &self,
        to: Scope,
        payload: Box<RawValue>,
        from: Option<Address>,
    ) -> Result<PushReport, CommandError> {
        self.deliver(PageMessage { to, seen: None, payload, from, is_notice: false }).await
    }

    /// Tells a page about its object. `notice` is an [`ObjectNotice`] as JSON.
    ///
    /// # Errors
    ///
    /// Those of [`Pusher::send`].
    pub async fn tell(&self, page: Address, notice: Box<RawValue>) -> Result<PushReport, CommandError> {
        let to = Scope::Page(page);
        self.deliver(PageMessage { to, seen: None, payload: notice, from: None, is_notice: true }).await
    }

    async fn deliver(&self, delivery: PageMessage) -> Result<PushReport, CommandError> {
        let own = self.lease.holder().ok_or_else(CommandError::unavailable)?;
        let started = Instant::now();
        let outcome = match delivery.to {
            Scope::Page(address) => self.send_to_page(own, address, delivery).await,
            _ => self.send_to_scope(own, delivery).await,
        };
        self.metrics.record_push(started.elapsed());
        outcome
    }

    /// Delivers to the pages of this node directly, and to every other node that has pages of the scope with one
    /// request.
    async fn send_to_scope(
        &self,
        own: Holder,
        mut delivery: PageMessage,
    ) -> Result<PushReport, CommandError> {
        let mut others = self.recipients(&mut delivery);
        others.retain(|holder| *holder != own);
        // this node may have seen the row of a page that is not here yet
        self.hub.arrivals.settled(&delivery.to, self.view_wait).await;
        let here = self.local(&delivery);
        let requests =
            others.iter().map(|holder| self.peers.request(*holder, &delivery, telemetry::current_trace()));
        let (here, replies) = tokio::join!(here.await_forwarded(), join_all(requests));
        let mut outcome = PushReport { reach: here, nodes: vec![own.node], unreachable: Vec::new() };
        for (holder, reply) in others.iter().zip(replies) {
            match reply {
                Ok(Some(reach)) => {
                    outcome.reach += reach;
                    outcome.nodes.push(holder.node);
                }
                Err(PeerError::TooLarge) => return Err(too_large()),
                _ => outcome.unreachable.push(holder.node),
            }
        }
        Ok(outcome)
    }

    /// The nodes that have pages of a scope, as far as this node sees. Records the revision of that view in the
    /// delivery.
    fn recipients(&self, delivery: &mut PageMessage) -> Vec<Holder> {
        let view = self.registry.view();
        delivery.seen = Some(view.applied());
        view.candidate_holders(&delivery.to)
    }

    /// Delivers to the node in the page's address. If the page is not there any more, reads its row once and tries once
    /// more.
    async fn send_to_page(
        &self,
        own: Holder,
        address: Address,
        mut delivery: PageMessage,
    ) -> Result<PushReport, CommandError> {
        let first = self.request_page(own, address, &delivery).await?;
        if !matches!(first, Err(PeerError::Gone) | Ok(None)) {
            return Ok(page_outcome(address.node, first));
        }
        let row = self.registry.row(address.key).await?;
        let moved = row.map(|(row, _)| Address { node: row.node, ..address });
        match moved.filter(|moved| *moved != address) {
            None => Ok(page_outcome(address.node, first)),
            Some(moved) => {
                delivery.to = Scope::Page(moved);
                let second = self.request_page(own, moved, &delivery).await?;
                Ok(page_outcome(moved.node, second))
            }
        }
    }

    async fn request_page(
        &self,
        own: Holder,
        address: Address,
        delivery: &PageMessage,
    ) -> Result<Result<Option<PushCounts>, PeerError>, CommandError> {
        if address.node == own.node {
            return Ok(Ok(match self.receive(delivery) {
                Some(pushed) => Some(pushed.await_forwarded().await),
                None => None,
            }));
        }
        match self.peers.request_page(address, delivery, telemetry::current_trace()).await {
            Err(PeerError::TooLarge) => Err(too_large()),
            reply => Ok(reply),
        }
    }

    /// Delivers a message to the pages of this node; `None` when it is for a page that is not here.
    pub fn receive(&self, delivery: &PageMessage) -> Option<LocalPush> {
        match delivery.to {
            Scope::Page(address) if self.hub.page(address.key).is_none() => None,
            _ => Some(self.local(delivery)),
        }
    }

    /// Delivers a job notification to a page of this node; `None` when the page is not here, or not here any more.
    pub fn receive_job(&self, note: &JobNotification) -> Option<LocalPush> {
        let page = self.hub.page(note.page)?;
        let tail = FrameBody::job(note);
        let outcome = match note.news {
            JobUpdate::Progress(_) => page.push_job_update(note.job, note.frame.get(), &tail),
            JobUpdate::Ended(_) => page.deliver_job_result(note.job, note.frame.get(), &tail),
        };
        if matches!(outcome, PushOutcome::Missed) {
            return None;
        }
        let mut pushed = LocalPush::default();
        pushed.count(outcome);
        Some(pushed)
    }

    /// Pushes frames that arrived at the old holder of a page of this node; `None` when the page is not here.
    pub fn receive_forwarded(&self, page: Key, frames: &[Box<RawValue>]) -> Option<LocalPush> {
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

    fn local(&self, delivery: &PageMessage) -> LocalPush {
        let topic = match &delivery.to {
            Scope::Topic(topic) => Some(topic.as_str()),
            _ => None,
        };
        let notice = || serde_json::from_str::<ObjectNotice>(delivery.payload.get()).ok();
        let body = match delivery.is_notice.then(notice).flatten() {
            Some(notice) => FrameBody::resident(&notice),
            None => FrameBody::message(&delivery.payload, delivery.from, topic),
        };
        self.hub.push(&delivery.to, delivery.seen, &body)
    }

    /// Whether this node has applied the rows that the sender of a message has seen, and has their pages.
    pub fn has_applied(&self, delivery: &PageMessage) -> bool {
        delivery.seen.is_none_or(|seen| seen <= self.registry.view().applied())
            && !self.hub.arrivals.concern(&delivery.to)
    }

    /// Waits until this node has applied the rows that the sender has seen, because only then it knows which pages the
    /// sender counts at another node. If the wait times out, a page that is moving at that moment may get the message
    /// twice. Later deliveries do not wait until this node has applied another row.
    pub async fn wait_for_view(&self, delivery: &PageMessage) {
        self.wait_for_rows(delivery).await;
        self.hub.arrivals.settled(&delivery.to, self.view_wait).await;
    }

    async fn wait_for_rows(&self, delivery: &PageMessage) {
        let applied = self.registry.view().applied();
        let Some(seen) = delivery.seen.filter(|seen| *seen > applied) else { return };
        if self.stalled_at.load(Ordering::Relaxed) != applied
            && timeout(self.view_wait, self.registry.reached(seen)).await.is_err()
        {
            self.stalled_at.store(self.registry.view().applied(), Ordering::Relaxed);
        }
    }
}

fn page_outcome(node: NodeNumber, reply: Result<Option<PushCounts>, PeerError>) -> PushReport {
    match reply {
        Ok(Some(reach)) => PushReport { reach, nodes: vec![node], unreachable: Vec::new() },
        // the node replied for its pages: it does not hold this one
        Ok(None) => PushReport { nodes: vec![node], ..PushReport::default() },
        Err(_) => PushReport { unreachable: vec![node], ..PushReport::default() },
    }
}

fn too_large() -> CommandError {
    CommandError::new(ErrorCode::TooLarge, "the message is too large to travel between nodes")
}
