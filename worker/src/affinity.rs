//! Assigned jobs: one worker per user, one job of a user at a time.
//!
//! Owns: the open jobs of the lane in memory, fed by one watch, and one task per user with a job that is due. Never: the
//! right to run a job (`user_turns`), or the effect of a job.
//!
//! A job starts because of its row in the watch. A worker that owns a user runs the jobs of the user; for a user
//! without an owner, the worker that rendezvous hashing chooses becomes it. A worker that is chosen and finds another
//! owner wakes that owner, because the owner may have forgotten the user, and looks again later.

use std::collections::hash_map::Entry as ServingEntry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use pagewire_cluster::clock::unix_ms;
use pagewire_cluster::engine::{Precondition, Unavailable, Watch, WatchEvent, WatchMode, WriteError};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Jobs;
use pagewire_cluster::job::StoredJob;
use pagewire_cluster::job::TransitionError;
use pagewire_cluster::subject::job_key;
use pagewire_cluster::worker::{WorkerGroup, WorkerId};
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::attempt::AttemptEnd;
use super::claim::Claims;
use super::foreign_users::ForeignUsers;
use super::open_jobs::{OpenJobs, OpenRow};
use super::slots::Slot;
use super::turn_protocol::TurnOutcome;
use super::user_turns::UserTurns;
use super::work::WorkerParts;

/// The assigned jobs of one worker.
pub(crate) struct AssignedJobs {
    parts: Arc<WorkerParts>,
    claims: Arc<Claims>,
    id: Key,
    turns: Arc<UserTurns>,
    open: Mutex<OpenJobs>,
    /// Notified when a job begins to wait for a time.
    put_off: Notify,
    /// Users with a running task for their jobs, each with its wake-up.
    serving: Mutex<HashMap<Arc<str>, Arc<Notify>>>,
    foreign: ForeignUsers,
}

/// What the task of a user does next.
enum Next {
    /// No job of the user is to be run here now.
    Done,
    /// Wait for this time or for a wake-up.
    Wait(Duration),
    /// Wait until the engine replies again.
    Retry,
    /// Look again at once.
    Again,
}

/// Opens the watch that feeds the open jobs of a lane.
pub(crate) async fn watch(jobs: &Jobs, group: &WorkerGroup) -> Result<Watch, Unavailable> {
    jobs.records.store.watch(&job_key::open(&group.pool, &group.lane), WatchMode::Meta).await
}

impl AssignedJobs {
    pub(crate) fn new(parts: Arc<WorkerParts>, claims: Arc<Claims>, turns: Arc<UserTurns>, id: Key) -> Self {
        let (open, serving, foreign) = (Mutex::default(), Mutex::default(), ForeignUsers::default());
        Self { parts, claims, id, turns, open, put_off: Notify::new(), serving, foreign }
    }

    fn open(&self) -> MutexGuard<'_, OpenJobs> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Notify>>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> &Jobs {
        &self.parts.jobs
    }

    fn drains(&self) -> bool {
        self.parts.drains()
    }

    /// Returns whether this worker serves the calls of a user now, as far as this process knows.
    pub(crate) fn has(&self, user: &str) -> bool {
        !self.drains() && self.turns.has(user)
    }

    /// Takes a user over for a call, unless another living worker owns the user. While this worker drains, it releases
    /// the user instead, unless jobs of the user run here.
    ///
    /// # Errors
    ///
    /// The id of the worker to call, or `None` when that cannot be determined now.
    pub(crate) async fn acquire_user(&self, user: &str) -> Result<(), Option<Key>> {
        if !self.drains() {
            return self.turns.acquire(user).await;
        }
        if self.serving().contains_key(user) {
            return Err(None);
        }
        self.turns.release(user).await;
        Err(self.turns.successor(user))
    }

    /// Releases all users. No work may run here any more.
    pub(crate) async fn release(&self) {
        for user in self.turns.users() {
            self.turns.release(&user).await;
        }
    }

    /// Lets the turn rows of users without work expire.
    pub(crate) async fn expire_idle(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.jobs().timing.affinity_ttl / 4).await;
            let busy: HashSet<String> = self.serving().keys().map(|user| user.to_string()).collect();
            self.turns.expire_idle(&busy).await;
        }
    }

    /// Applies the watch of open jobs and starts what is due, until this worker drains.
    pub(crate) async fn feed(self: Arc<Self>, mut watch: Watch) {
        let mut changes = self.jobs().workers.changes();
        let (mut link, mut draining) = (self.jobs().engine.link(), self.parts.draining.subscribe());
        let mut tick = interval(self.jobs().timing.lease_renew);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // before the whole snapshot is read, an older row of a user may be missing
        let mut live = false;
        loop {
            tokio::select! {
                event = watch.next() => match event {
                    Some(WatchEvent::Live) => {
                        live = true;
                        self.consider_all();
                    }
                    Some(event) => {
                        if let Some(user) = self.apply(event).filter(|_| live) {
                            self.consider(user);
                        }
                    }
                    None => return,
                },
                () = self.next_due() => {
                    let users = self.open().advance(unix_ms());
                    users.into_iter().filter(|_| live).for_each(|user| self.consider(user));
                }
                Ok(()) = changes.changed(), if live => self.consider_all(),
                // a message to the owner of a user may have been lost with the connection
                Ok(()) = link.changed(), if live => self.consider_all(),
                _ = tick.tick(), if live => self.look_again(),
                _ = draining.wait_for(|draining| *draining) => break,
            }
        }
        for user in self.turns.users() {
            if !self.serving().contains_key(user.as_str()) {
                self.turns.release(&user).await;
            }
        }
    }

    fn apply(&self, event: WatchEvent) -> Option<Arc<str>> {
        match event {
            WatchEvent::Put(entry) => self.open().put(&entry, unix_ms()),
            WatchEvent::Delete { key, .. } => {
                self.open().delete(&key);
                None
            }
            WatchEvent::Live => None,
        }
    }

    /// Resolves when the next job that waits for a time is due.
    async fn next_due(&self) {
        loop {
            let due = self.open().next_due();
            let wait = due.map_or(Duration::MAX, |due| Duration::from_millis(due.saturating_sub(unix_ms())));
            tokio::select! {
                () = tokio::time::sleep(wait) => return,
                () = self.put_off.notified() => {}
            }
        }
    }

    fn consider_all(self: &Arc<Self>) {
        self.foreign.clear();
        let users = self.open().users();
        users.into_iter().for_each(|user| self.consider(user));
    }

    /// Considers the users of other workers again when their time has come, because an owner may forget a user.
    fn look_again(self: &Arc<Self>) {
        self.foreign.take_due().into_iter().for_each(|user| self.consider(user));
    }

    /// Starts the task of a user that has a job which is due, if the user is this worker's.
    fn consider(self: &Arc<Self>, user: Arc<str>) {
        let chosen = || self.jobs().workers.roster().choose(&self.parts.group, &user) == Some(self.id);
        let ours = self.serving().contains_key(&user) || self.turns.has(&user);
        if ours || (!self.foreign.has(&user) && chosen()) {
            self.serve(user);
        }
    }

    /// Handles the message that this worker owns a user with a job that is due.
    pub(crate) fn wake(self: &Arc<Self>, user: String) {
        let this = self.clone();
        tokio::spawn(async move {
            // remembers the user, so that the row of the job may arrive later
            if !this.drains() && this.acquire_user(&user).await.is_ok() {
                this.serve(user.into());
            }
        });
    }

    /// Runs the jobs of a user in one task per user; a call during that wakes the task instead.
    fn serve(self: &Arc<Self>, user: Arc<str>) {
        let bell = match self.serving().entry(user.clone()) {
            ServingEntry::Occupied(serving) => return serving.get().notify_one(),
            ServingEntry::Vacant(slot) => slot.insert(Arc::default()).clone(),
        };
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let next = match this.wait_for_slot(&user).await {
                    // most users wait for a slot: only those with one take the memory of a claim
                    Some(slot) => Box::pin(this.run_next(&user, slot)).await,
                    None => Next::Done,
                };
                match next {
                    Next::Again => {}
                    Next::Retry => this.jobs().records.wait_to_retry().await,
                    Next::Wait(wait) => drop(timeout(wait, bell.notified()).await),
                    Next::Done => {
                        let mut serving = this.serving();
                        // a wake-up sent before the lock was taken is not lost: `Notify` stores one permit
                        if bell.notified().now_or_never().is_none() {
                            serving.remove(&user);
                            break;
                        }
                    }
                }
            }
            if this.drains() {
                this.turns.release(&user).await;
            }
        });
    }

    /// Waits for a slot for a user with a job that is due. Returns `None` when no job is to be run here now.
    async fn wait_for_slot(&self, user: &str) -> Option<Slot> {
        if !self.open().has(user) {
            return None;
        }
        let slot = self.parts.slots.job().await;
        slot.filter(|_| !self.drains())
    }

    /// Runs the first job of a user that is due to its end.
    async fn run_next(self: &Arc<Self>, user: &Arc<str>, slot: Slot) -> Next {
        let Some(row) = self.open().first(user) else { return Next::Done };
        let known = self.open().take_record(row.id);
        let read = match known {
            Some(known) => known,
            None => match self.jobs().records.get(row.id).await {
                Ok(Some(read)) => read,
                Ok(None) => return self.forget(&row).await,
                Err(Unavailable) => return Next::Retry,
            },
        };
        let pause = Next::Wait(self.jobs().timing.lease_renew);
        let Some(me) = self.parts.active() else { return pause };
        // registered before the claim is written, so that no written claim is without a registration
        let Some(running) = self.parts.running.begin(row.id) else { return Next::Retry };
        match self.turns.claim(user, me, &self.parts.release, &read).await {
            Ok(TurnOutcome::Claimed(claimed)) => {
                let (ended, end) = oneshot::channel();
                self.claims.start(*claimed, me, None, Some(ended), running, slot).await;
                // an error means that the attempt was dropped, which is an end as well
                if let Ok(end) = end.await {
                    self.ended(user, row.id, &end);
                }
                Next::Again
            }
            Ok(TurnOutcome::Elsewhere(owner)) => self.leave(user, owner).await,
            Ok(TurnOutcome::Blocked(named)) => self.take(*named).await,
            Ok(TurnOutcome::Owned | TurnOutcome::Moved) => Next::Again,
            Ok(TurnOutcome::Unavailable) => Next::Retry,
            // a job that waits for its next try stands aside
            Err(TransitionError::NotDue(ms)) => {
                self.put_off(row.id, unix_ms() + ms);
                Next::Again
            }
            Err(TransitionError::Running(_)) => {
                // giving back a claim of this worker registers the job
                drop(running);
                self.take(read).await
            }
            // the job has ended, but the worker that ended it may have been killed before it notified the pages
            Err(_) => {
                self.jobs().notifier.notify_pages(&read).await;
                self.forget(&row).await
            }
        }
    }

    fn put_off(&self, job: Key, until: u64) {
        self.open().wait(job, until);
        self.put_off.notify_one();
    }

    /// Applies the end of an attempt before the watch does.
    fn ended(&self, user: &str, job: Key, end: &AttemptEnd) {
        self.turns.settled(user, job);
        match end {
            // its row is being deleted, and is looked at again if that fails
            AttemptEnd::Over => {
                self.put_off(job, unix_ms() + self.jobs().timing.redelivery.as_millis() as u64);
            }
            AttemptEnd::Again { due } if *due > unix_ms() => self.put_off(job, *due),
            AttemptEnd::Again { .. } | AttemptEnd::Lost => {}
        }
    }

    /// Leaves a user to its owner.
    async fn leave(&self, user: &Arc<str>, owner: WorkerId) -> Next {
        let drains = self.jobs().workers.roster().row(owner.id).is_some_and(|row| row.draining);
        if drains {
            return Next::Wait(self.jobs().timing.lease_renew / 10);
        }
        self.foreign.put(user.clone(), self.jobs().timing.redelivery);
        self.jobs().wake_at(owner.id, user).await;
        Next::Done
    }

    /// Takes a job from the worker that its record names, if that worker does not run it any more.
    async fn take(&self, stored: StoredJob) -> Next {
        let Some(worker) = stored.record.worker else { return Next::Again };
        match self.claims.mark_lost(stored, worker).await {
            Some(changed) => {
                self.jobs().run_effect(changed).await;
                Next::Again
            }
            None => Next::Wait(self.jobs().timing.lease_renew),
        }
    }

    /// Deletes the row of a job that has ended.
    async fn forget(&self, row: &OpenRow) -> Next {
        match self.jobs().records.store.delete(&row.key, Precondition::Rev(row.rev)).await {
            Ok(()) | Err(WriteError::Conflict { .. }) => {
                self.open().forget(row);
                Next::Again
            }
            Err(_) => Next::Wait(self.jobs().timing.lease_renew),
        }
    }
}
