//! Finds jobs that no worker processes although one should: not enqueued, or lost with their worker.
//!
//! One process runs it. It reads every record once per change, keeps an entry for each job that has not ended, and
//! reads only the old ones again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::parts::Jobs;
use super::record::{Affinity, JobState};
use super::stored::StoredJob;
use super::transition::RecordEvent;
use super::turn_cleanup::TurnCleanup;
use super::unix_ms;
use super::waiting::{WaitingJob, WaitingJobs, count_waiting};
use super::work_route::lane_routes;
use crate::engine::{ConnectionState, Message, Unavailable};
use crate::id::Key;
use crate::subject::worker_leaf;
use crate::wire::{self, ClaimsQuery};
use crate::worker::{WorkerGroup, WorkerId};

/// Records per read.
const BATCH: usize = 500;

/// A job that has not ended.
#[derive(Debug, Clone)]
struct OpenJob {
    rev: u64,
    /// Worker that runs the job.
    worker: Option<WorkerId>,
    team: WorkerGroup,
    /// Whether the job waits in the Queue.
    free: bool,
    /// When the job has waited too long for a worker.
    overdue: u64,
    /// When the job could have begun.
    due: u64,
    /// When the worker gets a claims query for the job.
    ask_at: u64,
}

/// What the reconciler knows of jobs that no worker takes (`expire`).
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    /// How long a due job may wait; `None` for no limit.
    pub(super) patience: Option<Duration>,
    /// Worker groups with free jobs that were ended; their work items may still be in the Queue.
    pub(super) ended: HashSet<WorkerGroup>,
}

/// The state of the reconciler from one round to the next. A process that takes over this duty starts with an empty
/// one.
#[derive(Debug, Default)]
pub struct JobReconciler {
    seen: u64,
    open: HashMap<Key, OpenJob>,
    pub(super) unclaimed: Unclaimed,
    turns: TurnCleanup,
    link: Option<ConnectionState>,
}

impl JobReconciler {
    /// Runs one round and returns how many jobs it repaired.
    pub async fn run_once(&mut self, jobs: &Jobs) -> Result<usize, Unavailable> {
        self.read(jobs).await?;
        self.evict_dead_workers(jobs).await?;
        self.end_unclaimed(jobs).await?;
        self.clear_hints(jobs).await?;
        self.ask_workers(jobs).await;
        self.turns.run_once(jobs).await?;
        let mut helped = 0;
        for id in self.suspects(jobs).await? {
            match jobs.records.get(id).await? {
                None => drop(self.open.remove(&id)),
                Some(stored) => helped += usize::from(self.repair(jobs, stored).await?),
            }
        }
        Ok(helped)
    }

    /// Returns jobs of dead workers, and jobs that have waited for too long. A route with a work item for every waiting
    /// job has no lost job: its workers are only overloaded.
    async fn suspects(&self, jobs: &Jobs) -> Result<Vec<Key>, Unavailable> {
        let now = unix_ms();
        let mut doubtful = Vec::new();
        let mut overdue: HashMap<&WorkerGroup, Vec<Key>> = HashMap::new();
        for (id, line) in &self.open {
            match line.worker {
                Some(worker) if !jobs.workers.roster().is_current(worker) => doubtful.push(*id),
                None if line.overdue <= now => overdue.entry(&line.team).or_default().push(*id),
                _ => {}
            }
        }
        for (team, late) in overdue {
            let open = self.free_jobs_of(team);
            let hints = jobs.engine.depth(&lane_routes(team)).await.map_err(|_| Unavailable)?;
            let missing = hints < open;
            doubtful.extend(late.into_iter().filter(|id| missing || !self.open[id].free));
        }
        Ok(doubtful)
    }

    async fn read(&mut self, jobs: &Jobs) -> Result<(), Unavailable> {
        loop {
            let batch = jobs.records.scan(self.seen, BATCH).await?;
            let full = batch.len() == BATCH;
            for stored in batch {
                self.seen = self.seen.max(stored.rev);
                self.track(jobs, &stored);
            }
            if !full {
                return Ok(());
            }
        }
    }

    pub(super) fn forget(&mut self, job: Key) {
        self.open.remove(&job);
    }

    /// Returns jobs that wait for a worker and could have begun before `time`.
    pub(super) fn waits_since_before(&self, time: u64) -> Vec<Key> {
        let waits = self.open.iter().filter(|(_, line)| line.worker.is_none() && line.due <= time);
        waits.map(|(id, _)| *id).collect()
    }

    /// Returns how many jobs of a worker group have a work item.
    pub(super) fn free_jobs_of(&self, team: &WorkerGroup) -> u64 {
        self.open.values().filter(|line| line.free && line.team == *team).count() as u64
    }

    pub(super) fn track(&mut self, jobs: &Jobs, stored: &StoredJob) {
        let StoredJob { record, rev } = stored;
        if record.state.is_terminal() {
            self.open.remove(&record.id);
            if record.affinity == Affinity::Free {
                self.unclaimed.ended.insert(record.team());
            }
            return;
        }
        let worker = record.worker.filter(|_| record.state == JobState::Running);
        let overdue = record.due.max(unix_ms()) + patience(jobs).as_millis() as u64;
        let free = record.affinity == Affinity::Free;
        let ask_at = unix_ms() + jobs.timing.redelivery.as_millis() as u64;
        let (rev, team, due) = (*rev, record.team(), record.due);
        self.open.insert(record.id, OpenJob { rev, worker, team, free, overdue, due, ask_at });
    }

    /// Asks living workers about jobs that their records have shown as running there for some time: a claim can exist
    /// without an attempt. A worker does not reply; it changes the record.
    async fn ask_workers(&mut self, jobs: &Jobs) {
        let now = unix_ms();
        let link = *jobs.engine.link().borrow();
        // an outage of this process may have been an outage of the workers as well
        let broken = self.link.replace(link).is_some_and(|before| before != link);
        let mut questions: HashMap<Key, Vec<Key>> = HashMap::new();
        for (id, line) in self.open.iter_mut().filter(|(_, line)| broken || line.ask_at <= now) {
            line.ask_at = now + jobs.timing.redelivery.as_millis() as u64;
            if let Some(worker) = line.worker.filter(|worker| jobs.workers.roster().is_current(*worker)) {
                questions.entry(worker.id).or_default().push(*id);
            }
        }
        for (worker, asked) in questions {
            for asked in asked.chunks(BATCH) {
                let subject = jobs.subjects.worker(worker, worker_leaf::CLAIMS);
                let message = Message::new(subject, wire::encode(&ClaimsQuery { jobs: asked.to_vec() }));
                // the query is repeated in a later round
                if let Err(error) = jobs.engine.publish(message).await {
                    tracing::debug!(%worker, %error, "worker not asked about its claims");
                }
            }
        }
    }

    /// Evicts workers that run jobs and do not reply any more.
    async fn evict_dead_workers(&self, jobs: &Jobs) -> Result<(), Unavailable> {
        let busy: BTreeSet<WorkerId> = self.open.values().filter_map(|line| line.worker).collect();
        let lives = |worker| jobs.workers.roster().is_current(worker);
        let asked = busy.into_iter().filter(|worker| lives(*worker));
        let evicted = asked.map(|worker| jobs.workers.evict_dead(worker));
        futures_util::future::try_join_all(evicted).await.map(drop)
    }

    async fn repair(&mut self, jobs: &Jobs, stored: StoredJob) -> Result<bool, Unavailable> {
        let line = self.open.get(&stored.record.id).map(|line| line.rev);
        if line != Some(stored.rev) {
            // the record has changed meanwhile
            self.track(jobs, &stored);
            return Ok(false);
        }
        let (state, worker) = (stored.record.state, stored.record.worker);
        match (state, worker) {
            (JobState::Running, Some(worker)) => {
                if jobs.workers.is_alive(worker).await? {
                    return Ok(false);
                }
                let Ok(changed) = jobs.records.change(stored, RecordEvent::WorkerLost(worker)).await else {
                    return Ok(false);
                };
                tracing::info!(job = %changed.stored.record.id, worker = %worker.id, "job taken from a dead worker");
                jobs.run_effect(changed).await;
                Ok(true)
            }
            (JobState::Queued | JobState::Scheduled, _) => {
                jobs.dispatcher.enqueue(&stored, Duration::ZERO).await;
                // enqueued once more after the same time: the claim rejects duplicates
                self.track(jobs, &stored);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Returns how long a job may wait for a worker before it is enqueued again. Longer than the redelivery time of the
/// Queue.
fn patience(jobs: &Jobs) -> Duration {
    jobs.timing.redelivery * 4
}

impl JobReconciler {
    /// Counts the jobs that wait for a worker although their time has come, by worker group and mode.
    pub fn waiting(&self) -> Vec<WaitingJobs> {
        let now = unix_ms();
        let waits = self.open.values().filter(|line| line.worker.is_none() && line.due <= now);
        count_waiting(waits.map(|line| WaitingJob { group: &line.team, assigned: !line.free, due: line.due }))
    }
}
