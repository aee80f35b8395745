//! One attempt of a job, held by the task that runs its handler.

use std::sync::Arc;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::QueueMessage;
use pagewire_cluster::job::{
    Change, Claim, Jobs, MAX_CONTENT, Record, RecordEvent, StoredJob, Transition, TransitionError,
    TransitionFailure,
};
use pagewire_cluster::wire::{HandlerError, JobEvent, Progress};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};

use super::reporter::Reporter;
use super::run_result::{RunFailure, RunResult};
use super::running::RunningGuard;
use super::slots::Slot;

/// How the record stands after an attempt.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// The job has ended.
    Over,
    /// The job runs again, not before `due` in milliseconds since the Unix epoch.
    Again { due: u64 },
    /// The attempt had lost the job before.
    Lost,
}

impl AttemptEnd {
    fn of(changed: Option<&Transition>) -> Self {
        match changed.map(|changed| &changed.stored.record) {
            None => Self::Lost,
            Some(record) if record.state.is_terminal() => Self::Over,
            Some(record) => Self::Again { due: record.due },
        }
    }
}

/// What has led a worker to a job.
#[derive(Debug)]
pub(crate) enum JobSource {
    /// The Queue: this work item. `None` for an offer of another worker, which has the work item, or of a submitter, which
    /// has written none.
    Queue(Option<QueueMessage>),
    /// The open row of an assigned job.
    Row {
        /// Revision of the row.
        rev: u64,
        /// Notifies the queue of the user that the next job may begin.
        ended: oneshot::Sender<AttemptEnd>,
    },
}

impl JobSource {
    /// Returns the work item of the job; `None` for an assigned job.
    fn item(&self) -> Option<&QueueMessage> {
        match self {
            Self::Queue(item) => item.as_ref(),
            Self::Row { .. } => None,
        }
    }
}

/// A claimed job. The receiver ends it with [`Attempt::end`]. An attempt that is dropped without it counts as lost when
/// its worker next finds the claim, as if the worker had been killed.
pub struct Attempt {
    jobs: Jobs,
    stored: StoredJob,
    claim: Claim,
    /// `None` after the end.
    source: Option<JobSource>,
    reporter: Reporter,
    cancelled: watch::Receiver<bool>,
    upkeep: tokio::task::JoinHandle<()>,
    running: RunningGuard,
    _slot: Slot,
}

impl Attempt {
    pub(crate) fn begin(
        jobs: &Jobs,
        stored: StoredJob,
        claim: Claim,
        source: JobSource,
        running: RunningGuard,
        slot: Slot,
    ) -> Self {
        let (progress, reports) = watch::channel(None);
        let upkeep = AttemptMonitor {
            jobs: jobs.clone(),
            stored: stored.clone(),
            claim,
            hint: source.item().cloned(),
            cancel: running.cancel.clone(),
        };
        Self {
            jobs: jobs.clone(),
            stored,
            claim,
            source: Some(source),
            reporter: Reporter::new(progress),
            cancelled: running.cancel.subscribe(),
            upkeep: tokio::spawn(upkeep.run(reports)),
            running,
            _slot: slot,
        }
    }

    /// Returns the record of the job, with the argument of the handler.
    pub fn record(&self) -> &Record {
        &self.stored.record
    }

    /// Returns the reporter for the handler's progress.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Resolves when the job is cancelled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + use<> {
        let mut cancelled = self.cancelled.clone();
        async move {
            if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Writes the end, notifies the page and acknowledges the work item, in this order, and returns the record after
    /// that. The acknowledgement is not confirmed: if it is lost, the item comes again and leads to the ended record.
    /// Repeats while the engine is unavailable. Changes nothing and returns `None` when this attempt has lost the job
    /// meanwhile.
    ///
    /// A job begins again if its executor died or leaves, which does not count as a failure of its handler.
    pub async fn end(mut self, result: RunResult) -> Option<Record> {
        self.upkeep.abort();
        // no progress may be published after the end
        let _ = (&mut self.upkeep).await;
        let change = Change::new(event(self.claim, result));
        let changed = match self.jobs.records.change_until_known(change, self.stored.clone(), |_| true).await
        {
            Ok(changed) => Some(changed),
            Err(TransitionFailure::Refused(refusal, _)) => {
                tracing::info!(job = %self.record().id, ?refusal, "another worker has this job by now");
                None
            }
            Err(_) => None,
        };
        let (item, row) = match self.source.take() {
            Some(JobSource::Row { rev, ended }) => {
                // the next job need not wait until the pages are notified
                let _ = ended.send(AttemptEnd::of(changed.as_ref()));
                (None, Some(rev))
            }
            Some(JobSource::Queue(item)) => (item, None),
            None => (None, None),
        };
        let record = changed.as_ref().map(|changed| changed.stored.record.clone());
        if let Some(changed) = changed {
            self.jobs.effects.run(changed, row).await;
        }
        if let Some(item) = &item
            && let Err(error) = self.jobs.engine.ack_unconfirmed(item).await
        {
            tracing::debug!(%error, "a work item was not acknowledged: it comes again and leads to the ended record");
        }
        self.running.over();
        record
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

fn event(claim: Claim, result: RunResult) -> RecordEvent {
    match result {
        Ok(value) if value.get().len() > MAX_CONTENT => {
            let message = format!("the result of a job has at most {MAX_CONTENT} bytes");
            let failure = HandlerError::new(ErrorCode::TooLarge, message);
            RecordEvent::Fail(claim, failure)
        }
        Ok(value) => RecordEvent::Succeed(claim, value),
        Err(RunFailure::Failed(failure)) => RecordEvent::Fail(claim, failure),
        Err(RunFailure::RetryAfter(failure, after)) => RecordEvent::RetryAfter(claim, failure, after),
        Err(RunFailure::Snoozed(after)) => RecordEvent::Snooze(claim, after),
        Err(RunFailure::Stopped) => RecordEvent::StopAcknowledged(claim),
        Err(RunFailure::Lost { .. }) => RecordEvent::ExecutorLost(claim),
        Err(RunFailure::Returned | RunFailure::NoObject) => RecordEvent::Release(claim),
    }
}

/// Runs beside a handler: keeps the work item reserved for this worker, publishes progress to the page, persists some
/// of the progress in the record, and finds a cancellation when its message was lost.
struct AttemptMonitor {
    jobs: Jobs,
    stored: StoredJob,
    claim: Claim,
    hint: Option<QueueMessage>,
    cancel: Arc<watch::Sender<bool>>,
}

impl AttemptMonitor {
    async fn run(mut self, mut reports: watch::Receiver<Option<Progress>>) {
        let timing = self.jobs.timing;
        // the watchers of a job that ends before this are notified of its end only
        if timeout(timing.progress / 10, reports.wait_for(Option::is_some)).await.is_ok() {
            reports.mark_changed();
        }
        self.jobs.notifier.publish(&self.stored.record);
        let later = |period| interval_at(Instant::now() + period, period);
        let (mut touch, mut keep) = (later(timing.redelivery / 3), later(timing.lease_renew));
        let mut pace = interval(timing.progress);
        for ticks in [&mut touch, &mut keep, &mut pace] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut unkept = None;
        loop {
            tokio::select! {
                _ = touch.tick() => self.touch().await,
                _ = keep.tick(), if unkept.is_some() => {
                    if let Some(progress) = unkept.take() {
                        self.persist_progress(progress).await;
                    }
                }
                // no sooner than the pace allows, and then only the latest report
                Ok(()) = async { pace.tick().await; reports.changed().await } => {
                    let progress = reports.borrow_and_update().clone();
                    if let Some(progress) = &progress {
                        self.publish_progress(progress).await;
                    }
                    unkept = progress;
                }
            }
        }
    }

    async fn touch(&self) {
        if let Some(hint) = &self.hint
            && let Err(error) = self.jobs.engine.extend(hint).await
        {
            tracing::debug!(%error, "hint not touched");
        }
        if let Ok(Some(now)) = self.jobs.records.get(self.stored.record.id).await {
            self.check_cancelled(&now);
        }
    }

    async fn publish_progress(&self, progress: &Progress) {
        let record = &self.stored.record;
        let state = record.state.text().to_owned();
        self.jobs.notifier.publish_event(
            record.id,
            JobEvent { progress: Some(progress.clone()), ..JobEvent::of_state(state) },
        );
        self.jobs.notifier.tell_progress(record, progress).await;
    }

    async fn persist_progress(&mut self, progress: Progress) {
        match self.jobs.records.change(self.stored.clone(), RecordEvent::Progress(self.claim, progress)).await
        {
            Ok(changed) => {
                self.check_cancelled(&changed.stored);
                self.stored = changed.stored;
            }
            Err(TransitionFailure::Refused(TransitionError::Stale, stored)) => self.check_cancelled(&stored),
            Err(_) => {}
        }
    }

    /// Stops the handler when the job is cancelled or another worker holds it.
    fn check_cancelled(&self, now: &StoredJob) {
        let record = &now.record;
        let ours = record.worker == Some(self.claim.worker) && record.attempts == self.claim.attempt;
        if record.cancelling || !ours {
            self.cancel.send_replace(true);
        }
    }
}
