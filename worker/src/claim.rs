//! The claims of a worker: how a job begins here, and how a claim without an attempt is given back.
//!
//! Owns: the claim of a free job, the start of a claimed one, and taking a job from a dead worker. Never: which jobs the
//! worker looks for (`queue`, `affinity`), or the turns of users (`user_turns`).

use std::sync::Arc;

use pagewire_cluster::engine::{QueueMessage, Unavailable};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{
    Change, Claim, JobState, Record, RecordEvent, StoredJob, Transition, TransitionError, TransitionFailure,
};
use pagewire_cluster::worker::WorkerId;

use super::attempt::{Attempt, JobSource};
use super::running::RunningGuard;
use super::slots::Slot;
use super::work::{Work, WorkerParts};

/// The claims of one worker.
pub(crate) struct Claims {
    parts: Arc<WorkerParts>,
}

impl Claims {
    pub(crate) fn new(parts: &Arc<WorkerParts>) -> Self {
        Self { parts: parts.clone() }
    }

    /// Claims a free job and passes it, with the slot, to the receiver that runs handlers. If the reply to the claim is
    /// lost, its outcome is resolved during this incarnation of the worker; a claim that stays behind is given back by
    /// [`Claims::mark_lost`].
    pub(crate) async fn claim(
        &self,
        stored: StoredJob,
        hint: Option<QueueMessage>,
        slot: Slot,
    ) -> Result<(), TransitionFailure> {
        let WorkerParts { jobs, lease, running, .. } = &*self.parts;
        let Some(worker) = self.parts.active() else { return Err(TransitionFailure::Unavailable) };
        // registered before the claim is written, so that no written claim is without a registration
        let Some(running) = running.begin(stored.record.id) else {
            return Err(TransitionFailure::Refused(TransitionError::Running(worker), Box::new(stored)));
        };
        let change = Change::new(RecordEvent::Claim(self.parts.claimant(worker)));
        let goes_on = |sent| sent && lease.worker() == Some(worker);
        let Transition { stored, .. } = jobs.records.change_until_known(change, stored, goes_on).await?;
        self.start(stored, worker, JobSource::Queue(hint), running, slot).await;
        Ok(())
    }

    /// Creates a new job as running here and passes it, with the slot, to the receiver that runs handlers. `created` runs in
    /// between. Returns whether the job was created: not when it exists already.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the job may have been created. [`Claims::check`] gives it back then.
    pub(crate) async fn create(
        &self,
        new: &Record,
        slot: Slot,
        created: impl Future<Output = ()>,
    ) -> Result<bool, Unavailable> {
        let WorkerParts { jobs, running, .. } = &*self.parts;
        let Some(worker) = self.parts.active() else { return Ok(false) };
        // registered before the record is written, as in `claim`
        let Some(running) = running.begin(new.id) else { return Ok(false) };
        let Some(stored) = jobs.records.create_running(new, self.parts.claimant(worker)).await? else {
            return Ok(false);
        };
        created.await;
        self.start(stored, worker, JobSource::Queue(None), running, slot).await;
        Ok(true)
    }

    /// Passes a claimed job to the receiver that runs handlers.
    pub(crate) async fn start(
        &self,
        stored: StoredJob,
        worker: WorkerId,
        source: JobSource,
        mut running: RunningGuard,
        slot: Slot,
    ) {
        let claim = Claim { worker, attempt: stored.record.attempts };
        running.begun();
        let attempt = Attempt::begin(&self.parts.jobs, stored, claim, source, running, slot);
        let _ = self.parts.work.send(Work::Job(Box::new(attempt))).await;
    }

    /// Takes a job from the worker that its record names if that worker is dead, or if it is this worker and no attempt
    /// exists for the claim. Returns the record after that, or `None` when the worker still has the job.
    pub(crate) async fn mark_lost(&self, stored: StoredJob, worker: WorkerId) -> Option<Transition> {
        let jobs = &self.parts.jobs;
        if self.parts.active() == Some(worker) {
            return self.give_back(stored, worker).await;
        }
        if jobs.workers.is_alive(worker).await != Ok(false) {
            return None;
        }
        tracing::info!(job = %stored.record.id, worker = %worker.id, "the worker of a job is dead");
        jobs.records.change(stored, RecordEvent::WorkerLost(worker)).await.ok()
    }

    /// Gives back a claim of this worker that has no attempt. If the reply to the claim was lost, the claim does not
    /// count as an attempt; if the attempt was dropped, it does.
    async fn give_back(&self, stored: StoredJob, worker: WorkerId) -> Option<Transition> {
        let WorkerParts { jobs, lease, running, .. } = &*self.parts;
        let Record { id, attempts, state, .. } = stored.record;
        // `None`: an attempt exists, or its claim is being changed
        let _in_hand = running.begin(id).filter(|_| state == JobState::Running)?;
        let event = match running.was_dropped(id) {
            true => RecordEvent::WorkerLost(worker),
            false => RecordEvent::Release(Claim { worker, attempt: attempts }),
        };
        let goes_on = |sent| sent && lease.worker() == Some(worker);
        let changed = jobs.records.change_until_known(Change::new(event), stored, goes_on).await;
        if let Err(TransitionFailure::Unavailable) = changed {
            return None;
        }
        running.forget_dropped(id);
        let changed = changed.ok()?;
        tracing::warn!(job = %id, "a claim of this worker had no attempt and is given back");
        Some(changed)
    }

    /// Finds jobs that this worker claims but does not run, and gives them back.
    pub(crate) async fn check(self: Arc<Self>, jobs: Vec<Key>) {
        let parts = &self.parts;
        for id in jobs {
            if parts.running.has(id) {
                continue;
            }
            if let Ok(Some(stored)) = parts.jobs.records.get(id).await
                && let Some(worker) = stored.record.worker.filter(|worker| parts.active() == Some(*worker))
                && let Some(changed) = self.give_back(stored, worker).await
            {
                parts.jobs.run_effect(changed).await;
            }
        }
    }
}
