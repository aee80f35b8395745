//! Ends jobs that have waited for a worker for too long, and removes work items of ended jobs that no worker pulls.

use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::parts::Jobs;
use super::reconciler::JobReconciler;
use super::stored::{StoredJob, TransitionFailure};
use super::transition::RecordEvent;
use super::work_route::{PulledRoute, lane_routes};
use crate::engine::{QueueError, Unavailable};
use crate::id::Key;
use crate::worker::{Affinity, WorkerGroup};

/// Jobs that are ended concurrently, and work items of one pull.
const AT_ONCE: usize = 64;

impl JobReconciler {
    /// Creates a reconciler that ends jobs that wait longer than `patience` after they were due.
    pub fn new(patience: Duration) -> Self {
        let mut reconciler = Self::default();
        reconciler.unclaimed.patience = Some(patience);
        reconciler
    }

    /// Ends jobs that no worker took, and returns how many.
    pub(super) async fn end_unclaimed(&mut self, jobs: &Jobs) -> Result<usize, Unavailable> {
        let Some(patience) = self.unclaimed.patience else { return Ok(0) };
        let wait_ms = patience.as_millis() as u64;
        let late = self.tracked.waits_since_before(jobs.records.now_ms().saturating_sub(wait_ms));
        let ends = late.into_iter().map(async |id| (id, end_unclaimed(jobs, id, wait_ms).await));
        let outcomes: Vec<_> = stream::iter(ends).buffer_unordered(AT_ONCE).collect().await;
        let mut ended = 0;
        for (id, outcome) in outcomes {
            match outcome {
                Ok(Some(stored)) => self.track_record(jobs, &stored),
                Ok(None) => {
                    ended += 1;
                    self.tracked.remove(id);
                }
                Err(TransitionFailure::Refused(_, stored)) => self.track_record(jobs, &stored),
                Err(TransitionFailure::Gone) => self.tracked.remove(id),
                Err(TransitionFailure::Unavailable) => return Err(Unavailable),
            }
        }
        Ok(ended)
    }

    /// Removes the work items of ended jobs on routes without a worker, after it has notified their pages.
    pub(super) async fn clear_hints(&mut self, jobs: &Jobs) -> Result<(), Unavailable> {
        let served = |team: &WorkerGroup| jobs.workers.roster().gives(team, Affinity::Free);
        // a group with workers may lose them before they have pulled such a work item
        let groups = std::mem::take(&mut self.unclaimed.ended);
        let (kept, unserved): (Vec<_>, Vec<_>) = groups.into_iter().partition(served);
        self.unclaimed.ended.extend(kept);
        let mut outcome = Ok(());
        for team in unserved {
            let open = self.tracked.free_jobs_of(&team);
            let cleared = clear(jobs, &team, open).await;
            if cleared != Ok(false) {
                self.unclaimed.ended.insert(team);
            }
            outcome = outcome.and(cleared.map(drop).map_err(|_| Unavailable));
        }
        outcome
    }
}

/// Ends one job. Returns `Some` when the record differs from the tracked one.
async fn end_unclaimed(jobs: &Jobs, id: Key, wait_ms: u64) -> Result<Option<StoredJob>, TransitionFailure> {
    let stored = jobs
        .records
        .get(id)
        .await
        .map_err(|Unavailable| TransitionFailure::Unavailable)?
        .ok_or(TransitionFailure::Gone)?;
    if stored.record.state.is_terminal() {
        return Ok(Some(stored));
    }
    let changed = jobs.records.change(stored, RecordEvent::Expire { wait_ms }).await?;
    tracing::info!(job = %id, pool = changed.stored.record.pool, "job ended: no worker took it in time");
    jobs.run_effect(changed).await;
    Ok(None)
}

/// Pulls and removes work items once, and returns whether there may be more.
async fn clear(jobs: &Jobs, team: &WorkerGroup, open: u64) -> Result<bool, QueueError> {
    let depth = jobs.engine.depth(&lane_routes(team)).await?;
    if depth <= open {
        return Ok(depth > 0);
    }
    let routes = PulledRoute::all().map(|part| part.of(team));
    let cleared = routes.map(async |route| clear_route(jobs, &route).await);
    let cleared: Vec<bool> = stream::iter(cleared).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(cleared.contains(&true))
}

/// Clears one route once, and returns whether there may be more work items.
async fn clear_route(jobs: &Jobs, route: &str) -> Result<bool, QueueError> {
    // so that the engine keeps no state of a route that was never used
    if jobs.engine.depth(route).await? == 0 {
        return Ok(false);
    }
    // work items with a delay are not delivered now
    let wait = jobs.timing.publish;
    let pulled = timeout(jobs.timing.operation, jobs.engine.pull(route, AT_ONCE, wait)).await;
    let Ok(hints) = pulled else { return Ok(false) };
    for hint in hints? {
        let record = match hint.id.parse::<Key>() {
            Ok(id) => jobs.records.get(id).await.map_err(|Unavailable| QueueError::Down)?,
            Err(_) => None,
        };
        match record {
            Some(stored) if !stored.record.state.is_terminal() => {
                // with a delay, so that the next pull delivers other items
                jobs.engine.nak(&hint, jobs.timing.redelivery).await?;
            }
            record => {
                // the worker that ended the job may have been killed before it notified the pages
                if let Some(stored) = record {
                    jobs.notifier.notify_pages(&stored).await;
                }
                jobs.engine.ack(&hint).await?;
            }
        }
    }
    Ok(true)
}
