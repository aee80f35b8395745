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
    let steps = steps.iter().copied().map(percent).collect();
    RolloutStep::Start { lane: lane.into(), steps, auto: None, on_regression: None }
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
    let lanes = vec![LaneSpec::new("canary", percent(10.0))];
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
    let lanes = vec![LaneSpec::new("canary", percent(20.0))];
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
