//! What follows from a changed record.
//!
//! Owns: the steps of each effect and their order. Never: which effect follows from an event (`transition`).

use std::sync::Arc;
use std::time::Duration;

use super::dispatch::JobDispatcher;
use super::notify::JobNotifier;
use super::stored::Transition;
use super::transition::Effect;
use crate::engine::{Message, Unavailable};
use crate::subject::worker_leaf;
use crate::wire::{self, Cancel};

/// Runs the effects of changed records.
pub struct ChangeEffects {
    dispatcher: Arc<JobDispatcher>,
    notifier: Arc<JobNotifier>,
}

impl ChangeEffects {
    pub(super) fn new(dispatcher: &Arc<JobDispatcher>, notifier: &Arc<JobNotifier>) -> Self {
        Self { dispatcher: dispatcher.clone(), notifier: notifier.clone() }
    }

    /// Runs the effect of a change. None of the steps has to succeed: the reconciler finds a job that was not enqueued,
    /// and the work item or the open row stays until the page has been notified. `row` is the revision of the open row
    /// that led to the attempt which has changed the record; `None` if it is not known, or there was none.
    pub async fn run(&self, changed: Transition, row: Option<u64>) {
        let Transition { stored, after } = changed;
        let record = &stored.record;
        match after {
            Effect::Nothing => self.notifier.publish(record),
            Effect::Enqueue { delay_ms } => {
                self.notifier.publish(record);
                self.dispatcher.enqueue(&stored, Duration::from_millis(delay_ms)).await;
            }
            Effect::CancelWorker(worker) => {
                let subject = self.notifier.subjects.worker(worker.id, worker_leaf::CANCEL);
                let message = Message::new(subject, wire::encode(&Cancel { id: record.id }));
                // a worker that does not receive it reads the record at its next extension of the work item
                if let Err(error) = self.notifier.engine.publish(message).await {
                    tracing::debug!(job = %record.id, %error, "worker not told that its job is cancelled");
                }
            }
            Effect::NotifyEnd => {
                self.notifier.publish_end(&stored);
                self.notifier.notify_pages(&stored).await;
                if let Err(Unavailable) = self.dispatcher.rows.delete(record, row).await {
                    // the worker that serves the user finds the row again
                    tracing::debug!(job = %record.id, "the open row of a job that is over stays for now");
                }
            }
        }
    }
}
