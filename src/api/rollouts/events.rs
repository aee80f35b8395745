//! `/rollouts/{pool}/events`: the rollout of a pool and the comparison of its lanes, whenever one of them changes.

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use pagewire_cluster::rollout::RolloutSpec;
use pagewire_cluster::rollout::analysis::PoolReport;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::super::ApiState;
use super::super::error::{ApiError, ErrorBody};
use super::super::sse::{self, EventSource};
use super::Pool;
use super::status::RolloutResponse;

/// Watches a pool for one reader.
struct RolloutWatcher {
    parts: ApiState,
    pool: String,
    changes: watch::Receiver<u64>,
    ticks: Interval,
    shown: Option<RolloutSpec>,
    compared: Option<PoolReport>,
}

/// Streams a rollout.
///
/// The event `rollout` has the document as in the list of rollouts: first the current one, then each one that this node
/// applies. The event `analysis` has the comparison of the lanes as in `analysis` of the status, whenever the leader reports other
/// numbers. Changes that follow each other at once may be one event. The stream ends when the node shuts down.
#[utoipa::path(get, path = "/api/v1/rollouts/{pool}/events", tag = "rollouts", params(("pool" = String, Path)),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn events(
    State(parts): State<ApiState>,
    Pool(pool): Pool,
) -> Result<Response, ApiError> {
    let mut ticks = interval(parts.context.analysis.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (changes, ready) = (parts.context.rollouts.document_changes(), parts.ready.clone());
    let watcher = RolloutWatcher { parts, pool, changes, ticks, shown: None, compared: None };
    Ok(sse::respond(ready, None, None, watcher))
}

impl EventSource for RolloutWatcher {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(document) = self.changed() {
                return Some(sse::event("rollout", &RolloutResponse::from(document)));
            }
            if let Some(report) = self.compared() {
                return Some(sse::event("analysis", &report.lanes));
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                _ = self.ticks.tick() => {}
            }
        }
    }
}

impl RolloutWatcher {
    /// Returns the document that this node has applied, if it was not shown yet.
    fn changed(&mut self) -> Option<RolloutSpec> {
        let document = self.parts.context.rollouts.applied_document(&self.pool);
        let document = document.unwrap_or_else(|| RolloutSpec::unwritten(&self.pool));
        let is_new = self.shown.as_ref() != Some(&document);
        self.shown = Some(document.clone());
        is_new.then_some(document)
    }

    /// Returns the numbers of the leader, if they were not shown yet.
    fn compared(&mut self) -> Option<PoolReport> {
        let report = self.parts.context.analysis.report(&self.pool)?;
        let is_new = self.compared.as_ref() != Some(&report);
        self.compared = Some(report.clone());
        is_new.then_some(report)
    }
}
