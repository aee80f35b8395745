use proptest::prelude::*;

use super::super::active::decide;
use super::super::admission_writer::Admissions;
use super::super::enrolment_rules::{EnrolmentMode, EnrolmentUpdate};
use super::super::limits::{LaneLimits, LimitsByLane, UserLimitError};
use super::super::pins::LanePins;
use super::super::plan::RolloutStep;
use super::super::spec::{LaneSpec, RolloutUpdate, SpecError};
use super::super::weight::Weight;
use super::super::{RolloutChange, Rollouts};
use super::*;
use crate::engine::{Engine, Faults, Faulty, Memory};
use crate::id::Key;
use crate::peer::PeerClient;
use crate::subject::Subjects;
use crate::timing::Timing;

fn limited(most: u32) -> Option<LimitsByLane> {
    Some([("canary".to_owned(), LaneLimits { max_users: Some(most), ..LaneLimits::default() })].into())
}

fn all_of(most: u32) -> RolloutUpdate {
    let lane = LaneSpec::new("canary", Weight::of_percent(100.0).unwrap());
    let enrolment = EnrolmentUpdate { mode: Some(EnrolmentMode::Latched), ..EnrolmentUpdate::default() };
    RolloutUpdate { lanes: Some(vec![lane]), limits: limited(most), enrolment, ..RolloutUpdate::default() }
}

fn revise(before: &RolloutSpec, wanted: RolloutUpdate) -> RolloutSpec {
    before.revise(wanted, "salt".into(), "ann", 7).unwrap()
}

fn document(most: u32) -> RolloutSpec {
    revise(&RolloutSpec::unwritten("p"), all_of(most))
}

fn abort(document: &RolloutSpec) -> RolloutSpec {
    let step = Some(RolloutStep::Abort { lane: Some("canary".into()) });
    revise(document, RolloutUpdate { step, ..RolloutUpdate::default() })
}

fn rows(row: &AdmittedUsers) -> PoolAdmissions {
    PoolAdmissions::from([("canary".to_owned(), (1, Arc::new(row.clone())))])
}

fn lane(document: &RolloutSpec, row: &AdmittedUsers, unit: RoutingKey<'_>) -> (String, &'static str) {
    let admitted = rows(row);
    let assigned = decide(LaneInputs { admitted: &admitted, ..LaneInputs::of(document) }, unit, |_| true);
    (assigned.lane, assigned.reason.text())
}

fn is(lane: &str, reason: &'static str) -> (String, &'static str) {
    (lane.to_owned(), reason)
}

fn asking(users: &[&str]) -> BTreeSet<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}

fn next(known: Option<&AdmittedUsers>, document: &RolloutSpec, users: &[&str]) -> Option<AdmittedUsers> {
    AdmittedUsers::next(known, (document, "canary"), [], &asking(users))
}

#[test]
fn only_admitted_users_have_a_lane_with_a_limit_and_a_start_of_it_frees_all_places() {
    let two = document(2);
    assert_eq!(two.needs, ["user_limit", "latched"]);
    assert_eq!(RolloutSpec::decode(&two.encode()).unwrap(), two);
    let (ann, bob) = (RoutingKey::User("ann"), RoutingKey::User("bob"));
    let one = next(None, &two, &["ann"]).unwrap();
    assert_eq!(
        (lane(&two, &one, ann), lane(&two, &one, bob)),
        (is("canary", "weight"), is("stable", "not_admitted"))
    );
    let full = next(Some(&one), &two, &["eve", "bob"]).unwrap();
    assert_eq!(
        (lane(&two, &full, bob), lane(&two, &full, RoutingKey::User("eve"))),
        (is("canary", "weight"), is("stable", "full"))
    );
    assert_eq!(lane(&two, &full, RoutingKey::Connection(Key::from_bits(1))), is("stable", "not_admitted"));
    assert_eq!(next(Some(&full), &two, &["eve"]), None);
    let fewer = revise(&two, RolloutUpdate { limits: limited(1), ..RolloutUpdate::default() });
    assert_eq!(lane(&fewer, &full, bob), is("canary", "weight"), "who is in stays in");
    let unlimited =
        revise(&fewer, RolloutUpdate { limits: Some(LimitsByLane::new()), ..RolloutUpdate::default() });
    assert_eq!(
        (unlimited.needs.len(), lane(&unlimited, &full, RoutingKey::User("eve"))),
        (1, is("canary", "weight"))
    );
    let aborted = abort(&two);
    assert_eq!(lane(&aborted, &full, ann), is("stable", "base"));
    let again = revise(&aborted, all_of(2));
    assert_eq!(lane(&again, &full, ann), is("stable", "not_admitted"));
    let fresh = next(Some(&full), &again, &["eve"]).unwrap();
    assert_eq!(fresh.users, asking(&["eve"]));
    assert_eq!(next(Some(&fresh), &two, &["ann"]), None, "this process is behind");
    let undone = revise(&aborted, two.restored());
    assert_eq!((lane(&undone, &full, ann), undone.max_users("canary")), (is("canary", "weight"), Some(2)));
}

#[test]
fn an_operators_word_and_a_lower_weight_do_not_ask_whether_there_is_room() {
    let full = next(None, &document(1), &["ann"]).unwrap();
    let assign = [("eve".to_owned(), Some("canary".to_owned()))].into();
    let own = revise(&document(1), RolloutUpdate { assign, ..RolloutUpdate::default() });
    assert_eq!(lane(&own, &full, RoutingKey::User("eve")), is("canary", "override"));
    let small = LaneSpec::new("canary", Weight::of_percent(0.01).unwrap());
    let mut lower =
        revise(&document(1), RolloutUpdate { lanes: Some(vec![small]), ..RolloutUpdate::default() });
    // a weight that is above the one of the start
    lower.enrolment = document(1).enrolment;
    assert_eq!(lane(&lower, &full, RoutingKey::User("ann")), is("canary", "latched"));
    assert_eq!(lane(&lower, &full, RoutingKey::User("eve")), is("stable", "base"));
}

#[test]
fn users_who_stayed_before_there_was_a_limit_are_counted() {
    let latched = ["ann", "bob", "eve"].map(str::to_owned);
    let add = |most| {
        AdmittedUsers::next(None, (&document(most), "canary"), latched.clone(), &asking(&["dan", "fay"]))
    };
    assert_eq!(add(2).unwrap().users.len(), 3);
    assert_eq!(add(4).unwrap().users, asking(&["ann", "bob", "dan", "eve"]));
}

#[test]
fn a_limit_needs_users_who_stay_and_a_lane_beside_the_base() {
    let refused = |pool: &str, wanted: RolloutUpdate| {
        RolloutSpec::unwritten(pool).revise(wanted, "salt".into(), "ann", 7).map(|_| ()).unwrap_err()
    };
    let hash = RolloutUpdate { enrolment: EnrolmentUpdate::default(), ..all_of(2) };
    let error = refused("p", hash);
    assert_eq!(error, SpecError::UserLimit(UserLimitError::Hash("canary".into())));
    assert!(error.to_string().ends_with("set enrolment to latched"));
    assert_eq!(refused("edge", all_of(2)), UserLimitError::Nodes.into());
    let base = LaneLimits { max_users: Some(2), ..LaneLimits::default() };
    let base = RolloutUpdate { limits: Some([("stable".to_owned(), base)].into()), ..all_of(2) };
    assert_eq!(refused("p", base), UserLimitError::Base("stable".into()).into());
    for most in [0, 1001] {
        assert!(matches!(refused("p", all_of(most)), SpecError::Limits(_)));
    }
    let step = Some(RolloutStep::Switch { lane: "canary".into() });
    let switched = revise(&document(2), RolloutUpdate { step, ..RolloutUpdate::default() });
    assert!(switched.limits.is_empty(), "the base takes all users");
}

/// A step of one of two processes.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// It receives the stored row.
    Watch,
    /// It admits users to the row that it knows, if nobody has written since.
    Admit { first: usize, count: usize },
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let admit = (0usize..12, 1usize..4).prop_map(|(first, count)| Step::Admit { first, count });
    (0usize..2, prop_oneof![Just(Step::Watch), admit])
}

proptest! {
    /// Two processes admit users in any order, each from what it has received so far.
    #[test]
    fn a_lane_never_has_more_users_than_its_limit_and_who_is_in_stays_in(
        most in 1u32..6, steps in prop::collection::vec(step(), 0..60)
    ) {
        let document = document(most);
        let mut stored: Option<(u64, AdmittedUsers)> = None;
        let mut known: [Option<(u64, AdmittedUsers)>; 2] = [None, None];
        let mut ever = BTreeSet::new();
        for (process, step) in steps {
            match step {
                Step::Watch => known[process].clone_from(&stored),
                Step::Admit { first, count } => {
                    let users = (first..first + count).map(|user| format!("user-{user}")).collect();
                    let row = known[process].as_ref().map(|(_, row)| row);
                    let next = AdmittedUsers::next(row, (&document, "canary"), [], &users);
                    let rev = |row: &Option<(u64, AdmittedUsers)>| row.as_ref().map_or(0, |(rev, _)| *rev);
                    if let Some(next) = next.filter(|_| rev(&known[process]) == rev(&stored)) {
                        stored = Some((rev(&stored) + 1, next));
                        known[process].clone_from(&stored);
                    }
                }
            }
            for row in known.iter().chain([&stored]).flatten().map(|(_, row)| row) {
                let has = |user: &String| lane(&document, row, RoutingKey::User(user)).0 == "canary";
                let users = (0..16).map(|user| format!("user-{user}"));
                ever.extend(users.filter(has));
            }
            prop_assert!(ever.len() <= most as usize, "{:?}", ever);
            if let Some((_, row)) = &stored {
                prop_assert_eq!(&row.users, &ever);
            }
        }
    }
}

async fn following(engine: &Engine) -> Rollouts {
    let peers = PeerClient::new(engine, &Subjects::new("t"), Timing::TEST.deliver);
    let rollouts = Rollouts::new(engine, peers, Timing::TEST.deliver);
    tokio::spawn(rollouts.follow().await.unwrap());
    rollouts
}

async fn applied(processes: &[&Rollouts], change: RolloutChange) {
    for process in processes {
        assert_eq!(process.state("p", change.document.rev).await.revision, change.document.rev);
    }
}

async fn work(rollouts: &Rollouts, user: &str) -> LaneAssignment {
    Admissions::new(rollouts).admit("p", RoutingKey::User(user), None, |_| true).await;
    rollouts.lane_for("p", RoutingKey::User(user), |_| true)
}

#[tokio::test]
async fn two_processes_admit_as_many_users_as_there_is_room_for_and_agree() {
    let engine = Engine::Memory(Memory::new());
    let (one, two) = (following(&engine).await, following(&engine).await);
    applied(&[&one, &two], one.change("p", None, all_of(5), "ann").await.unwrap()).await;
    let users: Vec<_> = (0..40).map(|user| format!("user-{user}")).collect();
    let at = |number: usize| if number.is_multiple_of(2) { &one } else { &two };
    let all = users.iter().enumerate().map(|(number, user)| work(at(number), user));
    let lanes = futures_util::future::join_all(all).await;
    let inside: BTreeSet<_> = users
        .iter()
        .zip(&lanes)
        .filter(|(_, assigned)| assigned.lane == "canary")
        .map(|(user, _)| user)
        .collect();
    assert_eq!(inside.len(), 5);
    for rollouts in [&one, &two] {
        for user in &users {
            let assigned = work(rollouts, user).await;
            let expected = if inside.contains(user) { ("canary", "weight") } else { ("stable", "full") };
            assert_eq!((&*assigned.lane, assigned.reason.text()), expected, "{user}");
        }
        assert_eq!(Admissions::new(rollouts).lane_users("p", "canary"), Some(5));
    }
}

#[tokio::test]
async fn a_page_pins_no_lane_while_its_user_may_be_admitted_yet() {
    let engine = Engine::Memory(Memory::new());
    let rollouts = following(&engine).await;
    applied(&[&rollouts], rollouts.change("p", None, all_of(1), "ann").await.unwrap()).await;
    let (page, ann) = (LanePins::default(), RoutingKey::User("ann"));
    let call = |unit| page.assign(&rollouts, "p", unit, |_| true);
    assert_eq!((call(ann).reason.text(), page.lanes().len()), ("not_admitted", 0));
    assert_eq!((work(&rollouts, "ann").await.lane, call(ann).lane), ("canary".into(), "canary".into()));
    let other = LanePins::new([("p".to_owned(), "canary".to_owned())].into());
    let assigned = other.assign(&rollouts, "p", RoutingKey::User("bob"), |_| true);
    assert_eq!((&*assigned.lane, assigned.reason.text()), ("stable", "full"), "a pin from before the limit");
    assert_eq!(other.lanes()["p"], "stable");
}

#[tokio::test]
async fn a_user_has_the_base_lane_while_nothing_can_be_written() {
    let memory = Memory::new();
    let engine = Engine::Memory(memory.clone());
    let broken = Engine::Faulty(Faulty::new(memory, 1, Faults::default()));
    let (writer, cut) = (following(&engine).await, following(&broken).await);
    applied(&[&cut], writer.change("p", None, all_of(1), "ann").await.unwrap()).await;
    if let Engine::Faulty(faulty) = &broken {
        faulty.process().cut_for(std::time::Duration::from_secs(60));
    }
    assert_eq!(work(&cut, "ann").await.reason, Reason::NotAdmitted);
    assert_eq!(work(&writer, "bob").await.lane, "canary");
}
