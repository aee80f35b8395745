//! The parts that handle the jobs of a cluster, over one store of records.
//!
//! Owns: which part gets which, and the cancellation and the retry of a job. Never: how a part works.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::dispatch::JobDispatcher;
use super::effects::ChangeEffects;
use super::idle_offer::IdleOffers;
use super::notify::JobNotifier;
use super::open_rows::OpenRows;
use super::owner_cache::OwnerCache;
use super::quota::Quotas;
use super::record::Record;
use super::records::JobRecords;
use super::retention::Retention;
use super::stored::{StoredJob, Transition, TransitionFailure};
use super::transition::RecordEvent;
use super::waiting::WaitingJobsList;
use crate::engine::{Engine, Unavailable};
use crate::id::Key;
use crate::peer::PeerClient;
use crate::rollout::LaneMove;
use crate::subject::Subjects;
use crate::timing::Timing;
use crate::worker::Workers;

/// The jobs of a cluster. Each part may be used directly. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    /// The records of jobs.
    pub records: Arc<JobRecords>,
    /// The limits of open jobs.
    pub quotas: Arc<Quotas>,
    /// Offers new jobs to idle workers.
    pub(super) idle_offers: Arc<IdleOffers>,
    /// Offers jobs to workers.
    pub dispatcher: Arc<JobDispatcher>,
    /// Notifies pages and watchers.
    pub notifier: Arc<JobNotifier>,
    /// Runs what follows from a changed record.
    pub effects: Arc<ChangeEffects>,
    /// The living workers, as this process sees them.
    pub workers: Workers,
    /// The workers of users, as they replied last.
    pub owners: OwnerCache,
    /// The engine of the cluster.
    pub engine: Engine,
    /// The subjects of the cluster.
    pub subjects: Subjects,
    /// The time-outs of the cluster.
    pub timing: Timing,
    /// The jobs that wait, while this process leads; empty otherwise.
    pub waiting: watch::Sender<WaitingJobsList>,
}

impl Jobs {
    /// Opens the jobs of this engine's cluster, and keeps ended ones for as long as an idempotency key refers to its
    /// job. `workers` knows which workers are alive.
    pub fn new(engine: &Engine, subjects: &Subjects, timing: Timing, workers: &Workers) -> Self {
        let retention = Retention { succeeded: timing.job_index, failed: timing.job_index };
        Self::keeping(engine, subjects, timing, retention, workers)
    }

    /// Opens the jobs like [`Jobs::new`], and keeps ended ones for that time.
    pub fn keeping(
        engine: &Engine,
        subjects: &Subjects,
        timing: Timing,
        retention: Retention,
        workers: &Workers,
    ) -> Self {
        let records = JobRecords::new(engine, timing, retention);
        let rows = OpenRows::new(&records.store);
        let dispatcher = Arc::new(JobDispatcher { engine: engine.clone(), records: records.clone(), rows });
        let notifier = Arc::new(JobNotifier {
            engine: engine.clone(),
            records: records.clone(),
            dispatcher: dispatcher.clone(),
            subjects: subjects.clone(),
            post: PeerClient::new(engine, subjects, timing.deliver),
        });
        let idle_offers = IdleOffers {
            engine: engine.clone(),
            subjects: subjects.clone(),
            timing,
            workers: workers.clone(),
            paused: Mutex::default(),
        };
        Self {
            idle_offers: Arc::new(idle_offers),
            quotas: Arc::new(Quotas::new(records.clone())),
            records,
            effects: Arc::new(ChangeEffects::new(&dispatcher, &notifier)),
            dispatcher,
            notifier,
            workers: workers.clone(),
            owners: OwnerCache::default(),
            engine: engine.clone(),
            subjects: subjects.clone(),
            timing,
            waiting: watch::Sender::new(WaitingJobsList::default()),
        }
    }

    /// Cancels a job in any state that is not final; the worker of a running job is requested to stop.
    pub async fn cancel(&self, job: Key) -> Result<Record, TransitionFailure> {
        self.apply_event(job, RecordEvent::Cancel).await
    }

    /// Runs a job again that has failed, was cancelled or is dead, in another lane if `to` names one.
    pub async fn retry(&self, job: Key, to: Option<LaneMove>) -> Result<Record, TransitionFailure> {
        self.apply_event(job, RecordEvent::Retry(to)).await
    }

    /// Moves a job that waits to another lane, and offers it there.
    pub async fn move_to_lane(&self, stored: StoredJob, to: LaneMove) -> Result<(), TransitionFailure> {
        tracing::debug!(job = %stored.record.id, lane = to.lane, "a job that waits moves to another lane");
        let changed = self.records.change(stored, RecordEvent::MoveToLane(to)).await?;
        self.run_effect(changed).await;
        Ok(())
    }

    async fn apply_event(&self, job: Key, event: RecordEvent) -> Result<Record, TransitionFailure> {
        let stored = self
            .records
            .get(job)
            .await
            .map_err(|Unavailable| TransitionFailure::Unavailable)?
            .ok_or(TransitionFailure::Gone)?;
        let changed = self.records.change_in_time(event, stored).await?;
        let record = changed.stored.record.clone();
        self.run_effect(changed).await;
        Ok(record)
    }

    /// Runs the effect of a change, like [`ChangeEffects::run`], for a process that does not know the job's open row.
    pub async fn run_effect(&self, changed: Transition) {
        self.effects.run(changed, None).await;
    }
}
