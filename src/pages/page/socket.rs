//! The attachment of a socket to a page.
//!
//! The newest attachment wins: a socket with an older id gets [`CloseCode::Replaced`].

use std::sync::Arc;

use tokio::sync::futures::Notified;

use super::seq_prefix::SeqPrefix;
use super::{HoldState, Page};
use crate::pages::outbox::Resumed;
use crate::protocol::{Close, CloseCode, FrameBody, ResumeOutcome};

/// The attachment of a socket to a page. The newest one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentId(pub(super) u64);

impl AttachmentId {
    /// The id of a page that no socket of this node has held.
    pub(in crate::pages) const NONE: Self = Self(0);
}

/// The state of the outbox after [`Page::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// No frame left; wait for [`Page::changed`].
    Empty,
    /// The byte budget is used up and more frames wait.
    More,
    /// Close the socket with this.
    Close(Close),
}

/// How a socket attaches to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pages) enum AttachKind {
    /// The page is new.
    New,
    /// The client has seen everything up to `seq`.
    Resumed {
        /// The last number seen.
        seq: u64,
    },
    /// The page was held by another node and its frames are lost.
    Elsewhere,
}

/// The facts about the page's past that the `registered` frame contains.
pub(in crate::pages) struct RegisteredState {
    pub(in crate::pages) recovered: ResumeOutcome,
    pub(in crate::pages) seq: u64,
    pub(in crate::pages) received: u64,
    pub(in crate::pages) generation: u32,
    pub(in crate::pages) user: Option<Arc<str>>,
}

impl Page {
    /// Resolves when [`Page::take`] may yield a frame. Create the future *before* the call of `take` and await it
    /// after: then no change is missed between the two.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Numbers frames and passes them to the socket in order, up to about `budget` bytes.
    pub fn take(
        &self,
        ticket: AttachmentId,
        budget: usize,
        write: &mut dyn FnMut(&[u8], &FrameBody),
    ) -> DrainOutcome {
        let mut state = self.lock();
        if state.ticket != ticket.0 || matches!(state.holding, HoldState::Frozen(_)) {
            return DrainOutcome::Close(Close::new(CloseCode::Replaced, "another socket holds this page"));
        }
        if let HoldState::Gone(close) = state.holding {
            return DrainOutcome::Close(close);
        }
        let slow =
            matches!(state.holding, HoldState::Closing(close) if close.code == CloseCode::SlowConsumer);
        let mut written = 0;
        while !slow && written < budget {
            let taken = state.outbox.take(self.budget, |seq, tail| {
                let head = SeqPrefix::new(seq);
                written += head.bytes().len() + tail.len();
                write(head.bytes(), tail);
            });
            if !taken {
                break;
            }
        }
        match state.holding {
            HoldState::Closing(close) if slow || state.outbox.is_empty() => DrainOutcome::Close(close),
            _ if state.outbox.is_empty() => DrainOutcome::Empty,
            _ => DrainOutcome::More,
        }
    }

    /// Counts one client frame; `false` when another socket holds the page and the frame must be ignored.
    pub fn accept(&self, ticket: AttachmentId) -> bool {
        let mut state = self.lock();
        let holds = state.ticket == ticket.0 && matches!(state.holding, HoldState::Live);
        if holds {
            state.received += 1;
            state.confirmed = true;
        }
        holds
    }

    /// Records that the client has everything up to `seq`, which also proves that it has the newest token.
    pub fn acknowledge(&self, ticket: AttachmentId, seq: u64) {
        let mut state = self.lock();
        if state.ticket == ticket.0 {
            state.confirmed = true;
            state.outbox.acknowledge(seq);
        }
    }

    /// Gives the page to a new socket; `None` when the page has left this node. `registered` is built from the state at
    /// this moment and is the first frame to leave.
    pub(in crate::pages) fn attach(
        &self,
        arrival: AttachKind,
        registered: impl FnOnce(RegisteredState) -> FrameBody,
    ) -> Option<AttachmentId> {
        // locked in this order, as in `push_unless_over`
        let mut ends = self.ends.lock();
        let mut state = self.lock();
        if matches!(state.holding, HoldState::Gone(_) | HoldState::Frozen(_)) {
            return None;
        }
        state.ticket += 1;
        state.holding = HoldState::Live;
        state.told = state.generation;
        state.confirmed = false;
        let recovered = match arrival {
            AttachKind::New => ResumeOutcome::New,
            AttachKind::Elsewhere => ResumeOutcome::Reset,
            AttachKind::Resumed { seq } => match state.outbox.resume(seq) {
                Resumed::Recovered => ResumeOutcome::Recovered,
                Resumed::Reset => ResumeOutcome::Reset,
            },
        };
        if recovered == ResumeOutcome::Reset {
            state.received = 0;
            ends.reset();
        }
        let seq = if let (ResumeOutcome::Recovered, AttachKind::Resumed { seq }) = (recovered, arrival) {
            seq
        } else {
            0
        };
        let welcome = RegisteredState {
            recovered,
            seq,
            received: state.received,
            generation: state.generation,
            user: state.user.clone(),
        };
        state.outbox.notice(registered(welcome));
        let ticket = AttachmentId(state.ticket);
        drop(state);
        drop(ends);
        // wakes the old socket, which finds itself replaced; the new one takes before it waits
        self.changed.notify_waiters();
        Some(ticket)
    }

    /// Detaches a socket from the page; `false` when another socket holds the page.
    pub(in crate::pages) fn detach(&self, ticket: AttachmentId) -> bool {
        let mut state = self.lock();
        let held =
            state.ticket == ticket.0 && matches!(state.holding, HoldState::Live | HoldState::Closing(_));
        if held {
            state.holding = HoldState::Detached;
        }
        held
    }
}
