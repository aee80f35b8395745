//! The requests that a worker receives, and the work that runs in it.
//!
//! Owns: the subscriptions of a worker and its slots. Never: which jobs the worker looks for (`queue`, `assigned`).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::assigned::AssignedJobs;
use super::attempt::{Attempt, AttemptEnd};
use super::change::Change;
use super::parts::Jobs;
use super::record::{JobState, Record};
use super::slots::{Slot, Slots};
use super::stored::{StoredJob, Transition, TransitionFailure};
use super::stream::{IncomingCall, Work};
use super::transition::{Claim, RecordEvent, TransitionError};
use crate::engine::{BusEvent, Message, QueueMessage, Subscription, Unavailable};
use crate::id::Key;
use crate::subject::worker_leaf;
use crate::wire::{self, CallAnswer, Cancel, ClaimsQuery, Wake, WorkerCall};
use crate::worker::{WorkerGroup, WorkerId, WorkerLease};

/// Maximum unread bytes of each subscription of a worker.
pub(super) const UNREAD: usize = 8 * 1024 * 1024;

/// Work that runs here and can be cancelled, or a job with a claim that is being changed here.
pub(super) struct RunningGuard {
    id: Key,
    inbox: Arc<WorkerInbox>,
    pub(super) cancel: Arc<watch::Sender<bool>>,
    /// Whether a handler has begun and its end is not written yet.
    begun: bool,
}

impl RunningGuard {
    /// Marks the end as written, or the job as held by another worker.
    pub(super) fn over(&mut self) {
        self.begun = false;
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        if self.begun {
            self.inbox.dropped.lock().unwrap_or_else(PoisonError::into_inner).insert(self.id);
        }
        self.inbox.running().remove(&self.id);
    }
}

/// State shared by the parts of a worker.
pub(super) struct WorkerInbox {
    pub(super) jobs: Jobs,
    pub(super) team: WorkerGroup,
    pub(super) release: String,
    pub(super) lease: WorkerLease,
    pub(super) slots: Slots,
    /// Permits for calls that wait for a slot.
    line: Semaphore,
    /// Calls without a reply so far.
    pub(super) unanswered: TaskTracker,
    pub(super) draining: watch::Sender<bool>,
    work: mpsc::Sender<Work>,
    running: Mutex<HashMap<Key, Arc<watch::Sender<bool>>>>,
    /// Jobs that began here and were dropped without an end, until their claims are given back.
    dropped: Mutex<HashSet<Key>>,
}

/// The subscriptions of a worker, except the one to the calls of its lane.
pub(super) struct ControlSubscriptions {
    own: Subscription,
    team: Subscription,
}

impl ControlSubscriptions {
    pub(super) async fn open(jobs: &Jobs, team: &WorkerGroup, id: Key) -> Result<Self, Unavailable> {
        let Jobs { engine, subjects, .. } = jobs;
        Ok(Self {
            own: engine.subscribe(&subjects.worker(id, ">"), None, UNREAD).await?,
            team: engine.subscribe(&subjects.workers(&team.pool, &team.lane), None, UNREAD).await?,
        })
    }
}

/// Handles the messages that this worker receives.
pub(super) async fn listen(
    inbox: Arc<WorkerInbox>,
    assigned: Arc<AssignedJobs>,
    control: ControlSubscriptions,
) {
    let ControlSubscriptions { mut own, mut team } = control;
    let own = async {
        while let Some(received) = own.next().await {
            if let BusEvent::Message(message) = received {
                inbox.clone().handle_control(&assigned, message);
            }
        }
    };
    let team = async {
        while let Some(received) = team.next().await {
            if let BusEvent::Message(message) = received {
                // a call, which at most one worker of the group runs
                let _ = inbox.stop(&message);
            }
        }
    };
    tokio::join!(own, team);
}

fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    let read = serde_json::from_slice(&message.payload);
    read.inspect_err(|error| tracing::warn!(subject = message.subject, %error, "unreadable message")).ok()
}

impl WorkerInbox {
    pub(super) fn new(
        jobs: &Jobs,
        team: WorkerGroup,
        release: String,
        lease: WorkerLease,
        slots: Slots,
        draining: watch::Sender<bool>,
        work: mpsc::Sender<Work>,
    ) -> Self {
        let jobs = jobs.clone();
        let (unanswered, running, dropped) = (TaskTracker::new(), Mutex::default(), Mutex::default());
        let line = Semaphore::new(slots.count() as usize);
        Self { jobs, team, release, lease, slots, line, unanswered, draining, work, running, dropped }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<watch::Sender<bool>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers work under an id. Returns `None` when the id is already registered.
    pub(super) fn begin(self: &Arc<Self>, id: Key) -> Option<RunningGuard> {
        let cancel = Arc::new(watch::Sender::new(false));
        match self.running().entry(id) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(cancel.clone())),
        }
        Some(RunningGuard { id, inbox: self.clone(), cancel, begun: false })
    }

    /// Handles a message for this worker alone.
    fn handle_control(self: Arc<Self>, assigned: &Arc<AssignedJobs>, message: Message) {
        match message.subject.rsplit('.').next() {
            Some(worker_leaf::ALIVE) => {
                tokio::spawn(async move { self.reply_bytes(message, bytes::Bytes::new()).await });
            }
            Some(worker_leaf::DRAIN) => {
                tracing::info!("drain requested");
                self.draining.send_replace(true);
                tokio::spawn(async move { self.reply_bytes(message, bytes::Bytes::new()).await });
            }
            Some(worker_leaf::CANCEL) => {
                if let Some(job) = self.stop(&message) {
                    tokio::spawn(self.check_claims(vec![job]));
                }
            }
            Some(worker_leaf::CLAIMS) => {
                if let Some(ClaimsQuery { jobs }) = read(&message) {
                    tokio::spawn(self.check_claims(jobs));
                }
            }
            Some(worker_leaf::WAKE) => {
                if let Some(Wake { user }) = read(&message) {
                    assigned.wake(user);
                }
            }
            Some(worker_leaf::CALL) => self.assigned_call(assigned, message),
            _ => tracing::debug!(subject = message.subject, "a message of another release ignored"),
        }
    }

    /// Cancels running work. Returns the id when it does not run here.
    fn stop(&self, message: &Message) -> Option<Key> {
        let Cancel { id } = read(message)?;
        match self.running().get(&id) {
            Some(cancel) => {
                cancel.send_replace(true);
                None
            }
            None => Some(id),
        }
    }

    /// Handles a call for the assigned worker of a user: only that worker serves it.
    fn assigned_call(self: Arc<Self>, assigned: &Arc<AssignedJobs>, question: Message) {
        let Some(call) = read::<WorkerCall>(&question) else { return };
        let Some(user) = call.user.clone() else { return };
        if assigned.has(&user) {
            return self.enqueue(call, question);
        }
        let assigned = assigned.clone();
        tokio::spawn(async move {
            match assigned.acquire_user(&user).await {
                Ok(_) => self.enqueue(call, question),
                Err(Some(worker)) => self.reply(question, &CallAnswer::Elsewhere { worker }).await,
                Err(None) => self.reply(question, &CallAnswer::Busy).await,
            }
        });
    }

    fn enqueue(self: &Arc<Self>, call: WorkerCall, question: Message) {
        if let Some(asked) = self.admit(call, question) {
            // the channel has room for as many items as there are slots, and the receiver is dropped only with the
            // worker
            let _ = self.work.try_send(Work::Call(Box::new(asked)));
        }
    }

    /// Parses a call of the lane and admits it if there is a slot.
    pub(super) fn call(self: &Arc<Self>, question: Message) -> Option<IncomingCall> {
        self.admit(read(&question)?, question)
    }

    fn admit(self: &Arc<Self>, call: WorkerCall, question: Message) -> Option<IncomingCall> {
        match self.slots.try_call() {
            Some(slot) => self.admit_with_slot(call, question, slot),
            None => {
                tokio::spawn(self.clone().wait_for_slot(call, question));
                None
            }
        }
    }

    /// Waits a short time for a slot. At most as many calls as there are slots may wait. All other calls are rejected
    /// at once, because another worker may have a slot.
    async fn wait_for_slot(self: Arc<Self>, call: WorkerCall, question: Message) {
        let slot = match self.line.try_acquire() {
            Ok(_place) => timeout(self.jobs.timing.slot_wait, self.slots.call()).await.ok().flatten(),
            Err(_) => None,
        };
        match slot {
            Some(slot) => {
                if let Some(asked) = self.admit_with_slot(call, question, slot) {
                    let _ = self.work.send(Work::Call(Box::new(asked))).await;
                }
            }
            None => self.reply(question, &CallAnswer::Busy).await,
        }
    }

    /// Admits a call that has a slot. Returns `None` when no caller waits for it any more.
    fn admit_with_slot(
        self: &Arc<Self>,
        call: WorkerCall,
        question: Message,
        slot: Slot,
    ) -> Option<IncomingCall> {
        let asked =
            IncomingCall { call, question, inbox: self.clone(), slot, _unanswered: self.unanswered.token() };
        (asked.remaining() != Some(Duration::ZERO)).then_some(asked)
    }

    pub(super) async fn reply(&self, question: Message, answer: &CallAnswer) {
        let bytes = match answer {
            CallAnswer::Value(value) => value.get().len() + 16,
            _ => 128,
        };
        self.reply_bytes(question, wire::encode_long(answer, bytes)).await;
    }

    async fn reply_bytes(&self, question: Message, answer: bytes::Bytes) {
        // the caller already has the trace
        if let Some(reply) = question.reply
            && let Err(error) = self.jobs.engine.publish(Message::new(reply, answer)).await
        {
            tracing::debug!(%error, "answer not sent");
        }
    }

    /// Returns this incarnation of the worker, while it holds its lease and its work is received.
    pub(super) fn active(&self) -> Option<WorkerId> {
        self.lease.worker().filter(|_| !self.work.is_closed())
    }

    /// Claims a free job and passes it, with the slot, to the receiver that runs handlers. If the reply to the claim is
    /// lost, its outcome is resolved during this incarnation of the worker; a claim that stays behind is given back by
    /// [`WorkerInbox::mark_lost`].
    pub(super) async fn claim(
        self: &Arc<Self>,
        stored: StoredJob,
        hint: QueueMessage,
        slot: Slot,
    ) -> Result<(), TransitionFailure> {
        let Some(worker) = self.active() else { return Err(TransitionFailure::Unavailable) };
        // registered before the claim is written, so that no written claim is without a registration
        let Some(running) = self.begin(stored.record.id) else {
            return Err(TransitionFailure::Refused(TransitionError::Running(worker), Box::new(stored)));
        };
        let change = Change::new(RecordEvent::Claim(worker, self.release.clone()));
        let goes_on = |sent| sent && self.lease.worker() == Some(worker);
        let Transition { stored, .. } = self.jobs.records.change_until_known(change, stored, goes_on).await?;
        self.start(stored, worker, Some(hint), None, running, slot).await;
        Ok(())
    }

    /// Passes a claimed job to the receiver that runs handlers.
    pub(super) async fn start(
        &self,
        stored: StoredJob,
        worker: WorkerId,
        hint: Option<QueueMessage>,
        ended: Option<oneshot::Sender<AttemptEnd>>,
        mut running: RunningGuard,
        slot: Slot,
    ) {
        let claim = Claim { worker, attempt: stored.record.attempts };
        running.begun = true;
        let attempt = Attempt::begin(&self.jobs, stored, claim, hint, ended, running, slot);
        let _ = self.work.send(Work::Job(Box::new(attempt))).await;
    }

    /// Takes a job from the worker that its record names if that worker is dead, or if it is this worker and no attempt
    /// exists for the claim. Returns the record after that, or `None` when the worker still has the job.
    pub(super) async fn mark_lost(
        self: &Arc<Self>,
        stored: StoredJob,
        worker: WorkerId,
    ) -> Option<Transition> {
        if self.active() == Some(worker) {
            return self.give_back(stored, worker).await;
        }
        if self.jobs.workers.is_alive(&stored.record.team(), worker).await != Ok(false) {
            return None;
        }
        tracing::info!(job = %stored.record.id, worker = %worker.id, "the worker of a job is dead");
        self.jobs.records.change(stored, RecordEvent::WorkerLost(worker)).await.ok()
    }

    /// Gives back a claim of this worker that has no attempt. If the reply to the claim was lost, the claim does not
    /// count as an attempt; if the attempt was dropped, it does.
    async fn give_back(self: &Arc<Self>, stored: StoredJob, worker: WorkerId) -> Option<Transition> {
        let Record { id, attempts, state, .. } = stored.record;
        // `None`: an attempt exists, or its claim is being changed
        let _in_hand = self.begin(id).filter(|_| state == JobState::Running)?;
        let dropped = || self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let event = match dropped().contains(&id) {
            true => RecordEvent::WorkerLost(worker),
            false => RecordEvent::Release(Claim { worker, attempt: attempts }),
        };
        let goes_on = |sent| sent && self.lease.worker() == Some(worker);
        let changed = self.jobs.records.change_until_known(Change::new(event), stored, goes_on).await;
        if let Err(TransitionFailure::Unavailable) = changed {
            return None;
        }
        dropped().remove(&id);
        let changed = changed.ok()?;
        tracing::warn!(job = %id, "a claim of this worker had no attempt and is given back");
        Some(changed)
    }

    /// Finds jobs that this worker claims but does not run, and gives them back.
    async fn check_claims(self: Arc<Self>, jobs: Vec<Key>) {
        for id in jobs {
            if self.running().contains_key(&id) {
                continue;
            }
            if let Ok(Some(stored)) = self.jobs.records.get(id).await
                && let Some(worker) = stored.record.worker.filter(|worker| self.active() == Some(*worker))
                && let Some(changed) = self.give_back(stored, worker).await
            {
                self.jobs.run_effect(changed).await;
            }
        }
    }
}
