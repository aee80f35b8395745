//! One page on this node: its state behind one lock, and the notifications of its socket.
//!
//! Owns: the lock, and which step notifies the socket. Never: a decision (`page/state` has them), or a wait under the
//! lock. A step takes the lock once.

mod away;
mod commands;
mod job_results;
mod membership;
mod migration;
mod ownership;
mod push_outcome;
mod row_state;
mod seq_prefix;
mod socket;
mod state;
mod watches;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::{Address, Key, Level, NodeNumber};
use pagewire_cluster::rollout::LanePins;
use pagewire_cluster::state::Path;
use pagewire_cluster::wire::{HandedOver, PageJob, ResidentClass};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

pub use self::away::set_knows_move;
pub(super) use self::away::{knows_move, send_away};
pub use self::commands::RunningCommand;
pub(super) use self::commands::idle;
pub use self::membership::Membership;
pub(super) use self::migration::{ForwardedFrame, Forwarding, Handover};
use self::ownership::OwnershipWindow;
use self::push_outcome::PushEffect;
pub use self::push_outcome::PushOutcome;
use self::row_state::RowState;
pub(super) use self::row_state::RowVersion;
pub(super) use self::socket::{AttachKind, RegisteredState, SendAway};
pub use self::socket::{AttachmentId, DrainOutcome};
use self::state::{HoldState, PageState};
pub use self::watches::PageWatch;
use super::outbox::Budget;
use crate::protocol::{Close, FrameBody};

/// One page on this node.
pub struct Page {
    key: Key,
    session: Address,
    connection: Address,
    opened: u64,
    /// As [`Membership::placed`].
    pub(super) placed: u64,
    /// The lanes that the page's calls keep.
    pub pins: Arc<LanePins>,
    /// The class of the page's object, for a resident page.
    pub resident: Option<Arc<ResidentClass>>,
    state: Mutex<PageState>,
    changed: Notify,
    ended: Notify,
    idle: Notify,
}

impl Page {
    /// A page whose row has this revision and generation, not yet held by a socket.
    pub(super) fn new(
        key: Key,
        place: Membership,
        opened: u64,
        rev: u64,
        generation: u32,
        budget: Budget,
    ) -> Self {
        let Membership { session, connection, user, topics, pins, placed, resident } = place;
        let state = Mutex::new(PageState::new(RowState::new(rev, generation, user, topics), budget));
        let (changed, ended, idle) = (Notify::new(), Notify::new(), Notify::new());
        let pins = Arc::new(LanePins::new(pins));
        Self { key, session, connection, opened, placed, pins, resident, state, changed, ended, idle }
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
        self.lock().row.known().user.clone()
    }

    /// The session, connection, user, topics and lanes of the page.
    pub fn place(&self) -> Membership {
        let (RowVersion { user, topics, .. }, pins) = (self.version(), self.pins.lanes());
        let (placed, resident) = (self.placed, self.resident.clone());
        let (session, connection) = (self.session, self.connection);
        Membership { session, connection, user, topics, pins, placed, resident }
    }

    /// Whether a socket holds the page.
    pub fn is_live(&self) -> bool {
        self.lock().holding.is_live()
    }

    /// Whether this node holds the page, with or without a socket.
    pub fn is_owned(&self) -> bool {
        self.lock().holding.is_owned()
    }

    /// Whether the page still waits for the handover from its old holder.
    pub(super) fn is_installing(&self) -> bool {
        matches!(self.lock().holding, HoldState::Installing)
    }

    /// Bytes of frames that wait for a socket.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().outbox.waiting_bytes()
    }

    /// Takes one step under the lock, then notifies the socket.
    fn push_by(&self, step: impl FnOnce(&mut PageState) -> PushEffect) -> PushOutcome {
        let PushEffect { outcome, wakes } = step(&mut self.lock());
        if wakes {
            self.changed.notify_one();
        }
        outcome
    }

    /// Adds a sequenced frame.
    pub fn push(&self, tail: &FrameBody) -> PushOutcome {
        self.push_by(|state| state.push(tail))
    }

    /// Adds a sequenced frame of a message to many pages, if its sender counts the page at this node. `seen`: the
    /// sender has seen every row up to this revision.
    pub fn push_scoped(&self, seen: Option<u64>, tail: &FrameBody) -> PushOutcome {
        self.push_by(|state| state.push_scoped(seen, tail))
    }

    /// Adds a frame about a running job that the page knows by `frame`: its progress, or that it exists. After the
    /// result no such frame is added, because a worker that has lost the job may not know it yet.
    pub fn push_job_update(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_by(|state| state.push_about_job(page_job(job, frame), false, tail))
    }

    /// Adds the result of a job that the page knows by `frame`. The page gets it once, for any number of calls.
    pub fn deliver_job_result(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_by(|state| state.push_about_job(page_job(job, frame), true, tail))
    }

    /// Adds the result of a job again after a reset, for a page that still waits for it. A result delivered before the
    /// reset is lost unless it has not left the outbox yet.
    pub fn redeliver_job_result(&self, job: Key, frame: &str, tail: &FrameBody) -> PushOutcome {
        self.push_by(|state| state.push_result_again(page_job(job, frame), tail))
    }

    /// Adds an update of a watched path. A page that has moved to another node gets the update there.
    pub(super) fn deliver_update(&self, level: Level, path: &Path, revision: Option<u64>, tail: &FrameBody) {
        self.push_by(|state| state.push_update(level, path, revision, tail));
    }

    /// Adds a frame outside the sequence, for the present socket only.
    pub fn push_unsequenced(&self, tail: FrameBody) {
        if self.lock().push_unsequenced(tail) {
            self.changed.notify_one();
        }
    }

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
        self.lock().take(ticket, budget, write)
    }

    /// Counts one client frame; `false` when another socket holds the page and the frame must be ignored.
    pub fn accept(&self, ticket: AttachmentId) -> bool {
        self.lock().accept(ticket)
    }

    /// Records that the client has everything up to `seq`, which also proves that it has the newest token.
    pub fn acknowledge(&self, ticket: AttachmentId, seq: u64) {
        self.lock().acknowledge(ticket, seq);
    }

    /// Gives the page to a new socket; `None` when the page has left this node. `registered` is built from the state at
    /// this moment and is the first frame to leave.
    pub(super) fn attach(
        &self,
        kind: AttachKind,
        registered: impl FnOnce(RegisteredState) -> FrameBody,
    ) -> Option<AttachmentId> {
        let ticket = self.lock().attach(kind, registered)?;
        // wakes the old socket, which finds itself replaced; the new one takes before it waits
        self.changed.notify_waiters();
        Some(ticket)
    }

    /// Detaches a socket from the page; `false` when another socket holds the page.
    pub(super) fn detach(&self, ticket: AttachmentId) -> bool {
        self.lock().detach(ticket)
    }

    /// Removes the page from this node. `false` and no effect when the page has been attached since `unless_newer_than`
    /// or is not detached; this is for an expired resume window.
    pub(super) fn leave(&self, unless_newer_than: Option<AttachmentId>, close: Close) -> bool {
        let left = self.lock().leave(unless_newer_than, close);
        if left {
            self.changed.notify_waiters();
            self.ended.notify_waiters();
        }
        left
    }

    /// Resolves when the page has left this node for good, also if it has left before the call.
    pub async fn ended(&self) {
        let ended = self.ended.notified();
        // `notified` is created before the check, so that no end is missed between the two
        if !matches!(self.lock().holding, HoldState::Gone(_)) {
            ended.await;
        }
    }

    /// The state that the page's row depends on.
    pub(super) fn version(&self) -> RowVersion {
        self.lock().row.known().clone()
    }

    /// Records a row that was written; `false` when a later one is already known.
    pub(super) fn set_row(&self, rev: u64, generation: u32, user: Option<Arc<str>>) -> bool {
        self.lock().row.record(rev, generation, user)
    }

    /// Records that a row of this generation is about to be written.
    pub(super) fn will_write(&self, generation: u32) {
        self.lock().row.will_write(generation);
    }

    /// Whether a row of this node with this generation may be the page's own.
    pub(super) fn has_written(&self, generation: u32) -> bool {
        self.lock().row.has_written(generation)
    }

    pub(super) fn set_topics(&self, topics: Vec<Arc<str>>) {
        self.lock().row.set_topics(topics);
    }

    /// Records when the client got its newest token, in seconds since the Unix epoch.
    pub(super) fn set_token_given(&self, at: u64) {
        self.lock().token_given = at;
    }

    /// When the client got its newest token, in seconds since the Unix epoch.
    pub(super) fn token_given(&self) -> u64 {
        self.lock().token_given
    }

    /// Records that the page waits for the result of a job that it knows by `frame`.
    pub fn track_job(&self, job: Key, frame: &str) {
        self.lock().jobs.wait(page_job(job, frame));
    }

    /// Records that the page may wait for more jobs than it has named.
    pub fn expect_more(&self) {
        self.lock().jobs.expect_more();
    }

    /// The jobs that the page waits for.
    pub fn waits_for(&self) -> Vec<PageJob> {
        self.lock().jobs.waits_for()
    }

    /// Adds or replaces a watch; `false` when the page has the maximum number of watches.
    pub(super) fn watch(&self, watch: PageWatch) -> bool {
        self.lock().watches.add(watch)
    }

    pub(super) fn unwatch(&self, level: Level, path: &Path) {
        self.lock().watches.remove(level, path);
    }

    pub(super) fn unwatch_all(&self) {
        self.lock().watches = Default::default();
    }

    /// The watches of the page.
    pub fn watches(&self) -> Vec<PageWatch> {
        self.lock().watches.list().to_vec()
    }

    /// Freezes the page for a holder of a later generation. The row of that holder has the revision `rev`, and its
    /// client has seen everything up to `seq`. `None` when this node does not hold the page, or holds a newer one.
    pub(super) fn freeze(
        &self,
        to: NodeNumber,
        generation: u32,
        rev: u64,
        seq: u64,
    ) -> Option<(Handover, Forwarding)> {
        let mut frozen = self.lock().freeze(to, generation, rev, seq)?;
        if let (Handover::Complete(handed), _) = &mut frozen {
            handed.pins = self.pins.lanes();
        }
        // the old socket finds that the page has left
        self.changed.notify_waiters();
        Some(frozen)
    }

    /// Records the row that gave the page to this node. Other nodes may still take messages for it from senders that
    /// have not seen this row.
    pub(super) fn mark_acquired(&self, rev: u64) {
        self.lock().window = OwnershipWindow::since(Some(rev));
    }

    /// Records a row that gives the page to another node. That node requests the handover.
    pub(super) fn mark_released(&self, rev: u64, generation: u32) {
        self.lock().release(rev, generation);
    }

    /// Marks the page as waiting for the handover from the old holder; frames that arrive until then queue behind it.
    pub(super) fn expect_handover(&self) {
        self.lock().holding = HoldState::Installing;
    }

    /// Installs the state that the old holder handed over; `false` when it cannot be decoded.
    pub(super) fn install(&self, handed: &HandedOver) -> bool {
        self.pins.add(&handed.pins);
        self.lock().install(handed)
    }

    /// Marks a page as detached that was handed over but has no socket.
    pub(super) fn wait(&self) {
        self.lock().wait();
    }
}

fn page_job(job: Key, frame: &str) -> PageJob {
    PageJob { job, frame: frame.to_owned() }
}

#[cfg(test)]
mod tests;
