//! How work comes to a worker.
//!
//! Owns: a worker's work as a stream of [`Work`]. Never: handlers; whoever receives it runs them and says how they
//! ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::affinity::UserAffinity;
use super::attempt::Attempt;
use super::inbox::{CallSubscription, ControlSubscriptions, WorkerInbox, listen};
use super::queue;
use super::store::Jobs;
use crate::clock;
use crate::engine::{Message, Unavailable};
use crate::id::Key;
use crate::wire::{CallAnswer, WorkerCall};
use crate::worker::{WorkerGroup, WorkerLease};

/// Something to do. It holds one slot of its worker until it has ended.
pub enum Work {
    /// A claimed job.
    Job(Box<Attempt>),
    /// A call.
    Call(Box<IncomingCall>),
}

/// A call, and who waits for its answer.
pub struct IncomingCall {
    /// What to do.
    pub call: WorkerCall,
    pub(super) question: Message,
    pub(super) desk: Arc<WorkerInbox>,
    pub(super) slot: OwnedSemaphorePermit,
    /// Goes last.
    pub(super) _unanswered: TaskTrackerToken,
}

impl IncomingCall {
    /// Resolves when nobody waits for the answer any more: the caller has taken it back, or its time is over. From the
    /// first poll on it can be told.
    pub async fn abandoned(&self) {
        let running = self.desk.begin(self.call.id);
        let cancelled = async {
            // the same call twice: it cannot be told which of them is meant
            let Some(running) = &running else { return std::future::pending().await };
            // never an error: the sender is held above
            let _ = running.cancel.subscribe().wait_for(|cancelled| *cancelled).await;
        };
        tokio::select! {
            () = cancelled => {}
            () = tokio::time::sleep(self.remaining().unwrap_or(Duration::MAX)) => {}
        }
    }

    /// How long somebody still waits for the answer; `None` when nobody said.
    pub(super) fn remaining(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.call.deadline_ms?).saturating_sub(clock::unix()))
    }

    /// Answers. The slot is free before the caller can know, who may ask again at once.
    pub async fn answer(self, answer: CallAnswer) {
        let Self { question, desk, slot, _unanswered, .. } = self;
        drop(slot);
        desk.reply(question, &answer).await;
    }
}

/// The work of one worker, as it comes.
pub struct WorkStream {
    work: mpsc::Receiver<Work>,
    calls: CallSubscription,
    desk: Arc<WorkerInbox>,
    slots: u32,
    assigned: Arc<UserAffinity>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl WorkStream {
    /// Opens for work: returns when the engine has confirmed the subscriptions. From `draining` on nothing new
    /// comes; a message to this worker can begin it, too.
    pub async fn open(
        jobs: &Jobs,
        team: WorkerGroup,
        release: String,
        slots: u32,
        lease: WorkerLease,
        id: Key,
        draining: watch::Sender<bool>,
    ) -> Result<Self, Unavailable> {
        // each piece of work has a slot, so the sender never waits
        let (sender, work) = mpsc::channel(slots.max(1) as usize);
        let ears = ControlSubscriptions::open(jobs, &team, id).await?;
        let calls = CallSubscription::open(jobs, &team, draining.subscribe()).await?;
        let places = Arc::new(Semaphore::new(slots as usize));
        let desk = Arc::new(WorkerInbox::new(jobs, team, release, lease, places, draining, sender));
        let assigned = Arc::new(UserAffinity::new(desk.clone(), id));
        let tasks = vec![
            tokio::spawn(listen(desk.clone(), assigned.clone(), ears)),
            tokio::spawn(queue::pull(desk.clone())),
            tokio::spawn(assigned.clone().sweep()),
            tokio::spawn(assigned.clone().renew()),
        ];
        Ok(Self { work, calls, desk, assigned, slots, tasks })
    }

    /// The next piece of work.
    pub async fn next(&mut self) -> Option<Work> {
        loop {
            // first, so that no number of calls holds it up
            if let Ok(work) = self.work.try_recv() {
                return Some(work);
            }
            tokio::select! {
                biased;
                question = self.calls.next() => {
                    if let Some(asked) = self.desk.call(question) {
                        return Some(Work::Call(Box::new(asked)));
                    }
                }
                work = self.work.recv() => return work,
            }
        }
    }

    /// Resolves when nothing runs here any more. What still comes in must be taken meanwhile.
    pub fn idle(&self) -> impl Future<Output = ()> + use<> {
        let (desk, all) = (self.desk.clone(), self.slots);
        async move {
            // never closed, so an error cannot come
            let _slots = desk.slots.acquire_many(all).await;
            desk.unanswered.close();
            desk.unanswered.wait().await;
        }
    }

    /// Gives back what this worker holds for users. Nothing may run here any more.
    pub async fn close(self) {
        self.assigned.release().await;
    }
}

impl Drop for WorkStream {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
