//! Migration of a page from one node to another.
//!
//! Owns: what a page leaves behind at its old node, and what its new node gets. Never: the request between the nodes.
//!
//! The old holder freezes the page: the socket closes, no more frames are numbered, and frames that still arrive are
//! forwarded in order. The new holder queues frames that arrive early behind the ones that it installs. So at most one
//! node numbers frames, and no frame is lost, duplicated or reordered. An interrupted migration is not continued: the
//! next one is a reset.

use pagewire_cluster::id::NodeNumber;
use pagewire_cluster::wire::{HandedOver, PushCounts};
use tokio::sync::{mpsc, oneshot};

use super::job_results::TrackedJobs;
use super::push_outcome::PushOutcome;
use super::watches::{PageWatch, PageWatches};
use crate::pages::outbox::OutboxSnapshot;
use crate::protocol::FrameBody;

/// The remaining part of a page that moved to another node.
#[derive(Debug)]
pub(super) struct Frozen {
    forward: mpsc::UnboundedSender<ForwardedFrame>,
}

/// The state that the new holder of a page gets.
#[derive(Debug)]
pub(in crate::pages) enum Handover {
    /// Everything that the client has missed.
    Complete(HandedOver),
    /// Some of the frames are lost.
    Incomplete,
}

/// A frame for the new holder, and the channel for the counts from there.
#[derive(Debug)]
pub(in crate::pages) struct ForwardedFrame {
    pub(in crate::pages) tail: FrameBody,
    pub(in crate::pages) counts: oneshot::Sender<PushCounts>,
}

/// Frames to forward to the new holder, in order.
pub(in crate::pages) struct Forwarding {
    pub(in crate::pages) to: NodeNumber,
    pub(in crate::pages) frames: mpsc::UnboundedReceiver<ForwardedFrame>,
}

impl Frozen {
    /// The part of a page that stays, and the frames that leave it for the node `to`.
    pub(super) fn new(to: NodeNumber) -> (Self, Forwarding) {
        let (forward, frames) = mpsc::unbounded_channel();
        (Self { forward }, Forwarding { to, frames })
    }

    /// Passes a frame on to the new holder.
    pub(super) fn forward(&self, tail: &FrameBody) -> PushOutcome {
        let (counts, reply) = oneshot::channel();
        match self.forward.send(ForwardedFrame { tail: tail.clone(), counts }) {
            Ok(()) => PushOutcome::Forwarded(reply),
            Err(_) => PushOutcome::Missed,
        }
    }
}

/// The state of a page as another node receives it, without the lanes that it keeps; `None` when a frame cannot be encoded.
pub(super) fn handed_over(
    moving: &OutboxSnapshot,
    received: u64,
    jobs: &TrackedJobs,
    watches: &PageWatches,
) -> Option<HandedOver> {
    let frames = |tails: &[FrameBody]| tails.iter().map(FrameBody::to_frame).collect::<Option<Vec<_>>>();
    let (sent, waiting) = (frames(&moving.sent)?, frames(&moving.waiting)?);
    let watches = watches.list().iter().map(PageWatch::to_wire).collect();
    let (waits, ends, partial) = jobs.to_lists();
    Some(HandedOver {
        last: moving.last,
        sent,
        waiting,
        received,
        ends,
        waits,
        partial,
        watches,
        pins: Default::default(),
    })
}

/// The frames of a page as another node sends them; `None` when a frame cannot be decoded or has no number.
pub(super) fn received_frames(handed: &HandedOver) -> Option<OutboxSnapshot> {
    let bodies = |frames: &[Box<_>]| {
        frames.iter().map(|frame| FrameBody::from_frame(frame)).collect::<Option<Vec<_>>>()
    };
    let (sent, waiting) = (bodies(&handed.sent)?, bodies(&handed.waiting)?);
    let last = handed.last;
    (last >= sent.len() as u64).then_some(OutboxSnapshot { last, sent, waiting })
}

#[cfg(test)]
mod tests;
