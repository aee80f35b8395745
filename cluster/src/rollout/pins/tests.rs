use super::super::RolloutUpdate;
use super::super::spec::{Fallback, LaneSpec};
use super::super::weight::Weight;
use super::*;
use crate::engine::{Engine, Memory};
use crate::peer::PeerClient;
use crate::subject::Subjects;
use crate::timing::Timing;

const ANN: RoutingKey<'_> = RoutingKey::User("ann");

struct World {
    rollouts: Rollouts,
    page: LanePins,
}

impl World {
    async fn new() -> Self {
        let engine = Engine::Memory(Memory::new());
        let peers = PeerClient::new(&engine, &Subjects::new("t"), Timing::TEST.deliver);
        let rollouts = Rollouts::new(&engine, peers, Timing::TEST.deliver);
        tokio::spawn(rollouts.follow().await.unwrap());
        Self { rollouts, page: LanePins::default() }
    }

    async fn change(&self, wanted: RolloutUpdate) {
        let document = self.rollouts.change("p", None, wanted, "ann").await.unwrap().document;
        self.rollouts.state("p", document.rev).await;
    }

    async fn canary(&self, percent: f64) {
        let lane = LaneSpec::new("canary", Weight::of_percent(percent).unwrap());
        self.change(RolloutUpdate { lanes: Some(vec![lane]), ..RolloutUpdate::default() }).await;
    }

    fn call(&self) -> (String, Reason) {
        let assigned = self.page.assign(&self.rollouts, "p", ANN, |_| true);
        (assigned.lane, assigned.reason)
    }
}

fn lane(name: &str, reason: Reason) -> (String, Reason) {
    (name.to_owned(), reason)
}

#[tokio::test]
async fn a_page_keeps_the_lane_of_its_first_call_while_the_lane_is_open() {
    let world = World::new().await;
    assert_eq!(world.call(), lane("stable", Reason::Base));
    assert!(world.page.lanes().is_empty(), "a pool without a document has one lane");
    world.canary(100.0).await;
    assert_eq!(world.call(), lane("canary", Reason::Weight));
    world.canary(0.01).await;
    assert_eq!(world.call(), lane("canary", Reason::Pin));
    assert_eq!(LanePins::default().assign(&world.rollouts, "p", ANN, |_| true).lane, "stable");
    world.canary(100.0).await;
    assert_eq!(world.call(), lane("canary", Reason::Pin));
    world.canary(0.0).await;
    assert_eq!(world.call(), lane("stable", Reason::Base));
    world.canary(100.0).await;
    assert_eq!(world.call(), lane("stable", Reason::Pin), "it keeps the lane that it got then");
    world.change(RolloutUpdate { lanes: Some(vec![]), ..RolloutUpdate::default() }).await;
    assert_eq!(world.call(), lane("stable", Reason::Pin));
}

#[tokio::test]
async fn a_lane_of_the_users_own_comes_before_a_pin_and_pins_nothing() {
    let world = World::new().await;
    world.canary(0.0).await;
    assert_eq!(world.call(), lane("stable", Reason::Base));
    let assign = |lane: Option<&str>| RolloutUpdate {
        assign: [("ann".to_owned(), lane.map(str::to_owned))].into(),
        ..RolloutUpdate::default()
    };
    world.change(assign(Some("canary"))).await;
    assert_eq!(world.call(), lane("canary", Reason::Override));
    world.change(assign(None)).await;
    assert_eq!(world.call(), lane("stable", Reason::Pin));
}

#[tokio::test]
async fn a_call_falls_back_from_a_pinned_lane_without_workers_and_the_pin_stays() {
    let world = World::new().await;
    world.canary(100.0).await;
    assert_eq!(world.call(), lane("canary", Reason::Weight));
    let silent = || {
        let assigned = world.page.assign(&world.rollouts, "p", ANN, |_| false);
        (assigned.lane, assigned.reason)
    };
    assert_eq!(silent(), lane("canary", Reason::Pin), "a canary that is not there shows");
    world.change(RolloutUpdate { fallback: Some(Fallback::Base), ..RolloutUpdate::default() }).await;
    assert_eq!(silent(), lane("stable", Reason::Fallback));
    assert_eq!(world.call(), lane("canary", Reason::Pin));
}

#[tokio::test]
async fn assignments_by_a_pin_are_counted_and_explaining_one_changes_nothing() {
    let world = World::new().await;
    world.canary(100.0).await;
    let explained = world.page.explain(&world.rollouts, "p", ANN, |_| true);
    assert_eq!((explained.lane.as_str(), world.page.lanes().len()), ("canary", 0));
    world.call();
    world.call();
    let counts = world.rollouts.assignments();
    let count = |reason| counts.iter().find(|row| row.1 == "canary" && row.2 == reason).map(|row| row.3);
    assert_eq!((count(Reason::Weight), count(Reason::Pin)), (Some(1), Some(1)));
}

#[test]
fn a_page_keeps_a_bounded_number_of_lanes() {
    let mut state = PinState::default();
    for pool in 0..20 {
        state.pin(&format!("pool-{pool}"), "canary");
    }
    assert_eq!(state.lanes.len(), MAX_POOLS);
    state.pin("pool-0", "stable");
    assert_eq!(state.lanes["pool-0"], "stable");
    let mut long = PinState::default();
    for pool in 0..16 {
        long.pin(&format!("{pool:064}"), &"l".repeat(64));
    }
    assert_eq!(long.lanes.len(), MAX_BYTES / 128);
}

#[test]
fn pins_are_stored_once_by_one_task_or_with_any_other_write_of_the_row() {
    let pins = LanePins::new([("a".to_owned(), "stable".to_owned())].into());
    assert!(!pins.begin_storing(), "they come from the row");
    pins.lock().pin("b", "canary");
    assert!(pins.begin_storing() && !pins.begin_storing());
    let written = pins.lanes();
    pins.lock().pin("c", "canary");
    pins.stored(&written);
    assert!(!pins.end_storing(false), "one is new");
    pins.stored(&pins.lanes());
    assert!(pins.end_storing(false) && !pins.begin_storing());
    pins.lock().pin("b", "stable");
    assert!(pins.begin_storing() && pins.end_storing(true));
}
