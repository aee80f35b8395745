//! What a worker is asked, and what runs in it.
//!
//! Owns: a worker's subscriptions and its slots. Never: which jobs it looks for (`free`, `assigned`).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::affinity::UserAffinity;
use super::attempt::Attempt;
use super::change::Change;
use super::record::{JobState, Record};
use super::store::{Fence, Jobs, StoredJob, Transition, TransitionFailure};
use super::stream::{IncomingCall, Work};
use super::transition::{Claim, RecordEvent, TransitionError};
use crate::engine::{BusEvent, Message, QueueMessage, Subscription, Unavailable};
use crate::id::Key;
use crate::subject::worker_leaf;
use crate::wire::{self, CallAnswer, Cancel, ClaimsQuery, Wake, WorkerCall};
use crate::worker::{WorkerGroup, WorkerId, WorkerLease};

/// Unread bytes of each subscription of a worker.
const UNREAD: usize = 8 * 1024 * 1024;

/// Something that runs here and can be told to stop, or a job whose claim is being changed here.
pub(super) struct RunningGuard {
    id: Key,
    desk: Arc<WorkerInbox>,
    pub(super) cancel: Arc<watch::Sender<bool>>,
    /// A handler was begun and its end is not written.
    begun: bool,
}

impl RunningGuard {
    /// The end is written, or the job is another worker's.
    pub(super) fn over(&mut self) {
        self.begun = false;
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        if self.begun {
            self.desk.dropped.lock().unwrap_or_else(PoisonError::into_inner).insert(self.id);
        }
        self.desk.running().remove(&self.id);
    }
}

/// What the parts of a worker share.
pub(super) struct WorkerInbox {
    pub(super) jobs: Jobs,
    pub(super) team: WorkerGroup,
    pub(super) release: String,
    pub(super) lease: WorkerLease,
    pub(super) slots: Arc<Semaphore>,
    /// Places of calls that wait for a slot.
    line: Semaphore,
    /// Calls that are not answered yet.
    pub(super) unanswered: TaskTracker,
    pub(super) draining: watch::Sender<bool>,
    work: mpsc::Sender<Work>,
    running: Mutex<HashMap<Key, Arc<watch::Sender<bool>>>>,
    /// Jobs whose handlers were begun here and came to no end, until their claims are given up.
    dropped: Mutex<HashSet<Key>>,
}

/// The subscriptions of a worker, beside the one to its lane's calls.
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

/// Answers what this worker is asked.
pub(super) async fn listen(desk: Arc<WorkerInbox>, assigned: Arc<UserAffinity>, ears: ControlSubscriptions) {
    let ControlSubscriptions { mut own, mut team } = ears;
    let own = async {
        while let Some(received) = own.next().await {
            if let BusEvent::Message(message) = received {
                desk.clone().handle_control(&assigned, message);
            }
        }
    };
    let team = async {
        while let Some(received) = team.next().await {
            if let BusEvent::Message(message) = received {
                // a call, which at most one worker of the team runs
                let _ = desk.stop(&message);
            }
        }
    };
    tokio::join!(own, team);
}

/// The calls of a lane that come to this worker, until it drains: then it is no member of the group any more that shares
/// them.
pub(super) struct CallSubscription {
    /// `None` when nothing comes any more.
    subscription: Option<Subscription>,
    draining: watch::Receiver<bool>,
}

impl CallSubscription {
    pub(super) async fn open(
        jobs: &Jobs,
        team: &WorkerGroup,
        draining: watch::Receiver<bool>,
    ) -> Result<Self, Unavailable> {
        let subject = jobs.subjects.calls(&team.pool, &team.lane);
        let subscription = Some(jobs.engine.subscribe(&subject, Some("workers"), UNREAD).await?);
        Ok(Self { subscription, draining })
    }

    /// The next one. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Message {
        loop {
            if *self.draining.borrow_and_update() {
                self.subscription = None;
            }
            let Some(subscription) = &mut self.subscription else { return std::future::pending().await };
            tokio::select! {
                biased;
                received = subscription.next() => match received {
                    Some(BusEvent::Message(question)) => return question,
                    Some(BusEvent::Gap(_)) => {}
                    None => self.subscription = None,
                },
                // an error: nobody is left who could ask for it
                Ok(()) = self.draining.changed() => {}
            }
        }
    }
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
        slots: Arc<Semaphore>,
        draining: watch::Sender<bool>,
        work: mpsc::Sender<Work>,
    ) -> Self {
        let jobs = jobs.clone();
        let (unanswered, running, dropped) = (TaskTracker::new(), Mutex::default(), Mutex::default());
        let line = Semaphore::new(slots.available_permits());
        Self { jobs, team, release, lease, slots, line, unanswered, draining, work, running, dropped }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<watch::Sender<bool>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when it is in hand here already.
    pub(super) fn begin(self: &Arc<Self>, id: Key) -> Option<RunningGuard> {
        let cancel = Arc::new(watch::Sender::new(false));
        match self.running().entry(id) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(cancel.clone())),
        }
        Some(RunningGuard { id, desk: self.clone(), cancel, begun: false })
    }

    /// A message for this worker alone.
    fn handle_control(self: Arc<Self>, assigned: &Arc<UserAffinity>, message: Message) {
        match message.subject.rsplit('.').next() {
            Some(worker_leaf::ALIVE) => {
                tokio::spawn(async move { self.reply_bytes(message, bytes::Bytes::new()).await });
            }
            Some(worker_leaf::DRAIN) => {
                tracing::info!("this worker is asked to leave");
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
                    assigned.serve(user);
                }
            }
            Some(worker_leaf::CALL) => self.assigned_call(assigned, message),
            _ => tracing::debug!(subject = message.subject, "a message of another release ignored"),
        }
    }

    /// What is to stop and does not run here.
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

    /// A call for a user's own worker: only that one serves it.
    fn assigned_call(self: Arc<Self>, assigned: &Arc<UserAffinity>, question: Message) {
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
            // there is room for as much as there are slots, and the receiver is gone only with the worker
            let _ = self.work.try_send(Work::Call(Box::new(asked)));
        }
    }

    /// A call of the lane, if it is one and there is a slot for it.
    pub(super) fn call(self: &Arc<Self>, question: Message) -> Option<IncomingCall> {
        self.admit(read(&question)?, question)
    }

    fn admit(self: &Arc<Self>, call: WorkerCall, question: Message) -> Option<IncomingCall> {
        match self.slots.clone().try_acquire_owned() {
            Ok(slot) => self.admit_with_slot(call, question, slot),
            Err(_) => {
                tokio::spawn(self.clone().wait_for_slot(call, question));
                None
            }
        }
    }

    /// A slot that is free in a moment is waited for, by as many calls as there are slots. Anybody else is told at once:
    /// another worker may have one.
    async fn wait_for_slot(self: Arc<Self>, call: WorkerCall, question: Message) {
        let slot = match self.line.try_acquire() {
            Ok(_place) => timeout(self.jobs.timing.slot_wait, self.slots.clone().acquire_owned()).await.ok(),
            Err(_) => None,
        };
        match slot {
            Some(Ok(slot)) => {
                if let Some(asked) = self.admit_with_slot(call, question, slot) {
                    let _ = self.work.send(Work::Call(Box::new(asked))).await;
                }
            }
            _ => self.reply(question, &CallAnswer::Busy).await,
        }
    }

    /// `None` when nobody waits for it any more.
    fn admit_with_slot(
        self: &Arc<Self>,
        call: WorkerCall,
        question: Message,
        slot: OwnedSemaphorePermit,
    ) -> Option<IncomingCall> {
        let asked =
            IncomingCall { call, question, desk: self.clone(), slot, _unanswered: self.unanswered.token() };
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
        // who asked knows the trace
        if let Some(reply) = question.reply
            && let Err(error) = self.jobs.engine.publish(Message::new(reply, answer)).await
        {
            tracing::debug!(%error, "answer not sent");
        }
    }

    /// This life of the worker, while it holds its lease and something takes its work.
    fn active(&self) -> Option<WorkerId> {
        self.lease.worker().filter(|_| !self.work.is_closed())
    }

    /// Claims a job and hands it to whoever runs handlers. The slot goes with it. A claim whose answer was lost is found
    /// out about while this life of the worker lasts; one that is left behind is given back by [`WorkerInbox::mark_lost`].
    pub(super) async fn claim(
        self: &Arc<Self>,
        stored: StoredJob,
        fence: Option<&Fence>,
        hint: Option<QueueMessage>,
        ended: Option<oneshot::Sender<()>>,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), TransitionFailure> {
        let Some(worker) = self.active() else { return Err(TransitionFailure::Unavailable) };
        // before the claim is written, so that it never stands without being in hand
        let Some(mut running) = self.begin(stored.record.id) else {
            return Err(TransitionFailure::Refused(TransitionError::Running(worker), Box::new(stored)));
        };
        let change = Change::new(RecordEvent::Claim(worker, self.release.clone()));
        let goes_on = |sent| sent && self.lease.worker() == Some(worker);
        let Transition { stored, .. } = self.jobs.change_until_known(change, stored, fence, goes_on).await?;
        let claim = Claim { worker, attempt: stored.record.attempts };
        running.begun = true;
        let attempt = Attempt::begin(&self.jobs, stored, claim, hint, ended, running, slot);
        let _ = self.work.send(Work::Job(Box::new(attempt))).await;
        Ok(())
    }

    /// Whether the worker that a record names has lost it, because it is dead, or because it is this one and nothing
    /// here stands behind its claim; and if so, the record after that.
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
        self.jobs.change(stored, RecordEvent::WorkerLost(worker), None).await.ok()
    }

    /// Gives back a claim of this worker that has no attempt: its answer was lost, which is no attempt, or its attempt
    /// was dropped, which is one.
    async fn give_back(self: &Arc<Self>, stored: StoredJob, worker: WorkerId) -> Option<Transition> {
        let Record { id, attempts, state, .. } = stored.record;
        // `None`: an attempt, or a change of its claim, is under way
        let _in_hand = self.begin(id).filter(|_| state == JobState::Running)?;
        let dropped = || self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let event = match dropped().contains(&id) {
            true => RecordEvent::WorkerLost(worker),
            false => RecordEvent::Release(Claim { worker, attempt: attempts }),
        };
        let goes_on = |sent| sent && self.lease.worker() == Some(worker);
        let changed = self.jobs.change_until_known(Change::new(event), stored, None, goes_on).await;
        if let Err(TransitionFailure::Unavailable) = changed {
            return None;
        }
        dropped().remove(&id);
        let changed = changed.ok()?;
        tracing::warn!(job = %id, "a claim of this worker had no attempt and is given back");
        Some(changed)
    }

    /// Looks whether this worker claims jobs that it does not run, and gives them back.
    async fn check_claims(self: Arc<Self>, jobs: Vec<Key>) {
        for id in jobs {
            if self.running().contains_key(&id) {
                continue;
            }
            if let Ok(Some(stored)) = self.jobs.get(id).await
                && let Some(worker) = stored.record.worker.filter(|worker| self.active() == Some(*worker))
                && let Some(changed) = self.give_back(stored, worker).await
            {
                self.jobs.run_effect(changed).await;
            }
        }
    }
}
