//! Free jobs: work items pulled from the Queue, each looked up in its record.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::inbox::WorkerInbox;
use super::pull_schedule::{Pull, PullSchedule};
use super::record::Affinity;
use super::stored::{StoredJob, TransitionFailure};
use super::transition::TransitionError;
use super::work_route::PulledRoute;
use crate::engine::QueueMessage;
use crate::id::Key;

/// Pulls work items while there are free slots. The slots are not reserved meanwhile: a call or a work item of another
/// route may take one, and a work item without a slot waits a short time or is returned.
pub(super) async fn pull(inbox: Arc<WorkerInbox>) {
    let parts: Vec<PulledRoute> = PulledRoute::all().collect();
    let routes: Vec<String> = parts.iter().map(|part| part.of(&inbox.team)).collect();
    let mut schedule = PullSchedule::new(parts.iter().map(|part| part.priority));
    let mut pulls = FuturesUnordered::new();
    let mut draining = inbox.draining.subscribe();
    loop {
        for pull in schedule.start(inbox.slots.available_permits()) {
            pulls.push(run_pull(&inbox, pull, &routes[pull.route]));
        }
        tokio::select! {
            Some((route, hints)) = pulls.next() => {
                let more = inbox.accept(hints);
                schedule.ended(route, more);
            }
            slot = inbox.slots.acquire(), if schedule.waits_for_slot() => {
                if slot.is_err() {
                    return;
                }
            }
            _ = draining.wait_for(|draining| *draining) => return,
        }
    }
}

/// Runs one pull, and returns its route with the work items.
async fn run_pull(inbox: &WorkerInbox, pull: Pull, route: &str) -> (usize, Vec<QueueMessage>) {
    // a suspended worker keeps what it has asked for: see `Timing::redelivery`
    let wait = if pull.waits { inbox.jobs.timing.redelivery } else { Duration::ZERO };
    let hints = inbox.jobs.engine.pull(route, pull.batch, wait).await;
    if let Err(error) = &hints {
        tracing::debug!(%error, "no hints now");
        inbox.jobs.records.wait_to_retry().await;
    }
    (pull.route, hints.unwrap_or_default())
}

impl WorkerInbox {
    /// Takes pulled work items, and returns whether their route has more of them, or may have because one of these is
    /// returned.
    fn accept(self: &Arc<Self>, hints: Vec<QueueMessage>) -> bool {
        let mut more = false;
        for hint in hints {
            let slot = self.slots.clone().try_acquire_owned().ok();
            more = hint.more || slot.is_none();
            tokio::spawn(process_hint(self.clone(), hint, slot));
        }
        more
    }

    /// Returns how long a work item waits for a slot: briefly when another worker could run it.
    fn slot_patience(&self) -> Duration {
        let own = self.lease.worker().map(|worker| worker.id);
        match self.jobs.workers.roster().serves_without(&self.team, own) {
            true => self.jobs.timing.item_slot_wait,
            false => self.jobs.timing.redelivery / 2,
        }
    }
}

/// Reads the record to decide how to handle a work item.
async fn process_hint(inbox: Arc<WorkerInbox>, hint: QueueMessage, slot: Option<OwnedSemaphorePermit>) {
    let jobs = &inbox.jobs;
    let Ok(id) = hint.id.parse::<Key>() else { return settle(&inbox, &hint).await };
    // on the first delivery the enqueued record is most likely current; before a redelivery it has changed
    let hinted = Some(&hint).filter(|hint| hint.attempt == 1).and_then(StoredJob::hinted);
    let stored = match hinted.filter(|stored| stored.record.id == id) {
        Some(stored) => stored,
        None => match jobs.records.get(id).await {
            Ok(Some(stored)) => stored,
            // the record is written before its work item: a missing record has expired
            Ok(None) => return settle(&inbox, &hint).await,
            Err(_) => return nak(&inbox, &hint, jobs.timing.lease_renew).await,
        },
    };
    if stored.record.affinity == Affinity::Assigned {
        // its work item means that a page was not notified; a job that has not ended waits as a row
        return match stored.record.state.is_terminal() {
            true => notify_and_ack(&inbox, &stored, &hint).await,
            false => settle(&inbox, &hint).await,
        };
    }
    let slot = match slot {
        Some(slot) => slot,
        None => match timeout(inbox.slot_patience(), inbox.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            _ => return nak(&inbox, &hint, Duration::ZERO).await,
        },
    };
    match inbox.claim(stored, hint.clone(), slot).await {
        Ok(()) => {}
        Err(TransitionFailure::Refused(TransitionError::NotDue(ms), _)) => {
            nak(&inbox, &hint, Duration::from_millis(ms)).await;
        }
        Err(TransitionFailure::Refused(TransitionError::Running(worker), running)) => {
            match inbox.mark_lost(*running, worker).await {
                // the job is enqueued again, or has ended
                Some(changed) => {
                    jobs.run_effect(changed).await;
                    settle(&inbox, &hint).await;
                }
                // a redelivery is not a right to run the job
                None => nak(&inbox, &hint, jobs.timing.redelivery).await,
            }
        }
        Err(TransitionFailure::Refused(_, over)) => notify_and_ack(&inbox, &over, &hint).await,
        Err(TransitionFailure::Gone) => settle(&inbox, &hint).await,
        Err(TransitionFailure::Unavailable) => nak(&inbox, &hint, jobs.timing.lease_renew).await,
    }
}

/// Notifies the pages of a job that has ended and acknowledges its work item. The worker that ended the job may have
/// been killed before it did so.
async fn notify_and_ack(inbox: &WorkerInbox, over: &StoredJob, hint: &QueueMessage) {
    inbox.jobs.notifier.notify_pages(over).await;
    settle(inbox, hint).await;
}

async fn settle(inbox: &WorkerInbox, hint: &QueueMessage) {
    if let Err(error) = inbox.jobs.engine.ack(hint).await {
        tracing::debug!(%error, "hint not settled, it comes again");
    }
}

async fn nak(inbox: &WorkerInbox, hint: &QueueMessage, after: Duration) {
    if let Err(error) = inbox.jobs.engine.nak(hint, after).await {
        tracing::debug!(%error, "hint not put off, it comes again by itself");
    }
}
