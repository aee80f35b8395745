//! Assigned jobs: one worker per user, one job of a user at a time.
//!
//! Owns: the users assigned to this worker, the order of a user's jobs, and finding rows without a delivered wake-up.
//! Never: the effect of a job.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::inbox::WorkerInbox;
use super::store::{Fence, Jobs, PendingRow, TransitionFailure};
use super::transition::TransitionError;
use super::unix_ms;
use crate::clock;
use crate::engine::{
    Consistency, Entry, OperationId, Precondition, Put, Resolution, Unavailable, WriteError,
};
use crate::id::Key;
use crate::subject::{SubjectToken, job_key};
use crate::wire;
use crate::worker::{WorkerGroup, WorkerId, partition};

/// Rows that one read of a user's jobs, or of a lane, returns at most.
const ROWS: usize = 256;
/// Number of reads in a periodic sweep; a sweep after an event reads all rows.
const PIECES: usize = 4;
/// How often a worker that lost the race for a user tries again.
const CLAIMS: usize = 3;

/// The value of the fence row of a user.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct FenceRow {
    pub(super) worker: WorkerId,
}

/// A user assigned to this worker, and when the assignment expires on the local clock.
#[derive(Debug, Clone, Copy)]
struct OwnedUser {
    epoch: u64,
    rev: u64,
    /// End of the assignment on this process's clock, earlier than the row can expire.
    until: Duration,
}

type Claiming = Shared<BoxFuture<'static, Result<Fence, Option<Key>>>>;

/// The users of one worker.
pub(super) struct UserAffinity {
    inbox: Arc<WorkerInbox>,
    id: Key,
    held: Mutex<HashMap<String, OwnedUser>>,
    /// Users with a claim in progress; concurrent callers wait for the same outcome.
    claiming: Mutex<HashMap<String, Claiming>>,
    /// Users with a running task for their jobs, each with its wake-up.
    serving: Mutex<HashMap<String, Arc<Notify>>>,
}

/// The result of reading a user's rows.
enum Next {
    /// No row is left.
    Done,
    /// No job is due before this time has passed.
    Wait(Duration),
    /// Read the rows again at once.
    Again,
}

impl UserAffinity {
    pub(super) fn new(inbox: Arc<WorkerInbox>, id: Key) -> Self {
        Self { inbox, id, held: Mutex::default(), claiming: Mutex::default(), serving: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, OwnedUser>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> &Jobs {
        &self.inbox.jobs
    }

    fn fence_key(&self, user: &str) -> String {
        let WorkerGroup { pool, lane } = &self.inbox.team;
        job_key::fence(pool, lane, &SubjectToken::new(user))
    }

    /// Assigns a user to this worker unless another living worker has the user.
    ///
    /// # Errors
    ///
    /// The id of the other worker, or `None` when the owner cannot be determined now.
    pub(super) async fn acquire_user(self: &Arc<Self>, user: &str) -> Result<Fence, Option<Key>> {
        if *self.inbox.draining.borrow() {
            return Err(self.hand_over(user).await);
        }
        let me = self.inbox.lease.worker().ok_or(None)?;
        if let Some(held) = self.valid(user, me) {
            return Ok(Fence { key: self.fence_key(user), rev: held.rev });
        }
        let claiming =
            self.claiming().entry(user.to_owned()).or_insert_with(|| self.begin_claim(user, me)).clone();
        claiming.await
    }

    fn claiming(&self) -> MutexGuard<'_, HashMap<String, Claiming>> {
        self.claiming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_claim(self: &Arc<Self>, user: &str, me: WorkerId) -> Claiming {
        let (this, user) = (self.clone(), user.to_owned());
        let claiming = async move {
            let mut claimed = Err(None);
            for _ in 0..CLAIMS {
                claimed = this.claim(&user, me).await;
                if !matches!(claimed, Err(None)) {
                    break;
                }
            }
            this.claiming().remove(&user);
            claimed
        };
        claiming.boxed().shared()
    }

    /// Returns whether a user is assigned to this worker now, as far as this process knows.
    pub(super) fn has(&self, user: &str) -> bool {
        !*self.inbox.draining.borrow()
            && self.inbox.lease.worker().is_some_and(|me| self.valid(user, me).is_some())
    }

    fn valid(&self, user: &str, me: WorkerId) -> Option<OwnedUser> {
        let held = *self.held().get(user)?;
        (held.epoch == me.epoch && clock::boot() < held.until).then_some(held)
    }

    async fn claim(&self, user: &str, me: WorkerId) -> Result<Fence, Option<Key>> {
        let key = self.fence_key(user);
        let entry = self.jobs().store.get(&key, Consistency::Latest).await.map_err(|Unavailable| None)?;
        let expect = match entry.as_ref().map(|entry| (entry.rev, owner(entry))) {
            None => Precondition::Absent,
            Some((_, Some(owner))) if owner.worker.id != self.id && self.lives(owner.worker).await => {
                return Err(Some(owner.worker.id));
            }
            Some((rev, _)) => Precondition::Rev(rev),
        };
        self.write(user, me, key, expect).await
    }

    async fn write(
        &self,
        user: &str,
        me: WorkerId,
        key: String,
        expect: Precondition,
    ) -> Result<Fence, Option<Key>> {
        let (sent, op, assignment) = (clock::boot(), OperationId::random(), self.jobs().timing.affinity_ttl);
        let value = wire::encode(&FenceRow { worker: me });
        let put = Put { ttl: Some(assignment), op, ..Put::new(key.as_str(), value, expect) };
        let rev = match self.jobs().store.put(put).await {
            Ok(rev) => rev,
            Err(WriteError::Unknown) => match self.jobs().store.resolve_unknown(&key, op).await {
                Ok(Resolution::Written { rev }) => rev,
                _ => return Err(None),
            },
            Err(_) => {
                self.held().remove(user);
                return Err(None);
            }
        };
        // stop using the assignment at 75 % of its TTL, so that a commit that depends on it can still arrive
        let held = OwnedUser { epoch: me.epoch, rev, until: sent + assignment * 3 / 4 };
        self.held().insert(user.to_owned(), held);
        Ok(Fence { key, rev })
    }

    /// Returns whether a worker counts as alive. A worker without a responder is confirmed dead at once, because its
    /// users wait.
    async fn lives(&self, worker: WorkerId) -> bool {
        let workers = &self.jobs().workers;
        match workers.is_alive(&self.inbox.team, worker).await {
            Ok(true) => workers.evict_dead(&self.inbox.team, worker).await != Ok(true),
            alive => alive != Ok(false),
        }
    }

    /// Releases a user while this worker drains, unless jobs of the user run here, and returns the worker that should
    /// take the user.
    async fn hand_over(&self, user: &str) -> Option<Key> {
        if self.serving().contains_key(user) {
            return None;
        }
        self.release_user(user).await;
        self.jobs().workers.roster().choose(&self.inbox.team, user).filter(|next| *next != self.id)
    }

    async fn release_user(&self, user: &str) {
        let Some(held) = self.held().remove(user) else { return };
        let key = self.fence_key(user);
        if let Err(error) = self.jobs().store.delete(&key, Precondition::Rev(held.rev)).await {
            tracing::debug!(%error, "a user is not given up, the lease will");
        }
    }

    /// Releases all users.
    pub(super) async fn release(&self) {
        let users: Vec<String> = self.held().keys().cloned().collect();
        for user in users {
            self.release_user(&user).await;
        }
    }

    /// Renews the assignment of users with jobs that run here, however long the jobs take.
    pub(super) async fn renew(self: Arc<Self>) {
        let period = self.jobs().timing.affinity_ttl / 4;
        loop {
            tokio::time::sleep(period).await;
            let serving: HashSet<String> = self.serving().keys().cloned().collect();
            let now = clock::boot();
            self.held().retain(|user, held| serving.contains(user) || now < held.until);
            let Some(me) = self.inbox.lease.worker() else { continue };
            for user in serving {
                if let Some(held) = self.valid(&user, me) {
                    let _ = self.write(&user, me, self.fence_key(&user), Precondition::Rev(held.rev)).await;
                }
            }
        }
    }

    /// Processes the jobs of a user in one task per user; a call during that wakes the task instead.
    pub(super) fn serve(self: &Arc<Self>, user: String) {
        let bell = match self.serving().entry(user.clone()) {
            Slot::Occupied(serving) => return serving.get().notify_one(),
            Slot::Vacant(slot) => slot.insert(Arc::default()).clone(),
        };
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let wait = match this.run_next(&user).await {
                    Next::Done => Duration::ZERO,
                    Next::Again => continue,
                    Next::Wait(wait) => wait,
                };
                if timeout(wait, bell.notified()).await.is_err() && wait.is_zero() {
                    let mut serving = this.serving();
                    // a wake-up sent before the lock was taken is not lost: `Notify` stores one permit
                    if take_notification(&bell) {
                        continue;
                    }
                    serving.remove(&user);
                    return;
                }
            }
        });
    }

    /// Runs the first due job of a user to its end.
    async fn run_next(self: &Arc<Self>, user: &str) -> Next {
        let pause = Next::Wait(self.jobs().timing.lease_renew);
        let WorkerGroup { pool, lane } = &self.inbox.team;
        let prefix = job_key::open_of(pool, lane, partition(user), &SubjectToken::new(user));
        let Ok(rows) = self.jobs().store.scan(&prefix, 0, ROWS).await else { return pause };
        let now = unix_ms();
        let due = |entry: &Entry| open(entry).map_or(0, |open| open.due);
        let Some(first) = rows.iter().find(|entry| due(entry) <= now) else {
            let soonest = rows.iter().map(due).min();
            return soonest.map_or(Next::Done, |soonest| Next::Wait(Duration::from_millis(soonest - now)));
        };
        let fence = match self.acquire_user(user).await {
            Ok(fence) => fence,
            Err(Some(other)) => {
                self.jobs().wake_at(other, user).await;
                return Next::Done;
            }
            Err(None) if *self.inbox.draining.borrow() => return Next::Done,
            Err(None) => return pause,
        };
        self.run(first, &fence).await
    }

    async fn run(&self, row: &Entry, fence: &Fence) -> Next {
        let (jobs, store) = (self.jobs(), &self.jobs().store);
        let pause = Next::Wait(jobs.timing.lease_renew);
        let forget = async || match store.delete(&row.key, Precondition::Rev(row.rev)).await {
            Ok(()) | Err(WriteError::Conflict { .. }) => Next::Again,
            Err(_) => Next::Wait(jobs.timing.lease_renew),
        };
        let Some(id) = row.key.rsplit('.').next().and_then(|id| id.parse::<Key>().ok()) else {
            return forget().await;
        };
        let stored = match jobs.get(id).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return forget().await,
            Err(Unavailable) => return pause,
        };
        let Ok(slot) = self.inbox.slots.clone().acquire_owned().await else { return Next::Done };
        let (ended, end) = oneshot::channel();
        match self.inbox.claim(stored, Some(fence), None, Some(ended), slot).await {
            Ok(()) => {
                // an error means that the attempt was dropped, which is an end as well
                let _ = end.await;
                Next::Again
            }
            // a failed job keeps its position, because the order of a user's jobs is guaranteed
            Err(TransitionFailure::Refused(TransitionError::NotDue(ms), _)) => {
                Next::Wait(Duration::from_millis(ms))
            }
            Err(TransitionFailure::Refused(TransitionError::Running(worker), running)) => {
                match self.inbox.mark_lost(*running, worker).await {
                    Some(changed) => {
                        jobs.run_effect(changed).await;
                        Next::Again
                    }
                    None => pause,
                }
            }
            // the job has ended, but the worker that ended it may have been killed before it notified the pages
            Err(TransitionFailure::Refused(_, over)) => {
                jobs.notify_pages(&over).await;
                forget().await
            }
            Err(TransitionFailure::Gone) => forget().await,
            Err(TransitionFailure::Fenced) => {
                if let Some(user) = open(row) {
                    self.held().remove(&user.user);
                }
                Next::Again
            }
            Err(TransitionFailure::Unavailable) => pause,
        }
    }

    /// Finds users with open jobs in the partitions of this worker: some rows periodically, and all rows when a worker
    /// joined or left and when the connection changed.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut changes = self.jobs().workers.changes();
        let mut draining = self.inbox.draining.subscribe();
        let WorkerGroup { pool, lane } = &self.inbox.team;
        let prefix = job_key::open(pool, lane);
        let mut link = self.jobs().engine.link();
        let mut after = 0;
        loop {
            let whole = tokio::select! {
                () = tokio::time::sleep(self.jobs().timing.lease_renew) => false,
                Ok(()) = changes.changed() => true,
                // wake-ups may have been lost with the connection
                Ok(()) = link.changed() => true,
                _ = draining.wait_for(|draining| *draining) => return,
            };
            let mut pieces = if whole { usize::MAX } else { PIECES };
            after = if whole { 0 } else { after };
            while pieces > 0 {
                let Ok(rows) = self.jobs().store.scan(&prefix, after, ROWS).await else { break };
                pieces = if rows.len() < ROWS { 0 } else { pieces - 1 };
                // the next sweep continues where this one ends
                after = rows.last().filter(|_| rows.len() == ROWS).map_or(0, |last| last.rev);
                let users: HashSet<String> = rows.iter().filter_map(open).map(|open| open.user).collect();
                for user in users.into_iter().filter(|user| self.looks_after(user)) {
                    self.serve(user);
                }
            }
        }
    }

    fn looks_after(&self, user: &str) -> bool {
        let keeper = self.jobs().workers.roster().partition_owner(&self.inbox.team, partition(user));
        keeper == Some(self.id) || self.held().contains_key(user)
    }
}

/// Consumes a pending wake-up, if there is one.
fn take_notification(bell: &Notify) -> bool {
    bell.notified().now_or_never().is_some()
}

fn open(entry: &Entry) -> Option<PendingRow> {
    serde_json::from_slice(&entry.meta).ok()
}

pub(super) fn owner(entry: &Entry) -> Option<FenceRow> {
    serde_json::from_slice(&entry.value).ok()
}
