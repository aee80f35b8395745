//! A lane that grows by steps, and the other changes of a rollout that an operator names by a word. Pure.
//!
//! Owns: which document follows from a step. Never: weights that an operator writes (`spec`).

use serde::{Deserialize, Serialize};

use super::spec::{LaneSpec, RolloutSpec, RolloutUpdate, SpecError, set_weights};
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
        Some(RolloutStep::Start { lane, steps }) => start(document, lane, steps),
        Some(RolloutStep::Promote { whole }) => promote(document, whole),
        Some(RolloutStep::Pause) => paused(document, PlanState::Paused),
        Some(RolloutStep::Resume) => paused(document, PlanState::Running),
        Some(RolloutStep::Abort { lane }) => abort(document, lane),
        Some(RolloutStep::Switch { lane }) => switch(document, lane),
    }?;
    Ok(RolloutUpdate {
        lanes: wanted.lanes.or(stepped.lanes),
        base: wanted.base.or(stepped.base),
        lingering: wanted.lingering.or(stepped.lingering),
        overrides: wanted.overrides.or(stepped.overrides),
        plan: stepped.plan,
        ..wanted
    })
}

fn start(document: &RolloutSpec, lane: String, steps: Vec<Weight>) -> Result<RolloutUpdate, SpecError> {
    if let Some(plan) = document.plan.as_ref().filter(|plan| plan.state.is_open()) {
        return Err(StepError::PlanRuns(plan.lane.clone()).into());
    }
    if lane == document.base {
        return Err(StepError::Base(lane).into());
    }
    let rises = steps.windows(2).all(|pair| pair[0] < pair[1]);
    let Some(first) = steps.first().copied().filter(|first| *first > Weight::default() && rises) else {
        return Err(StepError::Steps.into());
    };
    if steps.len() > MAX_STEPS {
        return Err(StepError::Steps.into());
    }
    let plan = RolloutPlan { lane, steps, step: 0, state: PlanState::Running };
    with_weight(document, plan, first)
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
    with_weight(document, plan, weight)
}

fn paused(document: &RolloutSpec, state: PlanState) -> Result<RolloutUpdate, SpecError> {
    let plan = RolloutPlan { state, ..open_plan(document)? };
    Ok(RolloutUpdate { plan: Some(Some(plan)), ..RolloutUpdate::default() })
}

fn abort(document: &RolloutSpec, lane: Option<String>) -> Result<RolloutUpdate, SpecError> {
    let planned = document.plan.as_ref().map(|plan| plan.lane.clone());
    let lane = lane.or(planned).ok_or(StepError::NoPlan)?;
    if lane == document.base {
        return Err(StepError::Base(lane).into());
    }
    if document.lanes.iter().all(|known| known.name != lane) {
        return Err(SpecError::UnknownLane(lane));
    }
    let none = LaneSpec { name: lane.clone(), weight: Weight::default() };
    let mut overrides = document.overrides.clone();
    overrides.retain(|_, own| *own != lane);
    let mut lingering = document.lingering.clone();
    lingering.remove(&lane);
    let mut plan = document.plan.clone();
    if let Some(plan) = plan.as_mut().filter(|plan| plan.lane == lane) {
        plan.state = PlanState::Aborted;
    }
    Ok(RolloutUpdate {
        lanes: Some(set_weights(&document.base, &document.lanes, &[none], |_| false)?),
        overrides: Some(overrides),
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
    let former = LaneSpec { name: document.base.clone(), weight: Weight::default() };
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

fn with_weight(
    document: &RolloutSpec,
    plan: RolloutPlan,
    weight: Weight,
) -> Result<RolloutUpdate, SpecError> {
    let lane = LaneSpec { name: plan.lane.clone(), weight };
    let is_used = |lane: &str| document.overridden(lane) > 0;
    let lanes = set_weights(&document.base, &document.lanes, &[lane], is_used)?;
    Ok(RolloutUpdate { lanes: Some(lanes), plan: Some(Some(plan)), ..RolloutUpdate::default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(percent: f64) -> Weight {
        Weight::of_percent(percent).unwrap()
    }

    fn take(document: &RolloutSpec, step: RolloutStep) -> Result<RolloutSpec, SpecError> {
        let wanted = RolloutUpdate { step: Some(step), ..RolloutUpdate::default() };
        document.revise(wanted, "salt".into(), "ann", 7)
    }

    fn start(lane: &str, steps: &[f64]) -> RolloutStep {
        RolloutStep::Start { lane: lane.into(), steps: steps.iter().copied().map(percent).collect() }
    }

    fn weight(document: &RolloutSpec, lane: &str) -> Option<f64> {
        let found = document.lanes.iter().find(|known| known.name == lane);
        found.map(|lane| lane.weight.percent())
    }

    fn state(document: &RolloutSpec) -> Option<PlanState> {
        document.plan.as_ref().map(|plan| plan.state)
    }

    const PROMOTE: RolloutStep = RolloutStep::Promote { whole: false };
    const ABORT: RolloutStep = RolloutStep::Abort { lane: None };

    #[test]
    fn a_lane_grows_by_its_steps_and_is_complete_with_the_last_one() {
        let first = take(&RolloutSpec::unwritten("p"), start("canary", &[10.0, 50.0, 100.0])).unwrap();
        assert_eq!((weight(&first, "canary"), state(&first)), (Some(10.0), Some(PlanState::Running)));
        let second = take(&first, PROMOTE).unwrap();
        assert_eq!((weight(&second, "canary"), state(&second)), (Some(50.0), Some(PlanState::Running)));
        let paused = take(&second, RolloutStep::Pause).unwrap();
        assert_eq!(take(&paused, PROMOTE), Err(StepError::Paused("canary".into()).into()));
        let third = take(&take(&paused, RolloutStep::Resume).unwrap(), PROMOTE).unwrap();
        assert_eq!((weight(&third, "canary"), state(&third)), (Some(100.0), Some(PlanState::Completed)));
        assert_eq!(take(&third, PROMOTE), Err(StepError::NoPlan.into()), "there is no next step");
        let whole = take(&first, RolloutStep::Promote { whole: true }).unwrap();
        assert_eq!((weight(&whole, "canary"), state(&whole)), (Some(100.0), Some(PlanState::Completed)));
        assert!(take(&third, start("beta", &[1.0])).is_err(), "the weights would be above 100 %");
        assert_eq!(take(&first, start("beta", &[1.0])), Err(StepError::PlanRuns("canary".into()).into()));
    }

    #[test]
    fn an_abort_takes_the_weight_and_the_users_of_a_lane_and_can_be_undone() {
        let first = take(&RolloutSpec::unwritten("p"), start("canary", &[10.0, 50.0])).unwrap();
        let assign =
            [("ann".to_owned(), Some("canary".to_owned())), ("bob".to_owned(), Some("stable".to_owned()))];
        let wanted = RolloutUpdate { assign: assign.into(), ..RolloutUpdate::default() };
        let assigned = first.revise(wanted, String::new(), "ann", 7).unwrap();
        let aborted = take(&assigned, ABORT).unwrap();
        assert_eq!((weight(&aborted, "canary"), state(&aborted)), (Some(0.0), Some(PlanState::Aborted)));
        assert_eq!((aborted.overridden("canary"), aborted.overridden("stable")), (0, 1));
        let undone = aborted.revise(assigned.restored(), String::new(), "ann", 8).unwrap();
        assert_eq!(
            (undone.lanes, undone.plan, undone.overrides),
            (assigned.lanes, assigned.plan, assigned.overrides)
        );
        assert_eq!(take(&RolloutSpec::unwritten("p"), ABORT), Err(StepError::NoPlan.into()));
        let base = RolloutStep::Abort { lane: Some("stable".into()) };
        assert_eq!(take(&first, base), Err(StepError::Base("stable".into()).into()));
    }

    #[test]
    fn an_undo_of_a_start_ends_the_plan_although_the_weight_was_the_same() {
        let lanes = vec![LaneSpec { name: "canary".into(), weight: percent(10.0) }];
        let wanted = RolloutUpdate { lanes: Some(lanes), ..RolloutUpdate::default() };
        let weighed = RolloutSpec::unwritten("p").revise(wanted, "salt".into(), "ann", 7).unwrap();
        let started = take(&weighed, start("canary", &[10.0, 50.0])).unwrap();
        let undone = started.revise(weighed.restored(), String::new(), "ann", 8).unwrap();
        assert_eq!((state(&undone), undone.lanes), (None, weighed.lanes));
    }

    #[test]
    fn a_switch_makes_another_lane_the_base_and_back() {
        let blue = RolloutSpec { base: "blue".into(), ..RolloutSpec::unwritten("p") };
        let green = take(&blue, RolloutStep::Switch { lane: "green".into() }).unwrap();
        assert_eq!((&*green.base, weight(&green, "blue")), ("green", Some(0.0)));
        assert_eq!(green.gains(&blue).collect::<Vec<_>>(), ["green"], "it needs workers");
        let back = take(&green, RolloutStep::Switch { lane: "blue".into() }).unwrap();
        assert_eq!((&*back.base, weight(&back, "green")), ("blue", Some(0.0)));
        assert!(take(&back, RolloutStep::Switch { lane: "blue".into() }).is_err());
    }

    #[test]
    fn weights_that_an_operator_writes_end_a_plan_of_that_lane() {
        let first = take(&RolloutSpec::unwritten("p"), start("canary", &[10.0, 50.0])).unwrap();
        let lanes = vec![LaneSpec { name: "canary".into(), weight: percent(20.0) }];
        let wanted = RolloutUpdate { lanes: Some(lanes), ..RolloutUpdate::default() };
        assert_eq!(state(&first.revise(wanted, String::new(), "ann", 7).unwrap()), None);
        let comment = RolloutUpdate { comment: "same weights".into(), ..RolloutUpdate::default() };
        assert_eq!(state(&first.revise(comment, String::new(), "ann", 7).unwrap()), Some(PlanState::Running));
    }

    #[test]
    fn steps_that_do_not_rise_are_refused() {
        for steps in [&[][..], &[0.0, 10.0], &[10.0, 10.0], &[50.0, 10.0], &[1.0; 33]] {
            let refused = take(&RolloutSpec::unwritten("p"), start("canary", steps));
            assert_eq!(refused, Err(StepError::Steps.into()), "{steps:?}");
        }
        let base = take(&RolloutSpec::unwritten("p"), start("stable", &[10.0]));
        assert_eq!(base, Err(StepError::Base("stable".into()).into()));
    }

    proptest! {
        /// Steps in any order leave a valid document, and only an abort or another weight lowers the weight of a plan's lane.
        #[test]
        fn any_steps_leave_a_document_that_reads_back(choices in proptest::collection::vec(0usize..6, 0..20)) {
            let mut document = RolloutSpec::unwritten("p");
            for choice in choices {
                let step = match choice {
                    0 => start("canary", &[10.0, 50.0, 100.0]),
                    1 => PROMOTE,
                    2 => RolloutStep::Pause,
                    3 => RolloutStep::Resume,
                    4 => ABORT,
                    _ => RolloutStep::Switch { lane: "green".into() },
                };
                let is_abort = matches!(step, RolloutStep::Abort { .. } | RolloutStep::Switch { .. });
                let before = weight(&document, "canary").unwrap_or_default();
                if let Ok(next) = take(&document, step) {
                    prop_assert!(RolloutSpec::decode(&next.encode()).as_ref() == Some(&next));
                    let after = weight(&next, "canary").unwrap_or_default();
                    // a plan that starts again begins with its first step
                    prop_assert!(after >= before || is_abort || choice == 0);
                    document = next;
                }
            }
        }
    }
}
