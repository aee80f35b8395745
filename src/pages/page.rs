//! One page on this node: its outbox, and which socket holds it.

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

/// Who holds the page.
#[derive(Debug)]
enum HoldState {
    /// A socket.
    Live,
    /// A socket that must close once its frames have left.
    Closing(Close),
    /// Nobody; the resume window runs.
    Detached,
    /// This node has won the row and waits for what the old holder hands over.
    Installing,
    /// Another node has won the row: what still arrives is forwarded to it.
    Frozen(Frozen),
    /// The page is gone from this node.
    Gone(Close),
}

struct PageState {
    outbox: Outbox,
    holding: HoldState,
    /// Counts sockets; the present one has this ticket.
    ticket: u64,
    generation: u32,
    /// The newest generation that this node has tried to write for the page.
    written: u32,
    /// The newest generation that a socket of this node was given the token of. An answer that was lost may have left
    /// a row of a later one, whose token no client has.
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

/// What a push met.
#[derive(Debug)]
pub enum PushOutcome {
    /// An open socket.
    Reached,
    /// The resume window.
    Held,
    /// Another node: what it meets there is told later. A sender that waits for it keeps its messages in order.
    Forwarded(oneshot::Receiver<PushCounts>),
    /// None of these: gone, or its outbox overflowed.
    Missed,
}

/// What a page row needs to know of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowVersion {
    /// The row's revision.
    pub(super) rev: u64,
    /// The generation that the row says.
    pub(super) generation: u32,
    /// The generation of the newest token that was given to a socket.
    pub(super) told: u32,
    /// Whether the client is known to have that token.
    pub(super) confirmed: bool,
    /// Its user.
    pub(super) user: Option<Arc<str>>,
    /// Its topics.
    pub(super) topics: Vec<Arc<str>>,
}

/// Where a page belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Its session.
    pub session: Address,
    /// Its connection.
    pub connection: Address,
    /// Its user; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// Its topics.
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
    /// When its client got its newest token, in seconds since the Unix epoch.
    token_given: AtomicU64,
}

impl Page {
    /// A page whose row stands at `rev`, not yet held by a socket.
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

    /// The state stays consistent at every step, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, PageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its key.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Its session.
    pub fn session(&self) -> Address {
        self.session
    }

    /// Its connection.
    pub fn connection(&self) -> Address {
        self.connection
    }

    /// When it was first opened, in milliseconds since the Unix epoch.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Its user; absent for anonymous.
    pub fn user(&self) -> Option<Arc<str>> {
        self.lock().user.clone()
    }

    /// Where it belongs.
    pub fn place(&self) -> Membership {
        let state = self.lock();
        let (user, topics) = (state.user.clone(), state.topics.clone());
        Membership { session: self.session, connection: self.connection, user, topics }
    }

    /// Adds a sequenced frame.
    pub fn push(&self, tail: &FrameBody) -> PushOutcome {
        self.push_to(self.lock(), tail)
    }

    /// The same for a sender that means many pages and has seen every row up to this revision, if it counts this one
    /// here.
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
        // where something waits already, the socket knows, or takes before it waits again
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

    /// Asks the present socket to close once its frames have left.
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

    /// Whether the old holder has not handed it over yet.
    pub(super) fn is_installing(&self) -> bool {
        matches!(self.lock().holding, HoldState::Installing)
    }

    /// Whether a frame is among those that have not left yet.
    pub(super) fn is_queued(&self, tail: &FrameBody) -> bool {
        self.lock().outbox.waiting().any(|waiting| waiting == tail)
    }

    /// Bytes that wait for a socket.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().outbox.waiting_bytes()
    }

    /// What the row needs to know.
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

    /// The row was written; `false` when a later one is known already.
    pub(super) fn set_row(&self, rev: u64, generation: u32, user: Option<Arc<str>>) -> bool {
        let mut state = self.lock();
        let newer = state.rev < rev;
        if newer {
            (state.rev, state.generation, state.user) = (rev, generation, user);
            state.written = state.written.max(generation);
        }
        newer
    }

    /// A row of that generation is about to be written.
    pub(super) fn writes(&self, generation: u32) {
        let mut state = self.lock();
        state.written = state.written.max(generation);
    }

    /// Whether a row of this node and that generation may be this page's.
    pub(super) fn has_written(&self, generation: u32) -> bool {
        let state = self.lock();
        (state.generation..=state.written).contains(&generation)
    }

    /// What was handed over is here, and no socket.
    pub(super) fn wait(&self) {
        let mut state = self.lock();
        if matches!(state.holding, HoldState::Installing) {
            state.holding = HoldState::Detached;
        }
    }

    /// Its client gets a token.
    pub(super) fn token_given(&self, at: u64) {
        self.token_given.store(at, Ordering::Relaxed);
    }

    /// When its client got the newest one, in seconds since the Unix epoch.
    pub(super) fn token_age_counts_from(&self) -> u64 {
        self.token_given.load(Ordering::Relaxed)
    }

    /// Its topics.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.lock().topics.clone()
    }

    pub(super) fn set_topics(&self, topics: Vec<Arc<str>>) {
        self.lock().topics = topics;
    }

    /// The page leaves this node, unless it is held by a socket newer than `ticket` (for an expired window).
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

    /// Resolves when the page has left this node for good, now or before.
    pub async fn ended(&self) {
        let ended = self.ended.notified();
        // made before the look: no end falls between
        if !matches!(self.lock().holding, HoldState::Gone(_)) {
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests;
