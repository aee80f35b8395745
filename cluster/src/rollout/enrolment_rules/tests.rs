use proptest::prelude::*;

use super::super::active::{LaneInputs, decide};
use super::super::lane::RoutingKey;
use super::super::plan::RolloutStep;
use super::super::spec::RolloutUpdate;
use super::*;

fn canary(percent: f64) -> Option<Vec<LaneSpec>> {
    Some(vec![LaneSpec::new("canary", Weight::of_percent(percent).unwrap())])
}

fn revise(before: &RolloutSpec, wanted: RolloutUpdate) -> RolloutSpec {
    before.revise(wanted, "salt".into(), "ann", 7).unwrap()
}

fn weight(before: &RolloutSpec, percent: f64) -> RolloutSpec {
    revise(before, RolloutUpdate { lanes: canary(percent), ..RolloutUpdate::default() })
}

fn first(enrolment: EnrolmentUpdate) -> RolloutSpec {
    let wanted = RolloutUpdate { lanes: canary(10.0), enrolment, ..RolloutUpdate::default() };
    revise(&RolloutSpec::unwritten("p"), wanted)
}

fn latched() -> EnrolmentUpdate {
    EnrolmentUpdate { mode: Some(EnrolmentMode::Latched), ..EnrolmentUpdate::default() }
}

fn self_service() -> EnrolmentUpdate {
    EnrolmentUpdate { self_service: Some(true), ..EnrolmentUpdate::default() }
}

fn since(document: &RolloutSpec) -> Option<u64> {
    document.enrolment.started.get("canary").map(|start| start.rev)
}

fn row(latched: Option<u64>, choice: Option<(&str, u64)>) -> Enrolment {
    let mut row = Enrolment::new("p", RoutingKey::User("ann"));
    row.latched = latched.map(|since| EnrolledLane { lane: "canary".into(), since });
    row.choice = choice.map(|(lane, since)| EnrolledLane { lane: lane.into(), since });
    row
}

fn lane(document: &RolloutSpec, row: &Enrolment, user: &str) -> (String, &'static str) {
    let inputs = LaneInputs { enrolment: Some(row), ..LaneInputs::of(document) };
    let assigned = decide(inputs, RoutingKey::User(user), |_| true);
    (assigned.lane, assigned.reason.text())
}

fn is(lane: &str, reason: &'static str) -> (String, &'static str) {
    (lane.to_owned(), reason)
}

/// Returns a user of the base at 20 %, and of the canary at 50 %.
fn user(document: &RolloutSpec) -> String {
    let between = |user: &String| (2000..5000).contains(&RoutingKey::User(user).bucket(&document.salt));
    (0..).map(|number| format!("user-{number}")).find(between).unwrap()
}

#[test]
fn a_user_stays_until_the_weight_is_back_at_its_start_or_the_lane_is_aborted() {
    let ten = first(latched());
    assert_eq!((ten.needs.as_slice(), since(&ten)), (["latched".to_owned()].as_slice(), Some(1)));
    let (fifty, user) = (weight(&ten, 50.0), user(&ten));
    assert_eq!(since(&fifty), Some(1));
    let row = row(Some(1), None);
    assert_eq!(lane(&fifty, &row, &user), is("canary", "weight"));
    let lower = weight(&fifty, 10.01);
    assert_eq!(lane(&lower, &row, &user), is("canary", "latched"));
    assert_eq!(lane(&lower, &Enrolment::new("p", RoutingKey::User(&user)), &user), is("stable", "base"));
    let back = weight(&lower, 10.0);
    assert_eq!((since(&back), lane(&back, &row, &user)), (Some(4), is("stable", "base")));
    assert_eq!(lane(&weight(&back, 20.0), &row, &user), is("stable", "base"), "the next rollout of the lane");
    let abort = Some(RolloutStep::Abort { lane: Some("canary".into()) });
    let aborted = revise(&fifty, RolloutUpdate { step: abort, ..RolloutUpdate::default() });
    assert_eq!(lane(&aborted, &row, &user), is("stable", "base"));
    assert_eq!(lane(&weight(&aborted, 10.0), &row, &user), is("stable", "base"));
    let undone = revise(&aborted, fifty.restored());
    assert_eq!(since(&undone), Some(1), "undo restores who was in");
    let abort = Some(RolloutStep::Abort { lane: Some("canary".into()) });
    let aborted = revise(&ten, RolloutUpdate { step: abort, ..RolloutUpdate::default() });
    assert_eq!(since(&revise(&aborted, ten.restored())), Some(1), "at its first weight, too");
    assert_ne!(since(&revise(&fifty, ten.restored())), Some(1), "an undo of more users takes them out");
    let hash = EnrolmentUpdate { mode: Some(EnrolmentMode::Hash), ..EnrolmentUpdate::default() };
    let hash = revise(&lower, RolloutUpdate { enrolment: hash, ..RolloutUpdate::default() });
    assert_eq!((lane(&hash, &row, &user), hash.needs.len()), (is("stable", "base"), 0));
}

#[test]
fn a_page_chooses_a_lane_or_the_base_while_the_rollout_allows_it() {
    let open = weight(&first(self_service()), 0.0);
    let user = user(&open);
    let start = since(&open).unwrap();
    assert_eq!(lane(&open, &row(None, Some(("canary", start))), &user), is("canary", "choice"), "a preview");
    assert_eq!(lane(&open, &row(None, Some(("canary", start - 1))), &user), is("stable", "base"));
    let fifty = weight(&open, 50.0);
    assert_eq!(
        lane(&fifty, &row(None, Some(("stable", 0))), &user),
        is("stable", "choice"),
        "out of the canary"
    );
    let abort = Some(RolloutStep::Abort { lane: Some("canary".into()) });
    let aborted = revise(&open, RolloutUpdate { step: abort, ..RolloutUpdate::default() });
    assert!(!aborted.enrolment.self_service && aborted.needs.is_empty());
    let again = revise(&aborted, RolloutUpdate { enrolment: self_service(), ..RolloutUpdate::default() });
    assert_eq!(lane(&again, &row(None, Some(("canary", start))), &user), is("stable", "base"));
}

proptest! {
    /// Whatever the weights are: a user who is in stays in until the rollout of the lane begins again, and another user is where the
    /// bucket says.
    #[test]
    fn users_stay_and_others_follow_their_buckets(
        weights in prop::collection::vec(0u16..=10_000, 1..12),
        number in 0..1000,
    ) {
        let mut document = first(latched());
        let user = format!("user-{number}");
        let mut row = Enrolment::new("p", RoutingKey::User(&user));
        let mut is_in = false;
        for buckets in weights {
            let started = since(&document);
            document = weight(&document, f64::from(buckets) / 100.0);
            is_in &= since(&document) == started;
            let after = lane(&document, &row, &user).0;
            let by_bucket = RoutingKey::User(&user).bucket(&document.salt) < buckets;
            prop_assert_eq!(&*after, if is_in || by_bucket { "canary" } else { "stable" });
            // the user works at this moment
            is_in |= by_bucket;
            if by_bucket {
                row.latched = Some(EnrolledLane { lane: after, since: since(&document).unwrap() });
            }
        }
    }
}
