//! What an abort takes back from a lane.
//!
//! Owns: the counts before the abort, and what is left after it. Never: the abort itself.

use std::time::Duration;

use pagewire_cluster::rollout::RoutingKey;
use pagewire_cluster::wire::UnfinishedJobs;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::super::ApiState;
use super::super::jobs::jobs_at_leader;

/// Pause between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(20);

/// What an abort has taken back from a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(in crate::api) struct TakenBack {
    #[schema(example = "canary")]
    lane: String,
    /// Users with open pages who were in the lane.
    users: usize,
    /// Jobs that waited for the lane. `null` here and below when the leader did not count them.
    jobs: Option<u64>,
    /// Those of them that the lane had tried without success: the base tries them again.
    tried: Option<u64>,
    /// Jobs that run in the lane, and end there.
    running: Option<u64>,
    /// Jobs that still wait for the lane. They move when the leader reaches them.
    left: Option<u64>,
}

/// A lane before its abort.
pub(super) struct LaneBefore {
    lane: String,
    users: usize,
    jobs: Option<UnfinishedJobs>,
}

impl LaneBefore {
    /// Counts what a lane of a pool has; without a name, the lane of the plan. `None` if there is no such lane. Reads nothing
    /// from the store, because an abort does not wait for it.
    pub(super) async fn count(parts: &ApiState, pool: &str, lane: Option<&str>) -> Option<Self> {
        let rollouts = &parts.context.rollouts;
        let document = rollouts.applied_document(pool)?;
        let planned = document.plan.as_ref().map(|plan| plan.lane.as_str());
        let lane = lane.or(planned)?.to_owned();
        let users = {
            let view = parts.registry.view();
            let is_there = |user: &str| rollouts.explain(pool, RoutingKey::User(user), |_| true).lane == lane;
            view.users_after(None).filter(|seen| is_there(seen.user)).count()
        };
        let jobs = unfinished(parts, pool, &lane).await;
        Some(Self { lane, users, jobs })
    }

    /// Waits for at most `within` until no job waits for the lane any more, and returns what was taken back.
    pub(super) async fn taken_back(self, parts: &ApiState, pool: &str, within: Duration) -> TakenBack {
        let Self { lane, users, jobs: before } = self;
        let until = Instant::now() + within;
        let now = loop {
            let now = unfinished(parts, pool, &lane).await;
            let is_done = now.as_ref().is_none_or(|jobs| jobs.free == 0);
            if is_done || Instant::now() >= until {
                break now;
            }
            sleep(PAUSE).await;
        };
        TakenBack {
            lane,
            users,
            jobs: before.as_ref().map(|jobs| jobs.free + jobs.assigned),
            tried: before.as_ref().map(|jobs| jobs.tried),
            running: now.as_ref().map(|jobs| jobs.running),
            left: now.as_ref().map(|jobs| jobs.free),
        }
    }
}

/// Returns the jobs of a lane that have not ended, as the leader counts them; `None` when it does not reply.
async fn unfinished(parts: &ApiState, pool: &str, lane: &str) -> Option<UnfinishedJobs> {
    let lanes = jobs_at_leader(parts).await?.lanes;
    let own = lanes.into_iter().find(|jobs| jobs.pool == pool && jobs.lane == lane);
    Some(own.unwrap_or_default())
}
