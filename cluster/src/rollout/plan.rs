//! A lane that grows by steps, and the other changes of a rollout that an operator names by a word. Pure.
//!
//! Owns: which document follows from a step. Never: weights that an operator writes (`spec`).

use serde::{Deserialize, Serialize};

use super::gates::{AutoPromotion, OnRegression};
use super::spec::{LaneSpec, RolloutSpec, RolloutUpdate, SpecError};
use super::split::set_weights;
use super::weight::Weight;

/// Maximum number of steps.
const MAX_STEPS: usize = 32;

/// How a lane grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// The lane.
    pub lane: String,
    /// Its weights, one after the other.
    pub steps: Vec<Weight>,
    /// The position of the current one.
    pub step: usize,
    /// Whether it goes on.
    pub state: PlanState,
    /// When it goes on without an operator; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<AutoPromotion>,
}

/// The state of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanState {
    /// The next step can be taken.
    Running,
    /// No step can be taken until it is resumed.
    Paused,
    /// The last step is taken.
    Completed,
    /// The lane was taken back.
    Aborted,
}

impl PlanState {
    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        }
    }

    const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A change that an operator names by a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
pub enum RolloutStep {
    /// A lane gets the first of these weights; each promotion takes the next one.
    Start {
        /// The lane, which need not exist yet.
        lane: String,
        /// The weights, which rise.
        steps: Vec<Weight>,
        /// When the next ones are taken without an operator; absent for never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auto: Option<AutoPromotion>,
        /// What happens when the lane does worse than the base lane. Absent it stays as it is; the default is `abort` for
        /// a lane that grows without an operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_regression: Option<OnRegression>,
    },
    /// The lane of the plan gets its next weight, or at once its last one.
    Promote {
        /// Whether it gets its last one.
        #[serde(default)]
        whole: bool,
    },
    /// No step is taken until the plan is resumed.
    Pause,
    /// Steps can be taken again.
    Resume,
    /// A lane gets no work any more: neither by weight nor as the lane of its own of a user.
    Abort {
        /// The lane; `None` for that of the plan.
        #[serde(default)]
        lane: Option<String>,
    },
    /// A lane becomes the base, and the base before it a lane with weight 0.
    Switch {
        /// The lane.
        lane: String,
    },
}

impl RolloutStep {
    /// Returns the name of the action.
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Promote { .. } => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort { .. } => "abort",
            Self::Switch { .. } => "switch",
        }
    }
}

/// Why a step cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// No lane grows by steps.
    #[error("no lane of this pool grows by steps: start one, or name the lane")]
    NoPlan,
    /// Another plan has to end first.
    #[error("lane {0} grows by steps already: abort it, or promote it to its last step")]
    PlanRuns(String),
    /// The plan is paused.
    #[error("the steps of lane {0} are paused: resume them first")]
    Paused(String),
    /// The steps are not rising weights.
    #[error("steps are 1 to {MAX_STEPS} weights that rise, such as 10,50,100")]
    Steps,
    /// The lane is the base.
    #[error("lane {0} is the base lane, which takes the remainder")]
    Base(String),
}

impl RolloutPlan {
    /// Returns whether the lane has the same weight in both lists: a weight that an operator writes ends the plan.
    pub(super) fn has_weight_of(&self, before: &[LaneSpec], after: &[LaneSpec]) -> bool {
        let weight = |lanes: &[LaneSpec]| {
            let lane = lanes.iter().find(|lane| lane.name == self.lane);
            lane.map(|lane| lane.weight)
        };
        weight(before) == weight(after)
    }
}

/// Returns a change of a document with what its step means.
///
/// # Errors
///
/// [`SpecError`] when the step cannot be taken now.
pub(super) fn with_step(
    document: &RolloutSpec,
    mut wanted: RolloutUpdate,
) -> Result<RolloutUpdate, SpecError> {
    let stepped = match wanted.step.take() {
        None => return Ok(wanted),
        Some(RolloutStep::Start { lane, steps, auto, on_regression }) => {
            let plan = RolloutPlan { lane, steps, step: 0, state: PlanState::Running, auto };
            start(document, plan, on_regression)
        }
        Some(RolloutStep::Promote { whole }) => promote(document, whole),
        Some(RolloutStep::Pause) => paused(document, PlanState::Paused),
        Some(RolloutStep::Resume) => paused(document, PlanState::Running),
        Some(RolloutStep::Abort { lane }) => {
            let lane = lane_to_abort(document, lane)?;
            // the weights do not always show it: the lane may have had none
            if wanted.comment.is_empty() {
                wanted.comment = format!("lane {lane} is taken back");
            }
            abort(document, &lane)
        }
        Some(RolloutStep::Switch { lane }) => switch(document, lane),
    }?;
    Ok(RolloutUpdate {
        lanes: wanted.lanes.or(stepped.lanes),
        base: wanted.base.or(stepped.base),
        lingering: wanted.lingering.or(stepped.lingering),
        overrides: wanted.overrides.or(stepped.overrides),
        targeting: wanted.targeting.or(stepped.targeting),
        enrolment: wanted.enrolment.or(stepped.enrolment),
        plan: stepped.plan,
        ..wanted
    })
}

fn start(
    document: &RolloutSpec,
    plan: RolloutPlan,
    on_regression: Option<OnRegression>,
) -> Result<RolloutUpdate, SpecError> {
    let steps = &plan.steps;
    if let Some(plan) = document.plan.as_ref().filter(|plan| plan.state.is_open()) {
        return Err(StepError::PlanRuns(plan.lane.clone()).into());
    }
    if plan.lane == document.base {
        return Err(StepError::Base(plan.lane).into());
    }
    let rises = steps.windows(2).all(|pair| pair[0] < pair[1]);
    let Some(first) = steps.first().copied().filter(|first| *first > Weight::default() && rises) else {
        return Err(StepError::Steps.into());
    };
    if steps.len() > MAX_STEPS {
        return Err(StepError::Steps.into());
    }
    let by_default = plan.auto.as_ref().map(|_| OnRegression::Abort);
    let lane =
        LaneSpec { on_regression: on_regression.or(by_default), ..LaneSpec::new(plan.lane.as_str(), first) };
    with_lane(document, plan, lane)
}

fn promote(document: &RolloutSpec, whole: bool) -> Result<RolloutUpdate, SpecError> {
    let mut plan = open_plan(document)?;
    if plan.state == PlanState::Paused {
        return Err(StepError::Paused(plan.lane).into());
    }
    let last = plan.steps.len().saturating_sub(1);
    plan.step = if whole { last } else { (plan.step + 1).min(last) };
    if plan.step == last {
        plan.state = PlanState::Completed;
    }
    let weight = plan.steps.get(plan.step).copied().ok_or(StepError::Steps)?;
    let lane = LaneSpec::new(plan.lane.as_str(), weight);
    with_lane(document, plan, lane)
}

fn paused(document: &RolloutSpec, state: PlanState) -> Result<RolloutUpdate, SpecError> {
    let plan = RolloutPlan { state, ..open_plan(document)? };
    Ok(RolloutUpdate { plan: Some(Some(plan)), ..RolloutUpdate::default() })
}

/// Returns the lane that an abort takes back: the named one, or that of the plan.
///
/// # Errors
///
/// [`SpecError`] when it is not a lane beside the base.
pub(super) fn lane_to_abort(document: &RolloutSpec, lane: Option<String>) -> Result<String, SpecError> {
    let planned = document.plan.as_ref().map(|plan| plan.lane.clone());
    let lane = lane.or(planned).ok_or(StepError::NoPlan)?;
    if lane == document.base {
        return Err(StepError::Base(lane).into());
    }
    if document.lanes.iter().all(|known| known.name != lane) {
        return Err(SpecError::UnknownLane(lane));
    }
    Ok(lane)
}

fn abort(document: &RolloutSpec, lane: &str) -> Result<RolloutUpdate, SpecError> {
    let none = LaneSpec::new(lane, Weight::default());
    let mut overrides = document.overrides.clone();
    overrides.retain(|_, own| own != lane);
    let mut targeting = document.targeting.clone();
    targeting.retain(|rule| rule.lane != lane);
    let mut lingering = document.lingering.clone();
    lingering.remove(lane);
    let mut plan = document.plan.clone();
    if let Some(plan) = plan.as_mut().filter(|plan| plan.lane == lane) {
        plan.state = PlanState::Aborted;
    }
    Ok(RolloutUpdate {
        lanes: Some(set_weights(&document.base, &document.lanes, &[none], |_| false)?),
        overrides: Some(overrides),
        targeting: Some(targeting),
        enrolment: document.enrolment.without(lane),
        lingering: Some(lingering),
        plan: Some(plan),
        ..RolloutUpdate::default()
    })
}

fn switch(document: &RolloutSpec, lane: String) -> Result<RolloutUpdate, SpecError> {
    if lane == document.base {
        return Err(StepError::Base(lane).into());
    }
    let mut lingering = document.lingering.clone();
    lingering.insert(document.base.clone());
    let former = LaneSpec::new(document.base.as_str(), Weight::default());
    let lanes = document.lanes.iter().filter(|known| known.name != lane).cloned().chain([former]);
    Ok(RolloutUpdate {
        lanes: Some(lanes.collect()),
        base: Some(lane),
        lingering: Some(lingering),
        ..RolloutUpdate::default()
    })
}

fn open_plan(document: &RolloutSpec) -> Result<RolloutPlan, StepError> {
    document.plan.clone().filter(|plan| plan.state.is_open()).ok_or(StepError::NoPlan)
}

fn with_lane(document: &RolloutSpec, plan: RolloutPlan, lane: LaneSpec) -> Result<RolloutUpdate, SpecError> {
    let is_used = |lane: &str| document.overridden(lane) > 0 || document.targeted(lane) > 0;
    let lanes = set_weights(&document.base, &document.lanes, &[lane], is_used)?;
    Ok(RolloutUpdate { lanes: Some(lanes), plan: Some(Some(plan)), ..RolloutUpdate::default() })
}

#[cfg(test)]
mod tests;
