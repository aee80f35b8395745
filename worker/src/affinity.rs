//! Assigned jobs: one worker per user, one job of a user at a time.
//!
//! Owns: which rows of open jobs this worker watches, one task per user with a job that is due, and when a user is
//! released. Never: the right to run a job (`user_turns`), or its claim (`turn_runner`).
//!
//! A job starts because of its row in the watch, at the worker that its user is assigned to (`assignment`). That worker
//! becomes the owner of the user. A worker that owns a user who is assigned to another one by now ends its job, releases
//! the user and wakes the other one.
//!
//! Workers of a lane may have different handlers. A user is then assigned per method: every worker that is assigned to
//! the user for one of its methods follows the rows of the user, and the user belongs to the worker of the first job that
//! is due. When that one is another worker's, the owner releases the user to it, so still one job of the user runs at a
//! time, in order. A job without a worker stands aside until the workers change. Calls do not move the user: a worker
//! serves the calls of a method that the owner does not have without owning the user.

use std::collections::hash_map::Entry as ServingEntry;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, Jobs};
use pagewire_cluster::worker::WorkerId;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::assignment::Assignment;
use super::foreign_users::ForeignUsers;
use super::open_jobs::OpenRow;
use super::open_queue::OpenQueue;
use super::open_watch::{OpenEvent, OpenWatch};
use super::ownership::ReleaseReason;
use super::slots::Slot;
use super::turn_runner::{NextStep, TurnRunner};
use super::user_turns::UserTurns;
use super::work::WorkerParts;

/// The assigned jobs of one worker.
pub(crate) struct AssignedJobs {
    parts: Arc<WorkerParts>,
    pub(crate) assignment: Assignment,
    turns: Arc<UserTurns>,
    open: Arc<OpenQueue>,
    runner: TurnRunner,
    /// Users with a running task for their jobs, each with its wake-up.
    serving: Mutex<HashMap<Arc<str>, Arc<Notify>>>,
    foreign: ForeignUsers,
}

impl AssignedJobs {
    pub(crate) fn new(assignment: Assignment, runner: TurnRunner) -> Self {
        let TurnRunner { parts, turns, open, .. } = &runner;
        Self {
            parts: parts.clone(),
            assignment,
            turns: turns.clone(),
            open: open.clone(),
            runner,
            serving: Mutex::default(),
            foreign: ForeignUsers::default(),
        }
    }

    fn serving(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Notify>>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serves(&self, user: &str) -> bool {
        self.serving().contains_key(user)
    }

    fn jobs(&self) -> &Jobs {
        &self.parts.jobs
    }

    /// Returns the first job of a user that is due and has a worker, with that worker.
    fn next_job(&self, user: &str) -> Option<(OpenRow, Key)> {
        // looked up under the lock: a change of the workers after it reconsiders the jobs that stand aside
        self.open.lock().first_with(user, |row| self.assignment.worker_of_kind(user, &row.kind))
    }

    /// Returns the worker that a user belongs to now: the one of the next job, or the home of the user.
    fn worker_of(&self, user: &str) -> Option<Key> {
        match self.next_job(user) {
            Some((_, worker)) => Some(worker),
            None => self.assignment.worker_of(user, None),
        }
    }

    /// Returns whether a user belongs to this worker now.
    fn is_mine(&self, user: &str) -> bool {
        self.worker_of(user) == Some(self.assignment.id)
    }

    /// Returns whether this worker serves the calls of a user now, as far as this process knows. A user with a job that
    /// runs here is not released before its end.
    pub(crate) fn has(&self, user: &str, method: &str) -> bool {
        let mine = || self.assignment.worker_of(user, Some(method)) == Some(self.assignment.id);
        self.parts.methods.contains(method) && self.turns.has(user) && (self.serves(user) || mine())
    }

    /// Prepares a call of a user, if this worker is the one for its method. Takes the user over, so that the call is
    /// `assigned`, unless the user belongs to another worker that does not have the method: then it is `free`.
    ///
    /// # Errors
    ///
    /// The id of the worker to call, or `None` when that cannot be determined now.
    pub(crate) async fn admit_call(&self, user: &str, method: &str) -> Result<Affinity, Option<Key>> {
        let (me, worker) = (Some(self.assignment.id), self.assignment.worker_of(user, Some(method)));
        if worker != me {
            if self.turns.has(user) && !self.serves(user) && !self.is_mine(user) {
                self.release_user(user).await;
            }
            return Err(worker);
        }
        if self.assignment.worker_of(user, None) != me {
            return Ok(Affinity::Free);
        }
        match self.turns.acquire(user).await {
            Err(Some(owner)) if !self.assignment.has(owner, method) => Ok(Affinity::Free),
            acquired => acquired.map(|()| Affinity::Assigned),
        }
    }

    /// Releases a user to the worker that the user is assigned to.
    async fn release_user(&self, user: &str) {
        if !self.turns.release(user, ReleaseReason::Moved).await {
            return;
        }
        if let Some(next) = self.worker_of(user).filter(|next| *next != self.assignment.id) {
            self.jobs().wake_at(next, user).await;
        }
    }

    /// Releases all users. No work may run here any more.
    pub(crate) async fn release(&self) {
        for user in self.turns.users() {
            self.release_user(&user).await;
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

    /// Applies the watch of open jobs and starts what is due, until this worker drains. The watch starts again when the
    /// partitions of this worker change; no job is due before all rows have come again.
    pub(crate) async fn feed(self: Arc<Self>) {
        let mut rows = OpenWatch::new(&self.jobs().records.store, &self.parts.group.pool);
        let (mut workers, mut rollouts) =
            (self.assignment.workers.changes(), self.assignment.rollouts.changes());
        let (mut link, mut draining) = (self.jobs().engine.link(), self.parts.draining.subscribe());
        let mut tick = interval(self.jobs().timing.lease_renew);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut selected = false;
        loop {
            if !selected {
                selected = match rows.select(self.assignment.partitions()).await {
                    Ok(true) => {
                        self.open.lock().begin_snapshot();
                        true
                    }
                    outcome => outcome.is_ok(),
                };
            }
            tokio::select! {
                event = rows.next() => {
                    if self.apply(event).is_break() {
                        return;
                    }
                }
                () = self.open.next_due(&self.jobs().records) => {
                    let users = self.open.lock().advance(self.parts.now_ms());
                    users.into_iter().for_each(|user| self.consider(user));
                }
                Ok(()) = workers.changed() => {
                    selected = false;
                    self.reassign();
                }
                Ok(()) = rollouts.changed() => self.reassign(),
                // a message to the owner of a user may have been lost with the connection
                Ok(()) = link.changed() => self.reassign(),
                _ = tick.tick() => {
                    self.turns.drop_lapsed();
                    self.foreign.take_due().into_iter().for_each(|user| self.consider(user));
                }
                _ = draining.wait_for(|draining| *draining) => break,
            }
        }
        self.reassign();
    }

    fn apply(self: &Arc<Self>, event: OpenEvent) -> ControlFlow<()> {
        match event {
            OpenEvent::Put(entry) => {
                let due = self.open.lock().put(&entry, self.parts.now_ms());
                match due {
                    Some(user) => self.consider(user),
                    None => {
                        let user = self.open.lock().user_of(&entry.key);
                        self.consider_next(user);
                    }
                }
            }
            OpenEvent::Deleted(key) => {
                let user = self.open.lock().delete(&key);
                self.consider_next(user);
            }
            OpenEvent::Complete => {
                self.open.lock().end_snapshot();
                self.consider_all();
            }
            OpenEvent::Ended => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Acts on a change of the assignment: releases users who are assigned to another worker by now, and considers the
    /// others.
    fn reassign(self: &Arc<Self>) {
        for user in self.turns.users() {
            match self.serving().get(user.as_str()) {
                Some(bell) => bell.notify_one(),
                None if self.is_mine(&user) => {}
                None => {
                    let this = self.clone();
                    tokio::spawn(async move { this.release_user(&user).await });
                }
            }
        }
        self.consider_all();
    }

    fn consider_all(self: &Arc<Self>) {
        self.foreign.clear();
        self.open.lock().reconsider();
        let users = self.open.lock().users();
        users.into_iter().for_each(|user| self.consider(user));
    }

    /// Starts the task of a user that has a job which is due, if the user is this worker's.
    fn consider(self: &Arc<Self>, user: Arc<str>) {
        if self.serves(&user) || (!self.foreign.has(&user) && self.is_mine(&user)) {
            self.serve(user);
        }
    }

    /// Considers a user whose earlier job is not due any more: the next one may be this worker's. The owner of the user
    /// looks for it without this.
    fn consider_next(self: &Arc<Self>, user: Option<Arc<str>>) {
        if let Some(user) = user.filter(|user| !self.turns.has(user)) {
            self.consider(user);
        }
    }

    /// Handles the message that a user with a job which is due is assigned to this worker, or that the user should be
    /// released.
    pub(crate) fn wake(self: &Arc<Self>, user: String) {
        let this = self.clone();
        tokio::spawn(async move {
            let user: Arc<str> = user.into();
            this.foreign.remove(&user);
            if !this.is_mine(&user) {
                if !this.serves(&user) {
                    this.release_user(&user).await;
                }
                return;
            }
            // takes the user, so that the row of the job may arrive later
            match this.turns.acquire(&user).await {
                Ok(()) => this.serve(user),
                Err(_) => this.foreign.put(user, this.jobs().timing.lease_renew),
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
                    Some((row, slot)) => Box::pin(this.runner.run_next(&user, row, slot)).await,
                    None => NextStep::Done,
                };
                match next {
                    NextStep::Again => {}
                    NextStep::Retry => this.jobs().records.wait_to_retry().await,
                    NextStep::Wait(wait) => drop(timeout(wait, bell.notified()).await),
                    NextStep::Leave(owner) => this.leave(&user, owner).await,
                    NextStep::Done => {
                        let mut serving = this.serving();
                        // a wake-up sent before the lock was taken is not lost: `Notify` stores one permit
                        if bell.notified().now_or_never().is_none() {
                            serving.remove(&user);
                            break;
                        }
                    }
                }
            }
            if !this.is_mine(&user) {
                this.release_user(&user).await;
            }
        });
    }

    /// Waits for a slot for the next job of a user. Returns `None` when no job is to be run here now.
    async fn wait_for_slot(&self, user: &str) -> Option<(OpenRow, Slot)> {
        let next = || {
            let (row, worker) = self.next_job(user).filter(|_| !self.foreign.has(user))?;
            (worker == self.assignment.id).then_some(row)
        };
        next()?;
        let slot = self.parts.slots.job().await?;
        Some((next()?, slot))
    }

    /// Leaves a user to its owner until that one releases the user or this worker looks again.
    async fn leave(&self, user: &Arc<str>, owner: WorkerId) {
        self.foreign.put(user.clone(), self.jobs().timing.lease_renew);
        self.jobs().wake_at(owner.id, user).await;
    }
}
