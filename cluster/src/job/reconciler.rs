//! Finds jobs that no worker processes although one should: not offered, in a lane that was taken back, or lost with
//! their worker.
//!
//! Owns: the rounds of this duty, each with a bounded number of reads and writes. Never: what is known of the jobs
//! (`tracked_jobs`), or the end of jobs that no worker takes (`expire`).
//!
//! One process runs it. It watches the summaries of all records, because a read of what has changed costs the server a
//! count of all records, and keeps an entry for each job that has not ended. Jobs of dead workers come first. A job that
//! waits costs nothing in a round: its row is checked once after it was submitted or run again, and its work item only when the Queue
//! has fewer items than jobs wait, or when it has waited for very long.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use tokio::time::timeout;

use super::lanes::lane_move;
use super::parts::Jobs;
use super::record::JobState;
use super::stored::StoredJob;
use super::summary::RecordSummary;
use super::tracked_jobs::{LaneBacklog, Patience, TrackedJobs};
use super::transition::RecordEvent;
use super::turn_cleanup::TurnCleanup;
use super::waiting::{WaitingJobs, WaitingJobsList};
use super::work_route::lane_routes;
use crate::engine::{ConnectionState, Message, Unavailable, Watch, WatchEvent, WatchMode};
use crate::id::Key;
use crate::rollout::Rollouts;
use crate::subject::{job_key, worker_leaf};
use crate::timing::Timing;
use crate::wire::{self, ClaimsQuery};
use crate::worker::{Affinity, WorkerGroup, WorkerId};

/// Changes of records that are applied in a round.
const CHANGES: usize = 200_000;
/// Jobs that are repaired in a round for each reason, except those of dead workers.
const REPAIRS: usize = 2_000;
/// Rows of waiting jobs that are checked in a round: few, because a check costs a read and a refused write.
const ROW_CHECKS: usize = 300;
/// Jobs that are repaired concurrently.
const AT_ONCE: usize = 64;
/// Jobs in one claims query.
const QUESTIONS: usize = 500;

/// What the reconciler knows of jobs that no worker takes (`expire`).
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    /// How long a due job may wait; `None` for no limit.
    pub(super) patience: Option<Duration>,
    /// Worker groups with free jobs that were ended or moved; their work items may still be in the Queue.
    pub(super) ended: HashSet<WorkerGroup>,
}

/// The state of the reconciler from one round to the next. A process that takes over this duty starts with an empty
/// one.
#[derive(Default)]
pub struct JobReconciler {
    /// The changes of records.
    feed: Option<Watch>,
    /// Whether all records that existed were seen.
    complete: bool,
    pub(super) tracked: TrackedJobs,
    pub(super) unclaimed: Unclaimed,
    /// Moves waiting jobs between lanes; `None` for a cluster without rollouts.
    rollouts: Option<Rollouts>,
    turns: TurnCleanup,
    link: Option<ConnectionState>,
}

impl JobReconciler {
    /// Moves the waiting jobs of lanes that were taken back, by these rollouts.
    #[must_use]
    pub fn with_rollouts(mut self, rollouts: Rollouts) -> Self {
        self.rollouts = Some(rollouts);
        self
    }

    /// Returns the jobs that could have begun and wait, by group and affinity, and all that have not
    /// ended.
    pub fn waiting(&self, now: u64) -> WaitingJobsList {
        let backlog = self.tracked.backlog(now).into_iter();
        let groups = backlog
            .map(|((group, affinity), LaneBacklog { count, oldest })| WaitingJobs {
                pool: group.pool.clone(),
                lane: group.lane.clone(),
                assigned: affinity == Affinity::Assigned,
                count,
                oldest_due: oldest,
            })
            .collect();
        WaitingJobsList { groups, lanes: self.tracked.unfinished() }
    }

    /// Runs one round and returns how many jobs it repaired.
    pub async fn run_once(&mut self, jobs: &Jobs) -> Result<usize, Unavailable> {
        self.evict_dead_workers(jobs).await?;
        let mut repaired = self.repair_lost(jobs).await?;
        self.read(jobs).await?;
        repaired += self.repair_lost(jobs).await?;
        repaired += self.offer_again(jobs).await?;
        repaired += self.change_lanes(jobs).await?;
        self.end_unclaimed(jobs).await?;
        self.clear_hints(jobs).await?;
        self.ask_workers(jobs).await;
        self.turns.run_once(jobs).await?;
        Ok(repaired)
    }

    /// Applies the changes of records that have arrived since the last round, up to a limit. The first round waits for
    /// all existing records.
    async fn read(&mut self, jobs: &Jobs) -> Result<(), Unavailable> {
        let mut feed = match self.feed.take() {
            Some(feed) => feed,
            None => {
                // a job that begins and ends within the pace is one event
                let pace = jobs.timing.lease_renew / 3;
                jobs.records.store.watch_at_pace(job_key::JOBS, WatchMode::Meta, pace).await?
            }
        };
        if !self.complete {
            // a large store needs several rounds
            let all = async {
                while self.apply(jobs, feed.next().await)? {}
                Ok(())
            };
            let complete = timeout(jobs.timing.operation, all).await;
            self.complete = matches!(complete, Ok(Ok(())));
            if let Ok(outcome) = complete {
                outcome?;
            }
        }
        for _ in 0..CHANGES {
            let Some(event) = feed.next().now_or_never() else { break };
            self.apply(jobs, event)?;
        }
        self.feed = Some(feed);
        Ok(())
    }

    /// Applies a change of a record. Returns `false` after all existing records.
    fn apply(&mut self, jobs: &Jobs, event: Option<WatchEvent>) -> Result<bool, Unavailable> {
        match event.ok_or(Unavailable)? {
            WatchEvent::Live => return Ok(false),
            WatchEvent::Delete { key, .. } => {
                if let Some(id) = job_key::id_of(&key) {
                    self.tracked.remove(id);
                }
            }
            WatchEvent::Put(entry) => {
                match (job_key::id_of(&entry.key), RecordSummary::decode(&entry.meta)) {
                    (Some(id), Some(summary)) => self.track(jobs, id, entry.rev, &summary),
                    _ => tracing::debug!(key = entry.key, "record of an unknown shape ignored"),
                }
            }
        }
        Ok(true)
    }

    pub(super) fn track_record(&mut self, jobs: &Jobs, stored: &StoredJob) {
        self.track(jobs, stored.record.id, stored.rev, &RecordSummary::of(&stored.record));
    }

    fn track(&mut self, jobs: &Jobs, id: Key, rev: u64, summary: &RecordSummary) {
        let ended = self.tracked.put(id, rev, summary, jobs.records.now_ms(), patience(&jobs.timing));
        if ended && summary.affinity == Affinity::Free {
            self.unclaimed.ended.insert(summary.team());
        }
    }

    /// Evicts workers that run jobs and do not reply any more.
    async fn evict_dead_workers(&self, jobs: &Jobs) -> Result<(), Unavailable> {
        let is_current = |worker: &WorkerId| jobs.workers.roster().is_current(*worker);
        let asked = self.tracked.workers().into_iter().filter(is_current);
        let evicted = asked.map(|worker| jobs.workers.evict_dead(worker));
        futures_util::future::try_join_all(evicted).await.map(drop)
    }

    async fn repair_lost(&mut self, jobs: &Jobs) -> Result<usize, Unavailable> {
        let lost = self.tracked.lost(|worker| jobs.workers.roster().is_current(worker));
        self.repair_all(jobs, lost, repair).await
    }

    /// Offers jobs again that have neither a row nor a work item. A group with a work item for every waiting job has no
    /// lost job: its workers are only overloaded, unless a job that has two work items hides the lost one.
    async fn offer_again(&mut self, jobs: &Jobs) -> Result<usize, Unavailable> {
        let now = jobs.records.now_ms();
        let mut doubtful = self.tracked.take_unchecked(now, ROW_CHECKS);
        for (group, mut late) in self.tracked.overdue(now) {
            let waiting = self.tracked.free_jobs_of(&group);
            let items = jobs.engine.depth(&lane_routes(&group)).await.map_err(|_| Unavailable)?;
            if items < waiting {
                late.truncate(REPAIRS);
                doubtful.extend(late);
            }
        }
        doubtful.extend(self.tracked.take_oldest(now, AT_ONCE));
        self.repair_all(jobs, doubtful, repair).await
    }

    /// Moves free jobs that wait in a lane which was taken back or has no workers. The workers of other lanes move jobs
    /// themselves when they claim them.
    async fn change_lanes(&mut self, jobs: &Jobs) -> Result<usize, Unavailable> {
        let Some(rollouts) = self.rollouts.clone() else { return Ok(0) };
        let state = 1 + *rollouts.changes().borrow() + *jobs.workers.changes().borrow();
        let is_doubtful = |group: &WorkerGroup| {
            !jobs.workers.roster().serves(group) || !rollouts.is_open(&group.pool, &group.lane)
        };
        let waiting = self.tracked.take_lanes(state, REPAIRS, is_doubtful);
        let change = |jobs: Jobs, stored: StoredJob| {
            let rollouts = rollouts.clone();
            async move { change_lane(&jobs, &rollouts, stored).await }
        };
        let before: HashSet<WorkerGroup> = waiting
            .iter()
            .filter_map(|id| self.tracked.group_of(*id))
            .map(|group| (*group).clone())
            .collect();
        let moved = self.repair_all(jobs, waiting, change).await?;
        if moved > 0 {
            self.unclaimed.ended.extend(before);
        }
        Ok(moved)
    }

    /// Reads the records of these jobs and repairs those that have not changed. Returns how many were repaired.
    async fn repair_all<F>(
        &mut self,
        jobs: &Jobs,
        ids: Vec<Key>,
        repair: impl Fn(Jobs, StoredJob) -> F,
    ) -> Result<usize, Unavailable>
    where
        F: Future<Output = Result<bool, Unavailable>>,
    {
        let known: Vec<(Key, Option<u64>)> =
            ids.into_iter().map(|id| (id, self.tracked.get(id).map(|job| job.rev))).collect();
        let repaired = known.iter().copied().map(async |(id, rev)| {
            let Some(stored) = jobs.records.get(id).await? else { return Ok((id, None, None)) };
            let repaired = match rev == Some(stored.rev) {
                true => Some(repair(jobs.clone(), stored.clone()).await?),
                false => None,
            };
            Ok::<_, Unavailable>((id, Some(stored), repaired))
        });
        let outcomes = stream::iter(repaired).buffer_unordered(AT_ONCE).try_collect().await;
        // what was taken for this round and not repaired is taken again
        let outcomes: Vec<_> =
            outcomes.inspect_err(|_| known.iter().for_each(|(id, _)| self.tracked.recheck(*id)))?;
        let mut count = 0;
        for (id, stored, repaired) in outcomes {
            match stored {
                None => self.tracked.remove(id),
                // a repaired record is read again when its change is seen
                Some(stored) => self.track_record(jobs, &stored),
            }
            if repaired.is_none() {
                self.tracked.recheck(id);
            }
            count += usize::from(repaired == Some(true));
        }
        Ok(count)
    }

    /// Asks living workers about jobs that their records have shown as running there for some time: a claim can exist
    /// without an attempt. A worker does not reply; it changes the record.
    async fn ask_workers(&mut self, jobs: &Jobs) {
        let link = *jobs.engine.link().borrow();
        // an outage of this process may have been an outage of the workers as well
        let broken = self.link.replace(link).is_some_and(|before| before != link);
        let now = jobs.records.now_ms();
        for (worker, asked) in self.tracked.take_questions(now, now + patience(&jobs.timing).ask, broken) {
            if !jobs.workers.roster().is_current(worker) {
                continue;
            }
            for asked in asked.chunks(QUESTIONS) {
                let subject = jobs.subjects.worker(worker.id, worker_leaf::CLAIMS);
                let message = Message::new(subject, wire::encode(&ClaimsQuery { jobs: asked.to_vec() }));
                // the query is repeated in a later round
                if let Err(error) = jobs.engine.publish(message).await {
                    tracing::debug!(worker = %worker.id, %error, "worker not asked about its claims");
                }
            }
        }
    }
}

fn patience(timing: &Timing) -> Patience {
    let ms = |duration: Duration| duration.as_millis() as u64;
    Patience {
        work_item: ms(timing.redelivery) * 4,
        offer: ms(timing.redelivery) * 16,
        open_row: ms(timing.lease_renew) / 3,
        ask: ms(timing.redelivery),
    }
}

/// Takes a job from a dead worker, or offers a job that waits once more. Returns whether it did.
async fn repair(jobs: Jobs, stored: StoredJob) -> Result<bool, Unavailable> {
    match (stored.record.state, stored.record.worker) {
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
        // a second work item or row is harmless: the claim rejects duplicates, and the first row keeps its position
        (JobState::Queued | JobState::Scheduled, _) => jobs.dispatcher.offer_again(&stored).await,
        _ => Ok(false),
    }
}

async fn change_lane(jobs: &Jobs, rollouts: &Rollouts, stored: StoredJob) -> Result<bool, Unavailable> {
    let Some(to) = lane_move(&stored.record, rollouts, &jobs.workers) else { return Ok(false) };
    Ok(jobs.move_to_lane(stored, to).await.is_ok())
}
