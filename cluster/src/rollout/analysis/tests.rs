//! Simulated rollouts: users of known failure rates, digests as processes send them, and the decisions that follow.

use std::time::Duration;

use super::super::{AutoPromotion, LaneSpec, OnRegression, RolloutUpdate, RoutingKey, Weight};
use super::*;
use crate::rollout::RolloutStep;
use crate::rollout::active::{LaneInputs, decide};
use crate::simulation::FaultRng;

const LONG: Duration = Duration::from_secs(3600);

fn canary(percent: f64, salt: &str) -> RolloutSpec {
    let lane = LaneSpec {
        on_regression: Some(OnRegression::Abort),
        ..LaneSpec::new("canary", Weight::of_percent(percent).unwrap())
    };
    let wanted = RolloutUpdate { lanes: Some(vec![lane]), ..RolloutUpdate::default() };
    RolloutSpec::unwritten("p").revise(wanted, salt.into(), "ann", 1).unwrap()
}

fn step(document: &RolloutSpec, step: RolloutStep) -> RolloutSpec {
    let wanted = RolloutUpdate { step: Some(step), ..RolloutUpdate::default() };
    document.revise(wanted, String::new(), "ann", 2).unwrap()
}

/// A job of a user who has no other.
fn digest(document: &RolloutSpec, lane: &str, unit: u64, fault: Option<Metric>) -> LaneDigest {
    let faults = fault.map(|fault| (fault, vec![unit])).into_iter().collect();
    LaneDigest {
        pool: document.pool.clone(),
        lane: lane.to_owned(),
        release: if lane == "canary" { "2" } else { "1" }.to_owned(),
        rows: vec![DigestRow { revision: document.rev, units: vec![unit], faults }],
        ..LaneDigest::default()
    }
}

/// Runs jobs of new users until the canary is taken back, or for `jobs` jobs. Returns the number of canary jobs at the abort.
fn canary_jobs_until_abort(seed: u64, percent: f64, per_mille: [u16; 2], jobs: u64) -> Option<u32> {
    let (document, mut rng) = (canary(percent, &seed.to_string()), FaultRng::new(seed));
    let (mut evidence, mut in_canary) = (PoolEvidence::default(), 0);
    evidence.apply(&document);
    for unit in 0..jobs {
        let lane = decide(LaneInputs::of(&document), RoutingKey::User(&unit.to_string()), |_| true).lane;
        let is_canary = lane == "canary";
        in_canary += u32::from(is_canary);
        let fails = rng.hits(per_mille[usize::from(is_canary)]);
        evidence.add(&digest(&document, &lane, unit, fails.then_some(Metric::JobFailures)));
        // only a fault of the canary raises the evidence
        if fails
            && is_canary
            && let Some(decision) = decide_step(&document, &evidence.report(0.05), LONG)
        {
            assert!(matches!(decision.step, RolloutStep::Abort { .. }), "{decision:?}");
            return Some(in_canary);
        }
    }
    None
}

/// Returns the median and the 90th percentile.
fn quantiles(mut counts: Vec<u32>) -> [u32; 2] {
    counts.sort_unstable();
    [counts[counts.len() / 2], counts[counts.len() * 9 / 10]]
}

/// Returns the seeds to simulate: `PAGEWIRE_SIM_RUNS` of them from `PAGEWIRE_SIM_SEED` on.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("PAGEWIRE_SIM_SEED").unwrap_or(0);
    first..first + number("PAGEWIRE_SIM_RUNS").unwrap_or(200)
}

#[test]
fn a_canary_that_fails_is_taken_back_after_a_few_jobs() {
    for (failing, [most_in_median, most_in_nine_of_ten]) in
        [(1000, [3, 8]), (300, [15, 40]), (100, [60, 160])]
    {
        let aborted = seeds().map(|seed| canary_jobs_until_abort(seed, 5.0, [10, failing], 40_000));
        let [median, nine] = quantiles(aborted.map(|jobs| jobs.expect("taken back")).collect());
        println!("failing in {failing} of 1000, base 10: after {median} canary jobs, 90 % after {nine}");
        assert!(median <= most_in_median && nine <= most_in_nine_of_ten, "{failing}: {median} {nine}");
    }
}

#[test]
fn a_canary_as_good_as_the_base_is_seldom_taken_back() {
    for per_mille in [1, 20, 200] {
        let aborted = |seed: &u64| canary_jobs_until_abort(*seed, 5.0, [per_mille; 2], 3_000).is_some();
        let (aborted, of) = (seeds().filter(aborted).count(), seeds().count());
        println!("both failing in {per_mille} of 1000: {aborted} of {of} taken back");
        // one in a hundred is the promise; four standard deviations of the count are added
        let most = of as f64 / 100.0 + 4.0 * (of as f64 / 100.0).sqrt();
        assert!(aborted as f64 <= most, "{aborted} of {of} at {per_mille} per mille");
    }
}

#[test]
fn the_same_failing_user_counts_once_and_no_traffic_is_no_evidence() {
    let document = canary(5.0, "s");
    let mut evidence = PoolEvidence::default();
    evidence.apply(&document);
    let [lane] = &evidence.report(0.05).lanes[..] else { panic!("one lane") };
    assert!((lane.evidence - 1.0).abs() < 1e-9 && lane.needs.is_none() && !lane.is_good());
    for _ in 0..1_000 {
        evidence.add(&digest(&document, "canary", 7, Some(Metric::JobFailures)));
    }
    let lane = &evidence.report(0.05).lanes[0];
    assert_eq!((lane.units, lane.failed, lane.is_worse()), (1, 1, false));
}

#[test]
fn a_lane_is_promoted_when_it_is_held_long_enough_and_enough_of_its_work_went_well() {
    let auto = Some(AutoPromotion::default());
    let steps = [10.0, 100.0].map(|percent| Weight::of_percent(percent).unwrap()).into();
    let start = RolloutStep::Start { lane: "canary".into(), steps, auto, on_regression: None };
    let document = step(&RolloutSpec::unwritten("p"), start);
    let mut evidence = PoolEvidence::default();
    evidence.apply(&document);
    let decide_after =
        |evidence: &PoolEvidence, held| decide_step(&document, &evidence.report(document.margin()), held);
    for unit in 0..2_000 {
        evidence.add(&digest(&document, "stable", unit, None));
    }
    assert_eq!(decide_after(&evidence, LONG), None, "no work of the canary is no success");
    let needs = evidence.report(0.05).lanes[0].needs.unwrap();
    for unit in 10_000..10_000 + u64::from(needs) {
        assert_eq!(decide_after(&evidence, LONG), None);
        evidence.add(&digest(&document, "canary", unit, None));
    }
    assert_eq!(decide_after(&evidence, Duration::from_secs(59)), None, "not held long enough");
    let decision = decide_after(&evidence, Duration::from_secs(60)).unwrap();
    assert_eq!(decision.step, RolloutStep::Promote { whole: false });
    let manual = RolloutSpec {
        plan: document.plan.clone().map(|plan| crate::rollout::RolloutPlan { auto: None, ..plan }),
        ..document.clone()
    };
    assert_eq!(decide_step(&manual, &evidence.report(0.05), LONG), None, "an operator promotes it");
}

#[test]
fn a_lane_that_should_pause_pauses_once_and_a_lane_without_a_plan_only_shows_it() {
    let mut document = canary(5.0, "s");
    document.lanes[0].on_regression = None;
    let worse = |document: &RolloutSpec| {
        let mut evidence = PoolEvidence::default();
        evidence.apply(document);
        for unit in 0..9 {
            evidence.add(&digest(document, "canary", unit, Some(Metric::CallFailures)));
        }
        evidence.report(0.05)
    };
    let report = worse(&document);
    assert!(report.lanes[0].is_worse());
    assert_eq!(decide_step(&document, &report, LONG), None);
    let steps = vec![Weight::of_percent(10.0).unwrap()];
    let start = RolloutStep::Start { lane: "canary".into(), steps, auto: None, on_regression: None };
    let planned = step(&document, start);
    let decision = decide_step(&planned, &worse(&planned), LONG).unwrap();
    assert_eq!(decision.step, RolloutStep::Pause);
    assert_eq!(
        decision.why,
        "lane canary is worse: 9 of 9 with failed calls, 0 of 0 of the base (evidence 1, limit 100)"
            .replace("evidence 1", &format!("evidence {}", decision.evidence.evidence.round()))
    );
    let paused = step(&planned, RolloutStep::Pause);
    assert_eq!(decide_step(&paused, &worse(&paused), LONG), None);
}

#[test]
fn a_lane_of_nodes_is_compared_by_the_sockets_of_its_pages_and_by_nothing_else() {
    let document = RolloutSpec { pool: "edge".into(), ..canary(20.0, "s") };
    let evidence_of = |fault: Metric| {
        let mut evidence = PoolEvidence::default();
        evidence.apply(&document);
        for unit in 0..6 {
            evidence.add(&digest(&document, "canary", unit, Some(fault)));
        }
        evidence.report(0.05).lanes[0].evidence
    };
    let mut alone = sequential_test::SequentialTest::default();
    (0..6).for_each(|_| alone.observe(true, 0.2));
    assert!((evidence_of(Metric::AbnormalCloses) - alone.evidence()).abs() < 1e-9);
    assert!((evidence_of(Metric::Crashes) - 1.0).abs() < 1e-9);
}

#[test]
fn a_new_release_and_a_lowered_weight_begin_a_new_count_and_a_raised_weight_does_not() {
    let document = canary(5.0, "s");
    let mut evidence = PoolEvidence::default();
    evidence.apply(&document);
    let units = |evidence: &PoolEvidence| evidence.report(0.05).lanes.first().map(|lane| lane.units);
    evidence.add(&digest(&document, "canary", 1, None));
    let weighed = |document: &RolloutSpec, percent| {
        let lanes = Some(vec![LaneSpec::new("canary", Weight::of_percent(percent).unwrap())]);
        document.revise(RolloutUpdate { lanes, ..RolloutUpdate::default() }, String::new(), "ann", 3).unwrap()
    };
    let raised = weighed(&document, 50.0);
    evidence.apply(&raised);
    evidence.add(&digest(&document, "canary", 2, None));
    assert_eq!(units(&evidence), Some(2), "work that began before the change counts with its share then");
    evidence.add(&LaneDigest { release: "3".into(), ..digest(&raised, "canary", 3, None) });
    assert_eq!(units(&evidence), Some(1));
    evidence.add(&digest(&raised, "canary", 4, None));
    assert_eq!(units(&evidence), Some(1), "a process of the release before");
    let lowered = weighed(&raised, 20.0);
    evidence.apply(&lowered);
    assert_eq!(units(&evidence), Some(0));
    evidence.add(&digest(&lowered, "canary", 5, Some(Metric::CallFailures)));
    let found = evidence.report(0.05).lanes[0].metrics[0].evidence;
    let mut alone = sequential_test::SequentialTest::default();
    alone.observe(true, 20.0 / 70.0);
    assert!(
        (found - alone.evidence()).abs() < 1e-9,
        "pages may keep the half of the users that the base had"
    );
    evidence.apply(&weighed(&lowered, 0.0));
    assert_eq!(units(&evidence), None);
}

#[test]
fn a_release_that_is_slower_than_the_base_is_found() {
    let (document, mut evidence) = (canary(20.0, "s"), PoolEvidence::default());
    evidence.apply(&document);
    let durations = [(LaneWork::Call, [(60, 950), (70, 50)].into())].into();
    evidence.add(&LaneDigest { durations, ..digest(&document, "stable", 0, None) });
    let slow = evidence.report(0.05).slow_over_us[&LaneWork::Call];
    assert_eq!(slow, digest::longest_of_class(60));
    let durations = [(LaneWork::Job, [(20, 950), (30, 50)].into())].into();
    evidence.add(&LaneDigest { durations, ..digest(&document, "stable", 0, None) });
    let slow = evidence.report(0.05).slow_over_us[&LaneWork::Job];
    assert_eq!(slow, 10_000, "microseconds more are not slow");
    for unit in 1..1_000 {
        let (lane, fault) = match unit % 5 {
            0 => ("canary", Some(Metric::Slow).filter(|_| unit % 10 == 0)),
            _ => ("stable", Some(Metric::Slow).filter(|_| unit % 20 == 1)),
        };
        evidence.add(&digest(&document, lane, unit, fault));
    }
    let lane = &evidence.report(0.05).lanes[0];
    assert!(lane.is_worse() && lane.failed == 0, "{lane:?}");
}
