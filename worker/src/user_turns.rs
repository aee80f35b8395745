//! The users whose assigned jobs this worker runs.
//!
//! Owns: what this worker knows of its turn rows, and the reads and writes of the protocol (`turn_protocol`). Never:
//! which job is next (`affinity`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use pagewire_cluster::clock;
use pagewire_cluster::engine::{Consistency, Precondition, Put};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{
    Claimant, Jobs, NamedAttempt, RecordEvent, StoredJob, TransitionError, TurnRow, apply,
};
use pagewire_cluster::worker::{WorkerId, WorkerLease};

use super::assignment::Assignment;
use super::ownership::{OwnershipEvent, OwnershipEvents, ReleaseReason};
use super::turn::{ClaimWrite, StepResult, Turn, TurnGoal, TurnOutcome, TurnStep};
use super::turn_protocol::TurnProtocol;

/// How often a worker that lost the race for a user tries again.
const TRIES: usize = 3;

/// The turn row of a user that this worker owns.
#[derive(Debug, Clone, Copy)]
struct HeldTurn {
    epoch: u64,
    turn: Turn,
    /// Whether an owner before this worker may still have writes on their way: it has not released the user.
    contested: bool,
    /// End of the ownership on this process's clock, earlier than a row with a TTL expires. `None`: the row names an
    /// attempt and has no TTL.
    until: Option<Duration>,
    /// When this worker wrote the row.
    written: Duration,
}

type Acquiring = Shared<BoxFuture<'static, Result<(), Option<Key>>>>;

/// The users of one worker.
pub(crate) struct UserTurns {
    jobs: Jobs,
    assignment: Assignment,
    lease: WorkerLease,
    events: OwnershipEvents,
    held: Mutex<HashMap<String, HeldTurn>>,
    /// Users that are being taken over for a call; concurrent callers wait for the same outcome.
    acquiring: Mutex<HashMap<String, Acquiring>>,
}

impl UserTurns {
    pub(crate) fn new(jobs: &Jobs, assignment: &Assignment, lease: &WorkerLease) -> Self {
        let (held, acquiring, events) = (Mutex::default(), Mutex::default(), OwnershipEvents::default());
        let (jobs, assignment, lease) = (jobs.clone(), assignment.clone(), lease.clone());
        Self { jobs, assignment, lease, events, held, acquiring }
    }

    /// Returns the events of the users of this worker.
    pub(crate) fn events(&self) -> &OwnershipEvents {
        &self.events
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, HeldTurn>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acquiring(&self) -> MutexGuard<'_, HashMap<String, Acquiring>> {
        self.acquiring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, user: &str) -> String {
        TurnRow::key(&self.assignment.group.pool, user)
    }

    /// Returns whether this worker owns a user now, as far as this process knows.
    pub(crate) fn has(&self, user: &str) -> bool {
        self.lease.worker().is_some_and(|me| self.valid(user, me).is_some())
    }

    /// Returns the term at which this worker took over a user that it owns now, as far as this process knows.
    pub(crate) fn term_of(&self, user: &str) -> Option<u64> {
        self.valid(user, self.lease.worker()?).map(|turn| turn.term)
    }

    /// Returns whether an owner before this worker may still have effects on their way, because it has not released the
    /// user.
    pub(crate) fn is_contested(&self, user: &str) -> bool {
        self.held().get(user).is_none_or(|held| held.contested)
    }

    fn valid(&self, user: &str, me: WorkerId) -> Option<Turn> {
        let held = *self.held().get(user)?;
        let lives = held.until.is_none_or(|until| clock::boot() < until);
        (held.epoch == me.epoch && lives).then_some(held.turn)
    }

    /// Takes a user over for a call, unless another living worker owns the user.
    ///
    /// # Errors
    ///
    /// The id of the other worker, or `None` when the owner cannot be determined now.
    pub(crate) async fn acquire(self: &Arc<Self>, user: &str) -> Result<(), Option<Key>> {
        let me = self.lease.worker().ok_or(None)?;
        if self.valid(user, me).is_some() {
            return Ok(());
        }
        let acquiring =
            self.acquiring().entry(user.to_owned()).or_insert_with(|| self.begin_acquire(user, me)).clone();
        acquiring.await
    }

    fn begin_acquire(self: &Arc<Self>, user: &str, me: WorkerId) -> Acquiring {
        let (this, user) = (self.clone(), user.to_owned());
        let acquiring = async move {
            let mut acquired = Err(None);
            for _ in 0..TRIES {
                acquired = match this.run(&user, me, TurnGoal::Own).await {
                    TurnOutcome::Elsewhere(owner) => Err(Some(owner.id)),
                    TurnOutcome::Owned => Ok(()),
                    _ => Err(None),
                };
                if acquired != Err(None) {
                    break;
                }
            }
            this.acquiring().remove(&user);
            acquired
        };
        acquiring.boxed().shared()
    }

    /// Claims a job of a user at the revision at which its record was read.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] when the record does not allow a claim; nothing was written.
    pub(crate) async fn claim(
        &self,
        user: &str,
        by: Claimant,
        read: &StoredJob,
    ) -> Result<TurnOutcome, TransitionError> {
        let me = by.worker;
        let (record, _) =
            apply(&read.record, RecordEvent::Claim(by), self.jobs.records.now_ms(), &self.jobs.timing)?;
        let put = self.jobs.records.put(&record, Precondition::Rev(read.rev));
        Ok(self.run(user, me, TurnGoal::Claim(Box::new(ClaimWrite { put, record }))).await)
    }

    /// Marks the attempt that the row of a user names as ended: no write can claim it any more.
    pub(crate) fn settled(&self, user: &str, job: Key) {
        if let Some(held) = self.held().get_mut(user)
            && held.turn.named.is_some_and(|named| named.id == job)
        {
            held.turn.settled = true;
        }
    }

    async fn run(&self, user: &str, me: WorkerId, goal: TurnGoal) -> TurnOutcome {
        let (begun, known) = (clock::boot(), self.valid(user, me));
        let idle_ttl = self.jobs.timing.affinity_ttl;
        let mut protocol = TurnProtocol::new(self.key(user), me, idle_ttl, known, goal);
        let outcome = self.perform(&mut protocol).await;
        self.keep(user, me, begun, known, protocol.turn(), protocol.found_row());
        if let Some(term) = protocol.taken() {
            let after = protocol.owner_before();
            self.events.send(OwnershipEvent::Owned { user: user.into(), term, after });
        }
        outcome
    }

    /// Performs the reads and writes of a protocol until it ends.
    async fn perform(&self, protocol: &mut TurnProtocol) -> TurnOutcome {
        let mut result = StepResult::Start;
        loop {
            result = match protocol.next(result) {
                TurnStep::Read(key) => {
                    StepResult::Read(self.jobs.records.store.get(&key, Consistency::Latest).await)
                }
                TurnStep::Write(put) => StepResult::Written(self.jobs.records.store.put(put).await),
                TurnStep::Delete(key, expect) => {
                    StepResult::Deleted(self.jobs.records.store.delete(&key, expect).await)
                }
                TurnStep::Check(owner) => StepResult::Checked(self.jobs.workers.lives(owner).await.ok()),
                TurnStep::Done(outcome) => return outcome,
            };
        }
    }

    /// Stores what is known of a row, unless another task of this process knows a later revision.
    fn keep(
        &self,
        user: &str,
        me: WorkerId,
        begun: Duration,
        before: Option<Turn>,
        now: Option<Turn>,
        found_row: bool,
    ) {
        let mut held = self.held();
        let contested = found_row || held.get(user).is_some_and(|held| held.contested);
        match (now, held.get(user).map(|held| held.turn.rev)) {
            (Some(turn), known) if known.is_none_or(|rev| rev < turn.rev) => {
                let until = self.until(begun, turn.named);
                let fresh = HeldTurn { epoch: me.epoch, turn, contested, until, written: begun };
                held.insert(user.to_owned(), fresh);
            }
            (None, Some(rev)) if before.is_some_and(|before| before.rev == rev) => {
                held.remove(user);
                self.released(user, ReleaseReason::Lost);
            }
            _ => {}
        }
    }

    /// Returns when a row that was sent at `sent` is not used any more: at 75 % of its TTL, so that a claim that
    /// depends on it can still arrive.
    fn until(&self, sent: Duration, named: Option<NamedAttempt>) -> Option<Duration> {
        named.is_none().then(|| sent + self.jobs.timing.affinity_ttl * 3 / 4)
    }

    /// Lets the rows of users without work expire. `busy` are the users with a running task.
    pub(crate) async fn expire_idle(&self, busy: &HashSet<String>) {
        let Some(me) = self.lease.worker() else { return };
        let (now, pause) = (clock::boot(), self.jobs.timing.affinity_ttl / 4);
        self.drop_held(ReleaseReason::Idle, |held| held.until.is_some_and(|until| until <= now));
        let idle = |held: &HeldTurn| held.until.is_none() && held.turn.settled && held.written + pause <= now;
        let users: Vec<(String, HeldTurn)> = {
            let held = self.held();
            let idle = held.iter().filter(|(user, held)| !busy.contains(*user) && idle(held));
            idle.map(|(user, held)| (user.clone(), *held)).collect()
        };
        for (user, held) in users.into_iter().filter(|(_, held)| held.epoch == me.epoch) {
            let row = TurnRow { worker: me, term: Some(held.turn.term), job: None };
            let put = Put::new(self.key(&user), row.encode(), Precondition::Rev(held.turn.rev));
            let put = Put { ttl: Some(self.jobs.timing.affinity_ttl), ..put };
            let sent = clock::boot();
            let cleared = self.jobs.records.store.put(put).await.ok();
            let turn = cleared.map(|rev| Turn { rev, named: None, ..held.turn });
            self.keep(&user, me, sent, Some(held.turn), turn, false);
        }
    }

    /// Forgets the users of an earlier incarnation of this worker.
    pub(crate) fn drop_lapsed(&self) {
        let Some(me) = self.lease.worker() else { return };
        self.drop_held(ReleaseReason::Lost, |held| held.epoch != me.epoch);
    }

    fn drop_held(&self, why: ReleaseReason, is_over: impl Fn(&HeldTurn) -> bool) {
        let gone: Vec<String> =
            self.held().extract_if(|_, held| is_over(held)).map(|(user, _)| user).collect();
        gone.iter().for_each(|user| self.released(user, why));
    }

    fn released(&self, user: &str, why: ReleaseReason) {
        self.events.send(OwnershipEvent::Released { user: user.into(), why });
    }

    /// Releases a user, unless a job of the user runs; also one that this worker owns without knowing it. Returns whether
    /// this worker does not own the user any more, as far as it knows.
    pub(crate) async fn release(&self, user: &str, why: ReleaseReason) -> bool {
        let Some(me) = self.lease.worker() else { return false };
        let before = self.held().remove(user);
        let known = before.filter(|before| before.epoch == me.epoch).map(|before| before.turn);
        let mut protocol =
            TurnProtocol::new(self.key(user), me, self.jobs.timing.affinity_ttl, known, TurnGoal::Release);
        match self.perform(&mut protocol).await {
            TurnOutcome::Blocked(_) => {
                // the row stays as it is
                if let Some(before) = before {
                    self.held().entry(user.to_owned()).or_insert(before);
                }
                false
            }
            outcome => {
                if !matches!(outcome, TurnOutcome::Released) {
                    tracing::debug!(?outcome, "a user is not released, the next owner takes the user over");
                }
                if before.is_some() {
                    self.released(user, why);
                }
                true
            }
        }
    }

    /// Returns the users that this worker holds.
    pub(crate) fn users(&self) -> Vec<String> {
        self.held().keys().cloned().collect()
    }
}
