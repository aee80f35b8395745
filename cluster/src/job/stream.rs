//! Delivers work to a worker.
//!
//! Owns: the work of a worker as a stream of [`Work`]. Never: handlers; the receiver of the stream runs them and
//! reports how they ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::assigned::{self, AssignedJobs};
use super::attempt::Attempt;
use super::call_subscription::CallSubscription;
use super::inbox::{ControlSubscriptions, WorkerInbox, listen};
use super::parts::Jobs;
use super::queue;
use super::slots::{Slot, Slots};
use crate::clock;
use crate::engine::{Message, Unavailable};
use crate::id::Key;
use crate::wire::{CallAnswer, WorkerCall};
use crate::worker::{WorkerGroup, WorkerLease};

/// A unit of work. It holds one slot of its worker until it has ended.
pub enum Work {
    /// A claimed job.
    Job(Box<Attempt>),
    /// A call.
    Call(Box<IncomingCall>),
}

/// A call and its reply subject.
pub struct IncomingCall {
    /// The call.
    pub call: WorkerCall,
    pub(super) question: Message,
    pub(super) inbox: Arc<WorkerInbox>,
    pub(super) slot: Slot,
    /// Dropped last.
    pub(super) _unanswered: TaskTrackerToken,
}

impl IncomingCall {
    /// Resolves when no caller waits for the reply any more: the caller has cancelled the call, or its deadline has
    /// passed. The call can be cancelled from the first poll on.
    pub async fn abandoned(&self) {
        let running = self.inbox.begin(self.call.id);
        let cancelled = async {
            // the same call was delivered twice: a cancellation cannot tell them apart
            let Some(running) = &running else { return std::future::pending().await };
            // never an error: the sender is held above
            let _ = running.cancel.subscribe().wait_for(|cancelled| *cancelled).await;
        };
        tokio::select! {
            () = cancelled => {}
            () = tokio::time::sleep(self.remaining().unwrap_or(Duration::MAX)) => {}
        }
    }

    /// Returns how long the caller still waits for the reply; `None` when the call has no deadline.
    pub(super) fn remaining(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.call.deadline_ms?).saturating_sub(clock::unix()))
    }

    /// Sends the reply. The slot is released first, because the caller may send the next call at once.
    pub async fn answer(self, answer: CallAnswer) {
        let Self { question, inbox, slot, _unanswered, .. } = self;
        drop(slot);
        inbox.reply(question, &answer).await;
    }
}

/// How many pieces of work a worker runs at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotOptions {
    /// Calls and jobs at the same time.
    pub count: u32,
    /// How many percent of these are reserved for calls, rounded down, but at least one if there are two or more; 0 for no
    /// reserve.
    pub call_reserve_percent: u8,
}

impl SlotOptions {
    /// Default reserve for calls, in percent.
    pub const CALL_RESERVE_PERCENT: u8 = 25;

    /// Creates `count` slots with the default reserve.
    pub const fn new(count: u32) -> Self {
        Self { count, call_reserve_percent: Self::CALL_RESERVE_PERCENT }
    }
}

/// The work of one worker, in the order of arrival.
pub struct WorkStream {
    work: mpsc::Receiver<Work>,
    calls: CallSubscription,
    inbox: Arc<WorkerInbox>,
    assigned: Arc<AssignedJobs>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl WorkStream {
    /// Opens the stream and returns when the engine has confirmed the subscriptions. After `draining` is set no new
    /// work comes; a message to this worker can set it, too.
    pub async fn open(
        jobs: &Jobs,
        team: WorkerGroup,
        release: String,
        slots: SlotOptions,
        lease: WorkerLease,
        id: Key,
        draining: watch::Sender<bool>,
    ) -> Result<Self, Unavailable> {
        // each unit of work has a slot, so the sender never waits
        let (sender, work) = mpsc::channel(slots.count.max(1) as usize);
        let control = ControlSubscriptions::open(jobs, &team, id).await?;
        let calls = CallSubscription::open(jobs, &team, draining.subscribe()).await?;
        let open = assigned::watch(jobs, &team).await?;
        let places = Slots::new(slots.count, slots.call_reserve_percent);
        let inbox = Arc::new(WorkerInbox::new(jobs, team, release, lease, places, draining, sender));
        let assigned = Arc::new(AssignedJobs::new(inbox.clone(), id));
        let tasks = vec![
            tokio::spawn(listen(inbox.clone(), assigned.clone(), control)),
            tokio::spawn(queue::pull(inbox.clone())),
            tokio::spawn(assigned.clone().feed(open)),
            tokio::spawn(assigned.clone().expire_idle()),
        ];
        Ok(Self { work, calls, inbox, assigned, tasks })
    }

    /// Returns the next unit of work.
    pub async fn next(&mut self) -> Option<Work> {
        loop {
            // checked first, so that no number of calls delays it
            if let Ok(work) = self.work.try_recv() {
                return Some(work);
            }
            tokio::select! {
                biased;
                question = self.calls.next() => {
                    if let Some(asked) = self.inbox.call(question) {
                        return Some(Work::Call(Box::new(asked)));
                    }
                }
                work = self.work.recv() => return work,
            }
        }
    }

    /// Resolves when no work runs here any more. Work that still arrives must be received meanwhile.
    pub fn idle(&self) -> impl Future<Output = ()> + use<> {
        let inbox = self.inbox.clone();
        async move {
            inbox.slots.idle().await;
            inbox.unanswered.close();
            inbox.unanswered.wait().await;
        }
    }

    /// Releases the users of this worker. No work may run here any more.
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
