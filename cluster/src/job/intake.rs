//! How work comes to a worker.
//!
//! Owns: a worker's work as a stream of [`Work`]. Never: handlers; whoever receives it runs them and says how they
//! ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::assigned::Assigned;
use super::attempt::Attempt;
use super::desk::{Desk, Ears, Running, listen, remaining};
use super::free;
use super::store::Jobs;
use crate::engine::{Down, Message};
use crate::id::Key;
use crate::wire::{CallAnswer, WorkerCall};
use crate::worker::{Team, WorkerLease};

/// Something to do. It holds one slot of its worker until it has ended.
pub enum Work {
    /// A claimed job.
    Job(Box<Attempt>),
    /// A call.
    Call(Box<Asked>),
}

/// A call, and who waits for its answer.
pub struct Asked {
    /// What to do.
    pub call: WorkerCall,
    pub(super) question: Message,
    pub(super) desk: Arc<Desk>,
    pub(super) running: Running,
    pub(super) _slot: OwnedSemaphorePermit,
}

impl Asked {
    /// Resolves when the caller does not want the answer any more.
    pub async fn cancelled(&self) {
        let mut cancelled = self.running.cancel.subscribe();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending().await
        }
    }

    /// How long somebody still waits for the answer.
    pub fn remaining(&self) -> Option<Duration> {
        remaining(&self.question)
    }

    /// Answers.
    pub async fn answer(self, answer: CallAnswer) {
        self.desk.reply(&self.question, &answer).await;
    }
}

/// The work of one worker, as it comes.
pub struct Intake {
    work: mpsc::Receiver<Work>,
    desk: Arc<Desk>,
    slots: u32,
    assigned: Arc<Assigned>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Intake {
    /// Opens for work: returns when the engine has confirmed the subscriptions. From `draining` on nothing new
    /// comes; a message to this worker can begin it, too.
    pub async fn open(
        jobs: &Jobs,
        team: Team,
        release: String,
        slots: u32,
        lease: WorkerLease,
        id: Key,
        draining: watch::Sender<bool>,
    ) -> Result<Self, Down> {
        // each piece of work has a slot, so the sender never waits
        let (sender, work) = mpsc::channel(slots.max(1) as usize);
        let ears = Ears::open(jobs, &team, id).await?;
        let places = Arc::new(Semaphore::new(slots as usize));
        let desk = Arc::new(Desk::new(jobs, team, release, lease, places, draining, sender));
        let assigned = Arc::new(Assigned::new(desk.clone(), id));
        let tasks = vec![
            tokio::spawn(listen(desk.clone(), assigned.clone(), ears)),
            tokio::spawn(free::pull(desk.clone())),
            tokio::spawn(assigned.clone().sweep()),
            tokio::spawn(assigned.clone().renew()),
        ];
        Ok(Self { work, desk, slots, assigned, tasks })
    }

    /// The next piece of work.
    pub async fn next(&mut self) -> Option<Work> {
        self.work.recv().await
    }

    /// How many pieces of work run now.
    pub fn running(&self) -> usize {
        (self.slots as usize).saturating_sub(self.desk.slots.available_permits())
    }

    /// Resolves when nothing runs here any more. What still comes in must be taken meanwhile.
    pub fn idle(&self) -> impl Future<Output = ()> + use<> {
        let (slots, all) = (self.desk.slots.clone(), self.slots);
        async move {
            // never closed, so an error cannot come
            let _ = slots.acquire_many(all).await;
        }
    }

    /// Gives back what this worker holds for users. Nothing may run here any more.
    pub async fn close(self) {
        self.assigned.release().await;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
