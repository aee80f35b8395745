//! Migration of a page from one node to another.
//!
//! The old holder freezes the page: the socket closes, no more frames are numbered, and frames that still arrive are
//! forwarded in order. The new holder queues frames that arrive early behind the ones that it installs. So at most one
//! node numbers frames, and no frame is lost, duplicated or reordered. An interrupted migration is not continued: the
//! next one is a reset.

use pagewire_cluster::id::NodeNumber;
use pagewire_cluster::wire::{HandedOver, PushCounts};
use tokio::sync::{mpsc, oneshot};

use super::job_results::TrackedJobs;
use super::ownership::OwnershipWindow;
use super::{HoldState, Page, PushOutcome};
use crate::pages::outbox::OutboxSnapshot;
use crate::pages::state_watch::PageWatch;
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
    pub(in crate::pages) met: oneshot::Sender<PushCounts>,
}

/// Frames to forward to the new holder, in order.
pub(in crate::pages) struct Forwarding {
    pub(in crate::pages) to: NodeNumber,
    pub(in crate::pages) frames: mpsc::UnboundedReceiver<ForwardedFrame>,
}

impl Frozen {
    pub(super) fn forward(&self, tail: &FrameBody) -> PushOutcome {
        let (met, told) = oneshot::channel();
        match self.forward.send(ForwardedFrame { tail: tail.clone(), met }) {
            Ok(()) => PushOutcome::Forwarded(told),
            Err(_) => PushOutcome::Missed,
        }
    }
}

impl Page {
    /// Freezes the page for a holder of a later generation. The row of that holder has the revision `rev`, and its
    /// client has seen everything up to `seq`. `None` when this node does not hold the page, or holds a newer one.
    pub(in crate::pages) fn freeze(
        &self,
        to: NodeNumber,
        generation: u32,
        rev: u64,
        seq: u64,
    ) -> Option<(Handover, Forwarding)> {
        // locked in this order, as in `push_unless_over`
        let ends = self.ends.lock();
        let mut state = self.lock();
        let held = matches!(state.holding, HoldState::Live | HoldState::Closing(_) | HoldState::Detached);
        if !held || state.generation >= generation {
            return None;
        }
        let outbox = std::mem::take(&mut state.outbox);
        let moving = outbox
            .hand_over(seq)
            .and_then(|moving| handed_over(&moving, state.received, &ends, &state.watches));
        let (forward, frames) = mpsc::unbounded_channel();
        let frozen = Frozen { forward };
        if moving.is_none() {
            // the client gets a reset; frames that have not left yet are still valid
            outbox.into_waiting().for_each(|tail| drop(frozen.forward(&tail)));
        }
        state.holding = HoldState::Frozen(frozen);
        state.stay.end(rev);
        drop(state);
        // the old socket finds that the page has left
        self.changed.notify_waiters();
        let handover = moving.map_or(Handover::Incomplete, Handover::Complete);
        Some((handover, Forwarding { to, frames }))
    }

    /// Records the row that gave the page to this node. Other nodes may still take messages for it from senders that
    /// have not seen this row.
    pub(in crate::pages) fn mark_acquired(&self, rev: u64) {
        self.lock().stay = OwnershipWindow::since(Some(rev));
    }

    /// Records a row that gives the page to another node. That node requests the handover.
    pub(in crate::pages) fn mark_released(&self, rev: u64, generation: u32) {
        let mut state = self.lock();
        if state.generation < generation {
            state.stay.end(rev);
        }
    }

    /// Marks the page as waiting for the handover from the old holder; frames that arrive until then queue behind it.
    pub(in crate::pages) fn expect_handover(&self) {
        self.lock().holding = HoldState::Installing;
    }

    /// Installs the state that the old holder handed over; `false` when it cannot be decoded.
    pub(in crate::pages) fn install(&self, handed: &HandedOver) -> bool {
        let tails = |frames: &[Box<_>]| {
            frames.iter().map(|frame| FrameBody::from_frame(frame)).collect::<Option<Vec<_>>>()
        };
        let (Some(sent), Some(waiting)) = (tails(&handed.sent), tails(&handed.waiting)) else { return false };
        if handed.last < sent.len() as u64 {
            return false;
        }
        let mut state = self.lock();
        state.outbox.install(OutboxSnapshot { last: handed.last, sent, waiting });
        state.received = handed.received;
        state.watches = handed.watches.iter().filter_map(PageWatch::from_wire).collect();
        drop(state);
        self.ends.remember(&handed.waits, &handed.ends, handed.partial);
        true
    }
}

fn handed_over(
    moving: &OutboxSnapshot,
    received: u64,
    known: &TrackedJobs,
    watches: &[PageWatch],
) -> Option<HandedOver> {
    let frames = |tails: &[FrameBody]| tails.iter().map(FrameBody::to_frame).collect::<Option<Vec<_>>>();
    let (sent, waiting) = (frames(&moving.sent)?, frames(&moving.waiting)?);
    let watches = watches.iter().map(PageWatch::to_wire).collect();
    let (waits, ends, partial) = known.packed();
    Some(HandedOver { last: moving.last, sent, waiting, received, ends, waits, partial, watches })
}

#[cfg(test)]
mod tests;
