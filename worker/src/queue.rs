//! Free jobs: work items pulled from the Queue, each looked up in its record.
//!
//! Owns: how many items are pulled, and what becomes of each. Never: the claim of a record (`claim`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use pagewire_cluster::engine::{Message, QueueMessage};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{
    Affinity, Priority, PulledRoute, Record, StoredJob, TransitionError, TransitionFailure,
};
use pagewire_cluster::rollout::LaneMove;
use pagewire_cluster::wire::{self, NewJobAnswer};
use tokio::time::timeout;

use super::assignment::Assignment;
use super::call::reply_bytes;
use super::claim::Claims;
use super::pull_schedule::{Pull, PullSchedule};
use super::slots::Slot;
use super::work::WorkerParts;

/// Pulls of one route that are outstanding at the same time. With one, the next job of a route would wait until the
/// engine has received the next pull.
const PULLS_OF_ROUTE: usize = 3;

/// Returns the route of each pull. Routes of normal priority come several times, because most jobs are theirs.
fn pulled_routes() -> Vec<PulledRoute> {
    let again = (1..PULLS_OF_ROUTE)
        .flat_map(|_| PulledRoute::all().filter(|route| route.priority == Priority::Normal));
    PulledRoute::all().chain(again).collect()
}

/// The free jobs of one worker.
pub(crate) struct FreeJobs {
    parts: Arc<WorkerParts>,
    claims: Arc<Claims>,
    assignment: Assignment,
    /// Whether no work item waits, as far as this worker knows. A new job may start then without a work item.
    is_idle: AtomicBool,
}

impl FreeJobs {
    pub(crate) fn new(parts: &Arc<WorkerParts>, claims: &Arc<Claims>, assignment: Assignment) -> Self {
        Self { parts: parts.clone(), claims: claims.clone(), assignment, is_idle: AtomicBool::new(false) }
    }

    /// Pulls work items while there are free slots for jobs. The slots are not reserved meanwhile: a call or a work item
    /// of another route may take one, and a work item without a slot waits a short time or is returned.
    pub(crate) async fn pull(self: Arc<Self>) {
        let WorkerParts { group, slots, .. } = &*self.parts;
        let pulled = pulled_routes();
        let routes: Vec<String> = pulled.iter().map(|route| route.of(group)).collect();
        let mut schedule = PullSchedule::new(pulled.iter().map(|route| route.priority));
        let mut pulls = FuturesUnordered::new();
        let mut draining = self.parts.draining.subscribe();
        while !self.parts.drains() {
            for pull in schedule.start(slots.free_for_jobs()) {
                pulls.push(self.run_pull(pull, &routes[pull.route]));
            }
            self.is_idle.store(schedule.is_idle(), Ordering::Relaxed);
            tokio::select! {
                Some((route, hints)) = pulls.next() => schedule.ended(route, self.accept(hints)),
                slot = slots.job(), if schedule.waits_for_slot() => {
                    if slot.is_none() {
                        return;
                    }
                }
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    }

    /// Runs one pull, and returns its route with the work items.
    async fn run_pull(&self, pull: Pull, route: &str) -> (usize, Vec<QueueMessage>) {
        let jobs = &self.parts.jobs;
        // a suspended worker keeps what it has asked for: see `Timing::redelivery`
        let wait = if pull.waits { jobs.timing.redelivery } else { Duration::ZERO };
        let hints = jobs.engine.pull(route, pull.batch, wait).await;
        if let Err(error) = &hints {
            tracing::debug!(%error, "no hints now");
            jobs.records.wait_to_retry().await;
        }
        (pull.route, hints.unwrap_or_default())
    }

    /// Takes pulled work items, and returns whether their route has more of them, or may have because one of these is
    /// returned.
    fn accept(self: &Arc<Self>, hints: Vec<QueueMessage>) -> bool {
        let mut more = false;
        for hint in hints {
            let slot = self.parts.slots.try_job();
            more = hint.more || slot.is_none();
            let this = self.clone();
            tokio::spawn(async move { this.process(hint, slot).await });
        }
        more
    }

    /// Returns how long a work item waits for a slot: briefly when another worker could run it.
    fn slot_patience(&self, kind: &str) -> Duration {
        let WorkerParts { jobs, group, lease, .. } = &*self.parts;
        let own = lease.worker().map(|worker| worker.id);
        match jobs.workers.roster().has_other_candidate(group, kind, own) {
            true => jobs.timing.item_slot_wait,
            false => jobs.timing.redelivery / 2,
        }
    }

    /// Reads the record to decide how to handle a work item.
    async fn process(&self, hint: QueueMessage, slot: Option<Slot>) {
        let jobs = &self.parts.jobs;
        let Ok(id) = hint.id.parse::<Key>() else { return self.settle(&hint).await };
        // on the first delivery the enqueued record is most likely current; before a redelivery it has changed
        let hinted = Some(&hint).filter(|hint| hint.attempt == 1).and_then(StoredJob::hinted);
        let stored = match hinted.filter(|stored| stored.record.id == id) {
            Some(stored) => stored,
            None => match jobs.records.get(id).await {
                Ok(Some(stored)) => stored,
                // the record is written before its work item: a missing record has expired
                Ok(None) => return self.settle(&hint).await,
                Err(_) => return self.nak(&hint, jobs.timing.lease_renew).await,
            },
        };
        if stored.record.affinity == Affinity::Assigned {
            // its work item means that a page was not notified; a job that has not ended waits as a row
            return match stored.record.state.is_terminal() {
                true => self.notify_and_ack(&stored, &hint).await,
                false => self.settle(&hint).await,
            };
        }
        if stored.record.lane != self.parts.group.lane {
            // the job has moved: it has a work item in its lane
            return self.settle(&hint).await;
        }
        if let Some(moved) = self.assignment.move_of(&stored.record) {
            return self.move_to(stored, moved, &hint).await;
        }
        let kind = &stored.record.kind;
        if !self.parts.methods.contains(kind) && !stored.record.state.is_terminal() {
            drop(slot);
            return self.pass_on(&stored.record, &hint).await;
        }
        let slot = match slot {
            Some(slot) => slot,
            None => match timeout(self.slot_patience(kind), self.parts.slots.job()).await {
                Ok(Some(slot)) => slot,
                _ => return self.nak(&hint, Duration::ZERO).await,
            },
        };
        if self.parts.drains() {
            // the work item has waited for a slot meanwhile: another worker takes it at once
            drop(slot);
            return self.nak(&hint, Duration::ZERO).await;
        }
        self.claim(stored, hint, slot).await;
    }

    async fn claim(&self, stored: StoredJob, hint: QueueMessage, slot: Slot) {
        let jobs = &self.parts.jobs;
        match self.claims.claim(stored, Some(hint.clone()), slot).await {
            Ok(()) => {}
            Err(TransitionFailure::Refused(TransitionError::NotDue(ms), _)) => {
                // the item is shared: an error of one process must not put it off for all of them for long
                self.nak(&hint, Duration::from_millis(ms).min(jobs.timing.lease_ttl)).await;
            }
            Err(TransitionFailure::Refused(TransitionError::Running(worker), running)) => {
                match self.claims.mark_lost(*running, worker).await {
                    // the job is enqueued again, or has ended
                    Some(changed) => {
                        jobs.run_effect(changed).await;
                        self.settle(&hint).await;
                    }
                    // a redelivery is not a right to run the job
                    None => self.nak(&hint, jobs.timing.redelivery).await,
                }
            }
            Err(TransitionFailure::Refused(_, over)) => self.notify_and_ack(&over, &hint).await,
            Err(TransitionFailure::Gone) => self.settle(&hint).await,
            Err(TransitionFailure::Unavailable) => self.nak(&hint, jobs.timing.lease_renew).await,
        }
    }

    /// Passes a job on that this worker has no handler for. It is not claimed, so this is no attempt: a worker with the
    /// handler is offered the job, and the work item pauses meanwhile. The pauses grow, so that many such items do not
    /// keep a lane busy.
    async fn pass_on(&self, record: &Record, hint: &QueueMessage) {
        let WorkerParts { jobs, group, .. } = &*self.parts;
        let longest = match jobs.offer(group, &record.kind, record.id).await {
            true => jobs.timing.lease_renew,
            false => jobs.timing.no_handler_wait,
        };
        let doublings = u32::try_from(hint.attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        self.nak(hint, jobs.timing.slot_wait.saturating_mul(1 << doublings).min(longest)).await;
    }

    /// Claims a job that another worker has offered, if it waits and a slot is free. Its work item is settled when it
    /// comes again after the end of the job.
    pub(crate) async fn take_offered(&self, job: Key) {
        let WorkerParts { jobs, group, methods, slots, .. } = &*self.parts;
        let Some(slot) = slots.try_job().filter(|_| !self.parts.drains()) else { return };
        let Ok(Some(stored)) = jobs.records.get(job).await else { return };
        let record = &stored.record;
        let fits =
            record.affinity == Affinity::Free && record.team() == *group && methods.contains(&record.kind);
        if record.state.is_waiting() && fits && self.assignment.move_of(record).is_none() {
            // when the claim fails, the work item leads to the next one
            let claimed = self.claims.claim(stored, None, slot).await;
            tracing::debug!(%job, claimed = claimed.is_ok(), "a job was offered by a worker without its handler");
        }
    }

    /// Takes a new job that its submitter offers, if this worker is idle, and answers whether it did.
    pub(crate) async fn take_new(&self, new: Record, offer: Message) {
        let WorkerParts { jobs, group, methods, slots, .. } = &*self.parts;
        let answer = async |taken, offer| {
            reply_bytes(&jobs.engine, offer, wire::encode(&NewJobAnswer { taken })).await;
        };
        let fits = new.team() == *group && methods.contains(&new.kind);
        // after a suspension, the job may have run already
        let until = new.created.saturating_add(jobs.timing.idle_offer.as_millis() as u64);
        let is_recent = jobs.records.now_ms() <= until;
        let is_idle = self.is_idle.load(Ordering::Relaxed) && !self.parts.drains();
        let is_taken = fits && is_recent && is_idle && self.assignment.move_of(&new).is_none();
        let slot = is_taken.then(|| slots.try_job()).flatten();
        let Some(slot) = slot else { return answer(false, offer).await };
        let created = self.claims.create(&new, slot, answer(true, offer.clone())).await;
        // when it is not known whether the job exists, the submitter finds out
        if let Ok(false) = created {
            answer(false, offer).await;
        }
    }

    /// Moves a job to another lane. The work item there is new, and this one is acknowledged.
    async fn move_to(&self, stored: StoredJob, moved: LaneMove, hint: &QueueMessage) {
        let jobs = &self.parts.jobs;
        match jobs.move_to_lane(stored, moved).await {
            Ok(()) | Err(TransitionFailure::Gone) => self.settle(hint).await,
            // refused: the job is claimed, has ended or was moved meanwhile
            Err(TransitionFailure::Refused(..) | TransitionFailure::Unavailable) => {
                self.nak(hint, jobs.timing.lease_renew).await;
            }
        }
    }

    /// Notifies the pages of a job that has ended and acknowledges its work item. The worker that ended the job may
    /// have been killed before it did so.
    async fn notify_and_ack(&self, over: &StoredJob, hint: &QueueMessage) {
        self.parts.jobs.notifier.notify_pages(over).await;
        self.settle(hint).await;
    }

    async fn settle(&self, hint: &QueueMessage) {
        if let Err(error) = self.parts.jobs.engine.ack(hint).await {
            tracing::debug!(%error, "hint not settled, it comes again");
        }
    }

    async fn nak(&self, hint: &QueueMessage, after: Duration) {
        if let Err(error) = self.parts.jobs.engine.nak(hint, after).await {
            tracing::debug!(%error, "hint not put off, it comes again by itself");
        }
    }
}
