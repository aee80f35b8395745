//! One page on this node: its outbox, and the socket that holds it.

mod job_results;
mod migration;
mod ownership;
mod seq_prefix;
mod socket;
mod watches;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::wire::PushCounts;
use tokio::sync::{Notify, oneshot};

use self::job_results::JobTracker;
use self::migration::Frozen;
pub(super) use self::migration::{ForwardedFrame, Forwarding, Handover};
use self::ownership::OwnershipWindow;
pub(super) use self::socket::{AttachKind, RegisteredState};
pub use self::socket::{AttachmentId, DrainOutcome};
use super::outbox::{Budget, EnqueueResult, Outbox};
use super::state_watch::PageWatch;
use crate::protocol::{Close, CloseCode, FrameBody};

/// The holder of the page.
#[derive(Debug)]
enum HoldState {
    /// A socket.
    Live,
    /// A socket that must close once its frames have left.
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

struct PageState {
    outbox: Outbox,
    holding: HoldState,
    /// The number of sockets so far; also the attachment id of the present socket.
    ticket: u64,
    generation: u32,
    /// The newest generation that this node has tried to write for the page.
    written: u32,
    /// The newest generation with a token that a socket of this node received. A write with a lost result may have left
    /// a row of a later generation; no client has its token.
    told: u32,
    rev: u64,
    stay: OwnershipWindow,
    received: u64,
    /// The present socket has sent a frame, so the client has the newest token.
    confirmed: bool,
    user: Option<Arc<str>>,
    watches: Vec<PageWatch>,
    topics: Vec<Arc<str>>,
}

/// Result of a push to one page.
#[derive(Debug)]
pub enum PushOutcome {
    /// An open socket takes the frame.
    Reached,
    /// The frame is buffered for the resume window.
    Held,
    /// The frame is forwarded to another node; the receiver gets the counts from there. A sender that waits for them
    /// keeps its messages in order.
    Forwarded(oneshot::Receiver<PushCounts>),
    /// The frame is not delivered: the page is gone, or its outbox overflowed.
    Missed,
}

/// The state of a page that its row depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowVersion {
    /// The row's revision.
    pub(super) rev: u64,
    /// The generation in the row.
    pub(super) generation: u32,
    /// The generation of the newest token that a socket received.
    pub(super) told: u32,
    /// Whether the client is known to have that token.
    pub(super) confirmed: bool,
    /// The page's user; absent for anonymous.
    pub(super) user: Option<Arc<str>>,
    /// The page's topics.
    pub(super) topics: Vec<Arc<str>>,
}

/// The session, connection, user and topics that a page belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The page's session.
    pub session: Address,
    /// The page's connection.
    pub connection: Address,
    /// The page's user; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// The page's topics.
    pub topics: Vec<Arc<str>>,
}

/// One page on this node.
pub struct Page {
    key: Key,
    session: Address,
    connection: Address,
    opened: u64,
    budget: Budget,
    state: Mutex<PageState>,
    ends: JobTracker,
    changed: Notify,
    ended: Notify,
    /// When the client got its newest token, in seconds since the Unix epoch.
    token_given: AtomicU64,
}

impl Page {
    /// A page with a row at revision `rev`, not yet held by a socket.
    pub(super) fn new(
        key: Key,
        session: Address,
        connection: Address,
        opened: u64,
        standing: RowVersion,
        budget: Budget,
    ) -> Self {
        let RowVersion { rev, generation, user, topics, .. } = standing;
        let state = PageState {
            outbox: Outbox::default(),
            holding: HoldState::Detached,
            ticket: 0,
            generation,
            written: generation,
            told: generation.saturating_sub(1),
            rev,
            stay: OwnershipWindow::default(),
            received: 0,
            confirmed: false,
            user,
            watches: Vec::new(),
            topics,
        };
        let (state, ends) = (Mutex::new(state), JobTracker::default());
        let (changed, ended, token_given) = (Notify::new(), Notify::new(), AtomicU64::new(0));
        Self { key, session, connection, opened, budget, state, ends, changed, ended, token_given }
    }

    /// The state is consistent at every step, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, PageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page's key.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The page's session.
    pub fn session(&self) -> Address {
        self.session
    }

    /// The page's connection.
    pub fn connection(&self) -> Address {
        self.connection
    }

    /// When the page was first opened, in milliseconds since the Unix epoch.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// The page's user; absent for anonymous.
    pub fn user(&self) -> Option<Arc<str>> {
        self.lock().user.clone()
    }

    /// The session, connection, user and topics of the page.
    pub fn place(&self) -> Membership {
        let state = self.lock();
        let (user, topics) = (state.user.clone(), state.topics.clone());
        Membership { session: self.session, connection: self.connection, user, topics }
    }

    /// Adds a sequenced frame.
    pub fn push(&self, tail: &FrameBody) -> PushOutcome {
        self.push_to(self.lock(), tail)
    }

    /// Adds a sequenced frame of a message to many pages, if its sender counts the page at this node. `seen`: the
    /// sender has seen every row up to this revision.
    pub fn push_scoped(&self, seen: Option<u64>, tail: &FrameBody) -> PushOutcome {
        let state = self.lock();
        if state.stay.counts(seen) { self.push_to(state, tail) } else { PushOutcome::Missed }
    }

    fn push_to(&self, mut state: MutexGuard<'_, PageState>, tail: &FrameBody) -> PushOutcome {
        let live = match &state.holding {
            HoldState::Live => true,
            HoldState::Closing(_) | HoldState::Detached | HoldState::Installing => false,
            HoldState::Frozen(frozen) => return frozen.forward(tail),
            HoldState::Gone(_) => return PushOutcome::Missed,
        };
        // if frames wait already, the socket has been notified, or takes them before it waits again
        let news = state.outbox.is_empty();
        let pushed = state.outbox.push(tail.clone(), self.budget);
        let slow = live && pushed == EnqueueResult::Overflow;
        if slow {
            let close = Close::new(CloseCode::SlowConsumer, "the page does not read fast enough");
            state.holding = HoldState::Closing(close);
        }
        drop(state);
        if live && (news || slow) {
            self.changed.notify_one();
        }
        match (pushed, live) {
            (EnqueueResult::Overflow, _) => PushOutcome::Missed,
            (EnqueueResult::Queued, true) => PushOutcome::Reached,
            (EnqueueResult::Queued, false) => PushOutcome::Held,
        }
    }

    /// Adds a frame outside the sequence, for the present socket only.
    pub fn push_unsequenced(&self, tail: FrameBody) {
        let mut state = self.lock();
        if matches!(state.holding, HoldState::Live) {
            state.outbox.notice(tail);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Requests the present socket to close once its frames have left.
    pub fn close(&self, close: Close) {
        let mut state = self.lock();
        if matches!(state.holding, HoldState::Live) {
            state.holding = HoldState::Closing(close);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Whether a socket holds the page.
    pub fn is_live(&self) -> bool {
        matches!(self.lock().holding, HoldState::Live | HoldState::Closing(_))
    }

    /// Whether this node holds the page, with or without a socket.
    pub fn is_owned(&self) -> bool {
        !matches!(self.lock().holding, HoldState::Frozen(_) | HoldState::Gone(_))
    }

    /// Whether the page still waits for the handover from its old holder.
    pub(super) fn is_installing(&self) -> bool {
        matches!(self.lock().holding, HoldState::Installing)
    }

    /// Whether the frame is queued and has not left yet.
    pub(super) fn is_queued(&self, tail: &FrameBody) -> bool {
        self.lock().outbox.waiting().any(|waiting| waiting == tail)
    }

    /// Bytes of frames that wait for a socket.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().outbox.waiting_bytes()
    }

    /// The state that the page's row depends on.
    pub(super) fn standing(&self) -> RowVersion {
        let state = self.lock();
        let (rev, generation, confirmed) = (state.rev, state.generation, state.confirmed);
        let told = state.told;
        RowVersion {
            rev,
            generation,
            told,
            confirmed,
            user: state.user.clone(),
            topics: state.topics.clone(),
        }
    }

    /// Records a row that was written; `false` when a later one is already known.
    pub(super) fn set_row(&self, rev: u64, generation: u32, user: Option<Arc<str>>) -> bool {
        let mut state = self.lock();
        let newer = state.rev < rev;
        if newer {
            (state.rev, state.generation, state.user) = (rev, generation, user);
            state.written = state.written.max(generation);
        }
        newer
    }

    /// Records that a row of this generation is about to be written.
    pub(super) fn writes(&self, generation: u32) {
        let mut state = self.lock();
        state.written = state.written.max(generation);
    }

    /// Whether a row of this node with this generation may be the page's own.
    pub(super) fn has_written(&self, generation: u32) -> bool {
        let state = self.lock();
        (state.generation..=state.written).contains(&generation)
    }

    /// Marks a page as detached that was handed over but has no socket.
    pub(super) fn wait(&self) {
        let mut state = self.lock();
        if matches!(state.holding, HoldState::Installing) {
            state.holding = HoldState::Detached;
        }
    }

    /// Records when the client got its newest token, in seconds since the Unix epoch.
    pub(super) fn token_given(&self, at: u64) {
        self.token_given.store(at, Ordering::Relaxed);
    }

    /// When the client got its newest token, in seconds since the Unix epoch.
    pub(super) fn token_age_counts_from(&self) -> u64 {
        self.token_given.load(Ordering::Relaxed)
    }

    /// The page's topics.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.lock().topics.clone()
    }

    pub(super) fn set_topics(&self, topics: Vec<Arc<str>>) {
        self.lock().topics = topics;
    }

    /// Removes the page from this node. `false` and no effect when the page has been attached since `unless_newer_than`
    /// or is not detached; this is for an expired resume window.
    pub(super) fn leave(&self, unless_newer_than: Option<AttachmentId>, close: Close) -> bool {
        let mut state = self.lock();
        let taken_over = unless_newer_than
            .is_some_and(|ticket| state.ticket != ticket.0 || !matches!(state.holding, HoldState::Detached));
        if taken_over {
            return false;
        }
        state.holding = HoldState::Gone(close);
        drop(state);
        self.changed.notify_waiters();
        self.ended.notify_waiters();
        true
    }

    /// Resolves when the page has left this node for good, also if it has left before the call.
    pub async fn ended(&self) {
        let ended = self.ended.notified();
        // `notified` is created before the check, so that no end is missed between the two
        if !matches!(self.lock().holding, HoldState::Gone(_)) {
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests;
