//! The analysis of lanes in a process, and the decisions that follow from it.
//!
//! Owns: when digests and reports are sent, and taking the step that the evidence asks for. Never: the evidence or the
//! decision (`pagewire_cluster::rollout::analysis`).
//!
//! Two nodes may both believe that they lead. A step is a compare-and-set of the document that the decision has seen, so that
//! one of them takes it.

use std::collections::HashMap;

use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::rollout::analysis::{LaneAnalysis, RolloutDecision, decide_step};
use pagewire_cluster::rollout::{
    Abort, ChangeError, Latches, PlanState, RolloutAudience, RolloutSpec, RolloutStep, RolloutUpdate,
    Rollouts,
};
use tokio::time::Instant;

use super::leader::Leadership;
use super::tasks::{TaskKind, Tasks};

/// The author of the changes that no operator makes.
const AUTHOR: &str = "analysis";

/// Spawns what every process does: it tells what became of its work, and learns which work is slow.
///
/// # Errors
/// [`Unavailable`] when the engine is unavailable.
pub(super) async fn spawn(tasks: &Tasks, analysis: &LaneAnalysis) -> Result<(), Unavailable> {
    tasks.spawn("lane digests", TaskKind::Vital, analysis.clone().publish_digests());
    tasks.spawn("lane reports", TaskKind::Vital, analysis.follow_reports().await?);
    tasks.spawn("lane requests", TaskKind::Vital, analysis.follow_requests().await?);
    Ok(())
}

/// Spawns what every node does beside it: it collects the numbers.
///
/// # Errors
/// [`Unavailable`] when the engine is unavailable.
pub(super) async fn spawn_evidence(tasks: &Tasks, analysis: &LaneAnalysis) -> Result<(), Unavailable> {
    tasks.spawn("lane evidence", TaskKind::Vital, analysis.collect_digests().await?);
    tasks.spawn("lane documents", TaskKind::Vital, analysis.clone().follow_documents());
    Ok(())
}

/// Reports on the lanes and takes the steps that the evidence asks for, on the leader. Never returns.
pub(super) async fn decide(
    leadership: Leadership,
    analysis: LaneAnalysis,
    rollouts: Rollouts,
    latches: Latches,
) {
    let mut turns = leadership.turns(analysis.interval());
    let mut steps = HeldSteps::default();
    loop {
        if turns.next().await.is_first {
            steps = HeldSteps::default();
        }
        for (document, report) in analysis.current() {
            analysis.publish_report(&report).await;
            let held = steps.held(&document).elapsed();
            if let Some(decision) = decide_step(&document, &report, held) {
                take(&rollouts, &latches, &document, decision).await;
            }
        }
    }
}

/// Since when the plans are at their steps, as this leader has seen it.
#[derive(Debug, Default)]
struct HeldSteps(HashMap<String, (String, usize, Instant)>);

impl HeldSteps {
    fn held(&mut self, document: &RolloutSpec) -> Instant {
        let now = Instant::now();
        let Some(plan) = document.plan.as_ref().filter(|plan| plan.state == PlanState::Running) else {
            self.0.remove(&document.pool);
            return now;
        };
        let known =
            self.0.get(&document.pool).filter(|(lane, step, _)| *lane == plan.lane && *step == plan.step);
        let since = known.map_or(now, |(_, _, since)| *since);
        self.0.insert(document.pool.clone(), (plan.lane.clone(), plan.step, since));
        since
    }
}

/// Takes a step. An abort is also taken while the cluster stores nothing.
async fn take(rollouts: &Rollouts, latches: &Latches, document: &RolloutSpec, decision: RolloutDecision) {
    let RolloutDecision { step, why, evidence } = decision;
    let (pool, action) = (&document.pool, step.text());
    tracing::warn!(pool, action, why, "the evidence decides");
    let abort = match &step {
        RolloutStep::Abort { lane } => Some(Abort {
            pool: pool.clone(),
            lane: lane.clone(),
            revision: Some(document.rev),
            comment: why.clone(),
            by: AUTHOR.to_owned(),
        }),
        _ => None,
    };
    let wanted = RolloutUpdate {
        step: Some(step),
        comment: why,
        evidence: Some(evidence),
        ..RolloutUpdate::default()
    };
    match rollouts.change(pool, Some(document.rev), wanted, AUTHOR).await {
        Ok(changed) => tracing::info!(pool, revision = changed.document.rev, action, "rollout changed"),
        // the next turn decides by the document that is there then
        Err(ChangeError::Conflict(_)) => tracing::info!(pool, action, "an operator was first"),
        Err(ChangeError::Unavailable) if let Some(abort) = abort => {
            match latches.abort(abort, &RolloutAudience::default()).await {
                Ok(_) => tracing::info!(pool, action, "the lane is taken back, which is written later"),
                Err(error) => tracing::warn!(pool, action, %error, "rollout not changed, it is tried again"),
            }
        }
        Err(error) => tracing::warn!(pool, action, %error, "rollout not changed, it is tried again"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pagewire_cluster::rollout::Weight;

    use super::*;

    fn taken(document: &RolloutSpec, step: RolloutStep) -> RolloutSpec {
        let wanted = RolloutUpdate { step: Some(step), ..RolloutUpdate::default() };
        document.revise(wanted, "salt".into(), "ann", 1).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_held_from_when_it_began_and_not_while_it_is_paused() {
        let steps = [10.0, 50.0].map(|percent| Weight::of_percent(percent).unwrap()).into();
        let start = RolloutStep::Start { lane: "canary".into(), steps, auto: None, on_regression: None };
        let first = taken(&RolloutSpec::unwritten("p"), start);
        let mut held = HeldSteps::default();
        let mut after = |document: &RolloutSpec| held.held(document).elapsed().as_secs();
        assert_eq!(after(&first), 0);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(after(&first), 5);
        assert_eq!(after(&taken(&first, RolloutStep::Pause)), 0);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(after(&first), 0, "resumed");
        assert_eq!(after(&taken(&first, RolloutStep::Promote { whole: false })), 0);
    }
}
