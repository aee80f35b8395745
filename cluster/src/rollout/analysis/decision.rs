//! What follows from a report. Pure.
//!
//! Owns: when a lane is paused, taken back or promoted without an operator. Never: the numbers (`evidence`), or the change
//! itself.

use std::time::Duration;

use super::super::plan::{PlanState, RolloutStep};
use super::super::{OnRegression, RolloutSpec};
use super::report::{LaneReport, PoolReport, REGRESSION};

/// A step that the evidence asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutDecision {
    /// The step.
    pub step: RolloutStep,
    /// Why, for people.
    pub why: String,
    /// The numbers, which are stored with the change.
    pub evidence: LaneReport,
}

/// Returns the step that the evidence asks for. `held` is how long the plan has been at its step.
pub fn decide_step(document: &RolloutSpec, report: &PoolReport, held: Duration) -> Option<RolloutDecision> {
    if report.revision != document.rev {
        return None;
    }
    let worse = report.lanes.iter().find(|lane| lane.is_worse() && document.weight(&lane.lane).buckets() > 0);
    if let Some(lane) = worse {
        let step = match document.on_regression(&lane.lane) {
            OnRegression::Abort => RolloutStep::Abort { lane: Some(lane.lane.clone()) },
            OnRegression::Pause => {
                let plan = document.plan.as_ref();
                plan.filter(|plan| plan.lane == lane.lane && plan.state == PlanState::Running)?;
                RolloutStep::Pause
            }
        };
        return Some(RolloutDecision { step, why: lane.regression(), evidence: lane.clone() });
    }
    let plan = document.plan.as_ref().filter(|plan| plan.state == PlanState::Running)?;
    let auto = plan.auto.as_ref()?;
    let lane = report.lanes.iter().find(|lane| lane.lane == plan.lane).filter(|lane| lane.is_good())?;
    let step = RolloutStep::Promote { whole: false };
    (held >= Duration::from_secs(auto.hold_s)).then(|| RolloutDecision {
        step,
        why: lane.promotion(),
        evidence: lane.clone(),
    })
}

impl LaneReport {
    fn regression(&self) -> String {
        let worst = self.worst().map(|metric| {
            let (units, base) = (metric.units, metric.base_units);
            format!(
                ": {units} of {} {}, {base} of {} of the base",
                self.units,
                metric.metric.described(),
                self.base_units
            )
        });
        let evidence = self.evidence.round();
        format!(
            "lane {} is worse{} (evidence {evidence}, limit {REGRESSION})",
            self.lane,
            worst.unwrap_or_default()
        )
    }

    fn promotion(&self) -> String {
        let Self { lane, failed, units, base_failed, base_units, .. } = self;
        format!(
            "lane {lane} is not worse: {failed} of {units} failed, {base_failed} of {base_units} of the base"
        )
    }
}
