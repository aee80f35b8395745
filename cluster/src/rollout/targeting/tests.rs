use serde_json::json;

use super::super::active::{LaneInputs, decide};
use super::super::enrolment::Enrolment;
use super::super::spec::{LaneSpec, RolloutUpdate};
use super::super::weight::Weight;
use super::*;

fn rule(rule: Value) -> TargetRule {
    serde_json::from_value(rule).unwrap()
}

fn document(rules: &[Value]) -> Result<RolloutSpec, SpecError> {
    let lane = LaneSpec::new("beta", Weight::default());
    let targeting = Some(rules.iter().cloned().map(rule).collect());
    let wanted = RolloutUpdate { lanes: Some(vec![lane]), targeting, ..RolloutUpdate::default() };
    RolloutSpec::unwritten("p").revise(wanted, "salt".into(), "ann", 7)
}

fn facts() -> PageFacts {
    let claims = json!({"plan": "beta", "roles": ["a", "tester", 7], "vip": true, "age": 7, "o": {"x": 1}});
    PageFacts {
        claims: claims.as_object().unwrap().clone(),
        headers: vec![("x-lane".into(), "Beta".into())],
        address: Some("::ffff:10.1.2.3".parse().unwrap()),
    }
}

#[test]
fn a_page_meets_a_rule_by_a_claim_a_header_or_its_address() {
    let claim = |name: &str, value: &str| json!({"claim": {"name": name, "value": value}, "lane": "beta"});
    let header = |name: &str, value: &str| json!({"header": {"name": name, "value": value}, "lane": "beta"});
    let address = |range: &str| json!({"address": range, "lane": "beta"});
    for (rule, is_met) in [
        (claim("plan", "beta"), true),
        (claim("plan", "Beta"), false),
        (claim("roles", "tester"), true),
        (claim("roles", "7"), true),
        (claim("vip", "true"), true),
        (claim("age", "7"), true),
        (claim("o", "{\"x\":1}"), false),
        (claim("none", "beta"), false),
        (header("X-Lane", "Beta"), true),
        (header("x-lane", "beta"), false),
        (address("10.0.0.0/8"), true),
        (address("10.1.2.3"), true),
        (address("::/0"), false),
        (address("11.0.0.0/8"), false),
    ] {
        let document = document(std::slice::from_ref(&rule)).unwrap();
        assert_eq!(facts().matches(&document).len(), usize::from(is_met), "{rule}");
        assert!(PageFacts::default().matches(&document).is_empty(), "nothing is known");
    }
}

#[test]
fn the_first_rule_that_a_user_meets_decides_after_a_lane_of_its_own() {
    let rules = [
        json!({"users": ["eve"], "lane": "stable"}),
        json!({"claim": {"name": "plan", "value": "beta"}, "lane": "beta"}),
        json!({"address": "10.0.0.0/8", "lane": "stable"}),
    ];
    let mut document = document(&rules).unwrap();
    assert_eq!(document.needs, ["targeting"]);
    document.overrides.insert("max".into(), "stable".into());
    let lane = |user, facts: &PageFacts| {
        let unit = RoutingKey::User(user);
        let enrolment = Enrolment::new("p", unit).having_met(facts.matches(&document));
        let assigned =
            decide(LaneInputs { enrolment: Some(&enrolment), ..LaneInputs::of(&document) }, unit, |_| true);
        (assigned.lane, assigned.reason.text())
    };
    let is = |lane: &str, reason| (lane.to_owned(), reason);
    assert_eq!(lane("ann", &facts()), is("beta", "targeting"));
    assert_eq!(lane("eve", &facts()), is("stable", "targeting"));
    assert_eq!(lane("max", &facts()), is("stable", "override"));
    assert_eq!(lane("ann", &PageFacts::default()), is("stable", "base"));
    let office = PageFacts { claims: serde_json::Map::new(), ..facts() };
    assert_eq!(lane("ann", &office), is("stable", "targeting"));
}

#[test]
fn a_rule_that_cannot_work_is_refused_with_the_reason() {
    let many: Vec<_> = (0..33).map(|n| json!({"address": format!("10.0.0.{n}"), "lane": "beta"})).collect();
    let users: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    for (rules, reason) in [
        (vec![json!({"address": "10.0.0.0/33", "lane": "beta"})], "is not an address or a range"),
        (vec![json!({"users": ["ann"], "lane": "canary"})], "no lane canary"),
        (vec![json!({"claim": {"name": "", "value": "x"}, "lane": "beta"})], "1 to 200 bytes"),
        (vec![json!({"users": [""], "lane": "beta"})], "1 to 200 bytes"),
        (vec![json!({"users": users, "lane": "beta"})], "1000 users"),
        (many, "at most 32 rules"),
    ] {
        let refused = document(&rules).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    for wrong in [json!({"users": ["a"]}), json!({"moon": "full", "lane": "beta"}), json!({"lane": "beta"})] {
        assert!(serde_json::from_value::<TargetRule>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_lane_that_is_gone_or_aborted_has_no_rules_and_undo_restores_them() {
    let first = document(&[json!({"users": ["ann"], "lane": "beta"})]).unwrap();
    let revise = |wanted: RolloutUpdate| first.revise(wanted, String::new(), "ann", 8).unwrap();
    let gone = revise(RolloutUpdate { lanes: Some(Vec::new()), ..RolloutUpdate::default() });
    assert!(gone.targeting.is_empty() && gone.needs.is_empty());
    let step = Some(crate::rollout::RolloutStep::Abort { lane: Some("beta".into()) });
    let aborted = revise(RolloutUpdate { step, ..RolloutUpdate::default() });
    assert!(aborted.targeting.is_empty());
    let undone = aborted.revise(first.restored(), String::new(), "ann", 9).unwrap();
    assert_eq!(undone.targeting, first.targeting);
    assert_eq!(undone.gains(&aborted).collect::<Vec<_>>(), ["beta"], "which needs workers");
}

#[test]
fn a_condition_is_in_one_rule_and_a_user_in_one_rule_about_users() {
    let [beta, stable] =
        ["beta", "stable"].map(|lane| move |users: &[&str]| rule(json!({"users": users, "lane": lane})));
    let plan = |lane: &str| rule(json!({"claim": {"name": "plan", "value": "beta"}, "lane": lane}));
    let rules = with_rule(&with_rule(&[], beta(&["ann", "bob"])), plan("beta"));
    let rules = with_rule(&rules, beta(&["eve"]));
    assert_eq!(rules, [beta(&["ann", "bob", "eve"]), plan("beta")]);
    let rules = with_rule(&with_rule(&rules, stable(&["bob"])), plan("stable"));
    assert_eq!(rules, [beta(&["ann", "eve"]), stable(&["bob"]), plan("stable")]);
    let rules = without(&without(&rules, &plan("any").who), &stable(&["bob"]).who);
    assert_eq!(rules, [beta(&["ann", "eve"])]);
}
