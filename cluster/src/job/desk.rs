//! What a worker is asked, and what runs in it.
//!
//! Owns: a worker's subscriptions and its slots. Never: which jobs it looks for (`free`, `assigned`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::assigned::Assigned;
use super::attempt::Attempt;
use super::intake::{Asked, Work};
use super::store::{Changed, Fence, Jobs, Stored, Unchanged};
use super::transition::{Claim, Event};
use crate::engine::{Delivery, Down, Message, Received, Subscription};
use crate::id::Key;
use crate::subject::worker_leaf;
use crate::wire::{self, CallAnswer, Cancel, Wake, WorkerCall};
use crate::worker::{Team, WorkerId, WorkerLease};

/// Unread bytes of each subscription of a worker.
const UNREAD: usize = 8 * 1024 * 1024;

/// How long somebody still waits for the answer.
pub(super) fn remaining(question: &Message) -> Option<Duration> {
    let deadline = Duration::from_millis(question.headers.deadline_ms?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(deadline.saturating_sub(now))
}

/// Something that runs here and can be told to stop.
pub(super) struct Running {
    id: Key,
    desk: Arc<Desk>,
    pub(super) cancel: Arc<watch::Sender<bool>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.desk.running().remove(&self.id);
    }
}

/// What the parts of a worker share.
pub(super) struct Desk {
    pub(super) jobs: Jobs,
    pub(super) team: Team,
    pub(super) release: String,
    pub(super) lease: WorkerLease,
    pub(super) slots: Arc<Semaphore>,
    pub(super) draining: watch::Sender<bool>,
    work: mpsc::Sender<Work>,
    running: Mutex<HashMap<Key, Arc<watch::Sender<bool>>>>,
}

/// The subscriptions of a worker.
pub(super) struct Ears {
    calls: Subscription,
    own: Subscription,
    team: Subscription,
}

impl Ears {
    pub(super) async fn open(jobs: &Jobs, team: &Team, id: Key) -> Result<Self, Down> {
        let Jobs { engine, subjects, .. } = jobs;
        let calls = subjects.calls(&team.pool, &team.lane);
        Ok(Self {
            own: engine.subscribe(&subjects.worker(id, ">"), None, UNREAD).await?,
            team: engine.subscribe(&subjects.workers(&team.pool, &team.lane), None, UNREAD).await?,
            calls: engine.subscribe(&calls, Some("workers"), UNREAD).await?,
        })
    }
}

/// Answers what this worker is asked.
pub(super) async fn listen(desk: Arc<Desk>, assigned: Arc<Assigned>, ears: Ears) {
    let Ears { calls, mut own, mut team } = ears;
    let own = async {
        while let Some(received) = own.next().await {
            if let Received::Message(message) = received {
                desk.clone().asked(&assigned, message);
            }
        }
    };
    let team = async {
        while let Some(received) = team.next().await {
            if let Received::Message(message) = received {
                desk.stop(&message);
            }
        }
    };
    tokio::join!(take_calls(&desk, calls), own, team);
}

/// Takes calls until this worker drains: then it is no member of the group any more that shares them.
async fn take_calls(desk: &Arc<Desk>, mut calls: Subscription) {
    let mut draining = desk.draining.subscribe();
    let mut drains = std::pin::pin!(draining.wait_for(|draining| *draining));
    loop {
        tokio::select! {
            biased;
            _ = &mut drains => return,
            received = calls.next() => match received {
                Some(Received::Message(message)) => desk.clone().call(message),
                Some(Received::Gap(_)) => {}
                None => return,
            },
        }
    }
}

fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    let read = serde_json::from_slice(&message.payload);
    read.inspect_err(|error| tracing::warn!(subject = message.subject, %error, "unreadable message")).ok()
}

impl Desk {
    pub(super) fn new(
        jobs: &Jobs,
        team: Team,
        release: String,
        lease: WorkerLease,
        slots: Arc<Semaphore>,
        draining: watch::Sender<bool>,
        work: mpsc::Sender<Work>,
    ) -> Self {
        let jobs = jobs.clone();
        Self { jobs, team, release, lease, slots, draining, work, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<watch::Sender<bool>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, id: Key) -> Running {
        let cancel = Arc::new(watch::Sender::new(false));
        self.running().insert(id, cancel.clone());
        Running { id, desk: self.clone(), cancel }
    }

    /// A message for this worker alone.
    fn asked(self: Arc<Self>, assigned: &Arc<Assigned>, message: Message) {
        match message.subject.rsplit('.').next() {
            Some(worker_leaf::ALIVE) => {
                tokio::spawn(async move { self.reply_bytes(&message, bytes::Bytes::new()).await });
            }
            Some(worker_leaf::DRAIN) => {
                tracing::info!("this worker is asked to leave");
                self.draining.send_replace(true);
                tokio::spawn(async move { self.reply_bytes(&message, bytes::Bytes::new()).await });
            }
            Some(worker_leaf::CANCEL) => self.stop(&message),
            Some(worker_leaf::WAKE) => {
                if let Some(Wake { user }) = read(&message) {
                    assigned.serve(user);
                }
            }
            Some(worker_leaf::CALL) => {
                let assigned = assigned.clone();
                tokio::spawn(async move { self.assigned_call(&assigned, message).await });
            }
            _ => tracing::debug!(subject = message.subject, "a message of another release ignored"),
        }
    }

    fn stop(&self, message: &Message) {
        if let Some(Cancel { id }) = read(message)
            && let Some(cancel) = self.running().get(&id)
        {
            cancel.send_replace(true);
        }
    }

    /// A call for a user's own worker: only that one serves it.
    async fn assigned_call(self: Arc<Self>, assigned: &Arc<Assigned>, message: Message) {
        let Some(WorkerCall { user: Some(user), .. }) = read(&message) else { return };
        match assigned.take(&user).await {
            Ok(_) => self.call(message),
            Err(Some(worker)) => self.reply(&message, &CallAnswer::Elsewhere { worker }).await,
            Err(None) => self.reply(&message, &CallAnswer::Busy).await,
        }
    }

    /// Busy is answered at once; nothing waits here.
    fn call(self: Arc<Self>, question: Message) {
        let Some(call) = read::<WorkerCall>(&question) else { return };
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            return drop(tokio::spawn(async move { self.reply(&question, &CallAnswer::Busy).await }));
        };
        if remaining(&question).is_some_and(|left| left.is_zero()) {
            return;
        }
        let running = self.begin(call.id);
        let work = self.work.clone();
        let asked = Asked { call, question, desk: self, running, _slot: slot };
        // there is room for as much as there are slots, and the receiver is gone only with the worker
        let _ = work.try_send(Work::Call(Box::new(asked)));
    }

    pub(super) async fn reply(&self, question: &Message, answer: &CallAnswer) {
        self.reply_bytes(question, wire::encode(answer)).await;
    }

    async fn reply_bytes(&self, question: &Message, answer: bytes::Bytes) {
        // who asked knows the trace and the deadline
        if let Some(reply) = &question.reply
            && let Err(error) = self.jobs.engine.publish(Message::new(reply.as_str(), answer)).await
        {
            tracing::debug!(%error, "answer not sent");
        }
    }

    /// Claims a job and hands it to whoever runs handlers. The slot goes with it.
    pub(super) async fn claim(
        self: &Arc<Self>,
        stored: Stored,
        fence: Option<&Fence>,
        hint: Option<Delivery>,
        ended: Option<oneshot::Sender<()>>,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), Unchanged> {
        let Some(worker) = self.lease.worker() else { return Err(Unchanged::Unavailable) };
        let event = Event::Claim(worker, self.release.clone());
        let Changed { stored, .. } = self.jobs.change(stored, event, fence).await?;
        let claim = Claim { worker, attempt: stored.record.attempts };
        let running = self.begin(stored.record.id);
        let attempt = Attempt::begin(&self.jobs, stored, claim, hint, ended, running, slot);
        let _ = self.work.send(Work::Job(Box::new(attempt))).await;
        Ok(())
    }

    /// Whether the worker that a record names has lost it, because it is dead; and if so, the record after that.
    pub(super) async fn lost(&self, stored: Stored, worker: WorkerId) -> Option<Changed> {
        if self.jobs.workers.is_alive(&stored.record.team(), worker).await != Ok(false) {
            return None;
        }
        tracing::info!(job = %stored.record.id, worker = %worker.id, "the worker of a job is dead");
        self.jobs.change(stored, Event::Lose(worker), None).await.ok()
    }
}
