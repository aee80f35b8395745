//! The state of one page, and every step that changes it. Pure.
//!
//! Owns: who holds the page, and what a frame, a socket, a row or a move does to it. Never: a lock, a task, or the
//! notification of a socket: a step returns whether the socket must be notified.

use pagewire_cluster::id::{Level, NodeNumber};
use pagewire_cluster::state::Path;
use pagewire_cluster::wire::{HandedOver, PageJob};

use super::job_results::{JobFrame, TrackedJobs};
use super::migration::{Forwarding, Frozen, Handover, handed_over, received_frames};
use super::ownership::OwnershipWindow;
use super::push_outcome::{PushEffect, PushOutcome};
use super::row_state::RowState;
use super::seq_prefix::SeqPrefix;
use super::socket::{AttachKind, AttachmentId, DrainOutcome, RegisteredState, SendAway};
use super::watches::{PageWatch, PageWatches};
use crate::pages::outbox::{Budget, EnqueueResult, Outbox, Resumed};
use crate::protocol::{Close, CloseCode, FrameBody, ResumeOutcome};

const REPLACED: Close = Close::new(CloseCode::Replaced, "another socket holds this page");
const SLOW: Close = Close::new(CloseCode::SlowConsumer, "the page does not read fast enough");

/// The holder of the page.
#[derive(Debug)]
pub(super) enum HoldState {
    /// A socket.
    Live,
    /// A socket that must close with this.
    Closing(Close),
    /// No socket; the resume window runs.
    Detached,
    /// No socket yet: this node has won the row and waits for the handover from the old holder.
    Installing,
    /// Another node, which has won the row: frames that still arrive here are forwarded to it.
    Frozen(Frozen),
    /// No holder on this node: the page has left it.
    Gone(Close),
}

impl HoldState {
    /// Whether a socket holds the page.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live | Self::Closing(_))
    }

    /// Whether this node holds the page, with or without a socket.
    pub(super) fn is_owned(&self) -> bool {
        !matches!(self, Self::Frozen(_) | Self::Gone(_))
    }
}

/// Everything of a page that changes.
pub(super) struct PageState {
    pub(super) holding: HoldState,
    /// The number of sockets so far; also the attachment id of the present socket.
    ticket: u64,
    /// The counted frames whose commands are in progress.
    running: u32,
    /// The frames of the client that were counted since the last reset.
    received: u64,
    pub(super) outbox: Outbox,
    budget: Budget,
    pub(super) row: RowState,
    pub(super) window: OwnershipWindow,
    pub(super) jobs: TrackedJobs,
    pub(super) watches: PageWatches,
    /// Whether the client of the present socket knows `move`.
    pub(super) knows_move: bool,
    /// When the client got its newest token, in seconds since the Unix epoch.
    pub(super) token_given: u64,
}

impl PageState {
    /// A page without a socket.
    pub(super) fn new(row: RowState, budget: Budget) -> Self {
        Self {
            holding: HoldState::Detached,
            ticket: 0,
            running: 0,
            received: 0,
            outbox: Outbox::default(),
            budget,
            row,
            window: OwnershipWindow::default(),
            jobs: TrackedJobs::default(),
            watches: PageWatches::default(),
            knows_move: false,
            token_given: 0,
        }
    }

    /// Adds a sequenced frame.
    pub(super) fn push(&mut self, tail: &FrameBody) -> PushEffect {
        let live = match &self.holding {
            HoldState::Live => true,
            HoldState::Closing(_) | HoldState::Detached | HoldState::Installing => false,
            HoldState::Frozen(frozen) => return frozen.forward(tail).into(),
            HoldState::Gone(_) => return PushOutcome::Missed.into(),
        };
        // if frames wait already, the socket has been notified, or takes them before it waits again
        let was_empty = self.outbox.is_empty();
        let pushed = self.outbox.push(tail.clone(), self.budget);
        let slow = live && pushed == EnqueueResult::Overflow;
        if slow {
            self.holding = HoldState::Closing(SLOW);
        }
        let outcome = match (pushed, live) {
            (EnqueueResult::Overflow, _) => PushOutcome::Missed,
            (EnqueueResult::Queued, true) => PushOutcome::Reached,
            (EnqueueResult::Queued, false) => PushOutcome::Held,
        };
        PushEffect { outcome, wakes: live && (was_empty || slow) }
    }

    /// Adds a sequenced frame if a sender with all rows up to `seen` counts the page at this node.
    pub(super) fn push_scoped(&mut self, seen: Option<u64>, tail: &FrameBody) -> PushEffect {
        if self.window.counts(seen) { self.push(tail) } else { PushOutcome::Missed.into() }
    }

    /// Adds a frame about a job unless the result was delivered to the page. A page that has moved on, and a copy that
    /// does not wait for the job, take no frame here: the sender finds the page at its present node, together with its
    /// lists.
    pub(super) fn push_about_job(&mut self, job: PageJob, is_end: bool, tail: &FrameBody) -> PushEffect {
        if !self.holding.is_owned() {
            return PushOutcome::Missed.into();
        }
        let outbox = &self.outbox;
        let decision = self.jobs.decide(&job, || outbox.is_waiting(tail));
        let effect = match decision {
            JobFrame::New => self.push(tail),
            JobFrame::Queued | JobFrame::Repeated if self.holding.is_live() => PushOutcome::Reached.into(),
            JobFrame::Queued | JobFrame::Repeated => PushOutcome::Held.into(),
            JobFrame::NotAwaited => PushOutcome::Missed.into(),
        };
        let delivered = !matches!(effect.outcome, PushOutcome::Missed);
        if is_end && delivered && decision != JobFrame::Repeated {
            self.jobs.end(job);
        }
        effect
    }

    /// Adds the result of a job again after a reset.
    pub(super) fn push_result_again(&mut self, job: PageJob, tail: &FrameBody) -> PushEffect {
        if !self.outbox.is_waiting(tail) {
            self.jobs.clear_uncertain(&job);
        }
        self.push_about_job(job, true, tail)
    }

    /// Adds an update of a watched path. A page that has moved to another node, or has not come yet, gets the update
    /// there.
    pub(super) fn push_update(
        &mut self,
        level: Level,
        path: &Path,
        revision: Option<u64>,
        tail: &FrameBody,
    ) -> PushEffect {
        let moving = matches!(self.holding, HoldState::Frozen(_) | HoldState::Installing);
        if moving || !self.watches.advance(level, path, revision) {
            return PushOutcome::Missed.into();
        }
        self.push(tail)
    }

    /// Adds a frame outside the sequence for the present socket; `false` without one.
    pub(super) fn push_unsequenced(&mut self, tail: FrameBody) -> bool {
        let live = matches!(self.holding, HoldState::Live);
        if live {
            self.outbox.push_unsequenced(tail);
        }
        live
    }

    /// Sends the present socket away: `moving` if its client knows `move`, else the close.
    pub(super) fn send_away(&mut self, moving: FrameBody, close: Close) -> SendAway {
        if !matches!(self.holding, HoldState::Live) {
            return SendAway::NoSocket;
        }
        if self.knows_move {
            self.outbox.push_unsequenced(moving);
            return SendAway::Moves;
        }
        self.holding = HoldState::Closing(close);
        SendAway::Closes
    }

    /// Numbers frames and passes them to the socket in order, up to about `budget` bytes.
    pub(super) fn take(
        &mut self,
        ticket: AttachmentId,
        budget: usize,
        write: &mut dyn FnMut(&[u8], &FrameBody),
    ) -> DrainOutcome {
        match self.holding {
            HoldState::Gone(close) if self.ticket == ticket.0 => return DrainOutcome::Close(close),
            HoldState::Closing(close) if self.ticket == ticket.0 => return DrainOutcome::Close(close),
            HoldState::Frozen(_) => return DrainOutcome::Close(REPLACED),
            _ if self.ticket != ticket.0 => return DrainOutcome::Close(REPLACED),
            _ => {}
        }
        let mut written = 0;
        while written < budget {
            let taken = self.outbox.take(self.budget, |seq, tail| {
                let head = SeqPrefix::new(seq);
                written += head.bytes().len() + tail.len();
                write(head.bytes(), tail);
            });
            if !taken {
                break;
            }
        }
        if self.outbox.is_empty() { DrainOutcome::Empty } else { DrainOutcome::More }
    }

    /// Counts one client frame, whose command begins; `false` when another socket holds the page.
    pub(super) fn accept(&mut self, ticket: AttachmentId) -> bool {
        let holds = self.ticket == ticket.0 && matches!(self.holding, HoldState::Live);
        if holds {
            self.received += 1;
            self.running += 1;
            self.row.confirm();
        }
        holds
    }

    /// Records that the command of a counted frame has ended. Returns whether another node waits for that.
    pub(super) fn finish(&mut self) -> bool {
        self.running = self.running.saturating_sub(1);
        self.running == 0 && matches!(self.holding, HoldState::Frozen(_))
    }

    /// Whether no command of a counted frame is in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.running == 0
    }

    /// Records that the client has everything up to `seq`, which also proves that it has the newest token.
    pub(super) fn acknowledge(&mut self, ticket: AttachmentId, seq: u64) {
        if self.ticket == ticket.0 {
            self.row.confirm();
            self.outbox.acknowledge(seq);
        }
    }

    /// Gives the page to a new socket; `None` when the page has left this node.
    pub(super) fn attach(
        &mut self,
        kind: AttachKind,
        registered: impl FnOnce(RegisteredState) -> FrameBody,
    ) -> Option<AttachmentId> {
        if !self.holding.is_owned() {
            return None;
        }
        self.ticket += 1;
        self.holding = HoldState::Live;
        let (recovered, seq) = match kind {
            AttachKind::New => (ResumeOutcome::New, 0),
            AttachKind::Elsewhere => (ResumeOutcome::Reset, 0),
            AttachKind::Resumed { seq } => match self.outbox.resume(seq) {
                Resumed::Recovered => (ResumeOutcome::Recovered, seq),
                Resumed::Reset => (ResumeOutcome::Reset, 0),
            },
        };
        if recovered == ResumeOutcome::Reset {
            self.received = 0;
            self.jobs.reset();
        }
        let (received, generation) = (self.received, self.row.give_token());
        let user = self.row.known().user.clone();
        self.outbox.push_unsequenced(registered(RegisteredState {
            recovered,
            seq,
            received,
            generation,
            user,
        }));
        Some(AttachmentId(self.ticket))
    }

    /// Detaches a socket from the page; `false` when another socket holds the page.
    pub(super) fn detach(&mut self, ticket: AttachmentId) -> bool {
        let held = self.ticket == ticket.0 && self.holding.is_live();
        if held {
            self.holding = HoldState::Detached;
        }
        held
    }

    /// Removes the page from this node. `false` and no effect when the page has been attached since `unless_newer_than`
    /// or is not detached.
    pub(super) fn leave(&mut self, unless_newer_than: Option<AttachmentId>, close: Close) -> bool {
        let taken_over = unless_newer_than
            .is_some_and(|ticket| self.ticket != ticket.0 || !matches!(self.holding, HoldState::Detached));
        if !taken_over {
            self.holding = HoldState::Gone(close);
        }
        !taken_over
    }

    /// Marks a page as detached that was handed over but has no socket.
    pub(super) fn wait(&mut self) {
        if matches!(self.holding, HoldState::Installing) {
            self.holding = HoldState::Detached;
        }
    }

    /// Records a row that gives the page to another node.
    pub(super) fn release(&mut self, rev: u64, generation: u32) {
        if self.row.known().generation < generation {
            self.window.end(rev);
        }
    }

    /// Freezes the page for a holder of a later generation; `None` when this node does not hold the page, or holds a
    /// newer one.
    pub(super) fn freeze(
        &mut self,
        to: NodeNumber,
        generation: u32,
        rev: u64,
        seq: u64,
    ) -> Option<(Handover, Forwarding)> {
        let held = self.holding.is_live() || matches!(self.holding, HoldState::Detached);
        if !held || self.row.known().generation >= generation {
            return None;
        }
        let outbox = std::mem::take(&mut self.outbox);
        let moving = outbox
            .hand_over(seq)
            .and_then(|moving| handed_over(&moving, self.received, &self.jobs, &self.watches));
        let (frozen, forwarding) = Frozen::new(to);
        if moving.is_none() {
            // the client gets a reset; frames that have not left yet are still valid
            outbox.into_waiting().for_each(|tail| drop(frozen.forward(&tail)));
        }
        self.holding = HoldState::Frozen(frozen);
        self.window.end(rev);
        Some((moving.map_or(Handover::Incomplete, Handover::Complete), forwarding))
    }

    /// Installs the state that the old holder handed over; `false` when it cannot be decoded.
    pub(super) fn install(&mut self, handed: &HandedOver) -> bool {
        let Some(frames) = received_frames(handed) else { return false };
        self.outbox.install(frames);
        self.received = handed.received;
        self.watches = handed.watches.iter().filter_map(PageWatch::from_wire).collect::<Vec<_>>().into();
        self.jobs.merge(&handed.waits, &handed.ends, handed.partial);
        true
    }
}
