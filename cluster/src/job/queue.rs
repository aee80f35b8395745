//! Free jobs: work items pulled from the Queue, each looked up in its record.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::inbox::WorkerInbox;
use super::record::Affinity;
use super::slots::Slot;
use super::stored::{StoredJob, TransitionFailure};
use super::transition::TransitionError;
use crate::engine::QueueMessage;
use crate::id::Key;
use crate::subject::route;

/// Pulls as many work items as there are free slots for jobs, never more, because an item that waits here could run elsewhere.
/// The slots are not reserved meanwhile: a call may take one, and its work item waits a short time or is returned.
pub(super) async fn pull(inbox: Arc<WorkerInbox>) {
    let route = route(&inbox.team.pool, &inbox.team.lane);
    let mut draining = inbox.draining.subscribe();
    while !*inbox.draining.borrow() {
        let Some(free) = inbox.slots.free_for_jobs().await else { return };
        let hints = tokio::select! {
            hints = inbox.jobs.engine.pull(&route, free, inbox.jobs.timing.redelivery) => hints,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match hints {
            Ok(hints) => {
                for hint in hints {
                    let slot = inbox.slots.try_job();
                    tokio::spawn(process_hint(inbox.clone(), hint, slot));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no hints now");
                inbox.jobs.records.wait_to_retry().await;
            }
        }
    }
}

/// Reads the record to decide how to handle a work item.
async fn process_hint(inbox: Arc<WorkerInbox>, hint: QueueMessage, slot: Option<Slot>) {
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
        None => match timeout(jobs.timing.redelivery / 2, inbox.slots.job()).await {
            Ok(Some(slot)) => slot,
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
