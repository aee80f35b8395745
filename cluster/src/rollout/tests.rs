use super::*;
use crate::engine::{Consistency, Faults, Faulty, Memory};
use crate::id::Key;
use crate::subject::Subjects;
use crate::timing::Timing;

fn rollouts(engine: &Engine) -> Rollouts {
    let timing = Timing::TEST;
    let peers = PeerClient::new(engine, &Subjects::new("main"), timing.deliver);
    Rollouts::new(engine, peers, timing.deliver)
}

async fn following(engine: &Engine) -> Rollouts {
    let rollouts = rollouts(engine);
    tokio::spawn(rollouts.follow().await.unwrap());
    rollouts
}

fn canary(percent: f64) -> RolloutUpdate {
    let lane = LaneSpec::new("canary", Weight::of_percent(percent).unwrap());
    RolloutUpdate { lanes: Some(vec![lane]), salt: Some("s".into()), ..RolloutUpdate::default() }
}

fn memory() -> Engine {
    Engine::Memory(Memory::new())
}

#[tokio::test]
async fn a_change_reaches_whoever_follows_and_whoever_comes_later() {
    let engine = memory();
    let (one, two) = (following(&engine).await, following(&engine).await);
    let lane = |rollouts: &Rollouts| rollouts.lane_for("p", RoutingKey::User("ann"), |_| true).lane;
    assert_eq!((lane(&one), one.state("p", 0).await.revision), ("stable".into(), 0));
    let changed = one.change("p", Some(0), canary(100.0), "ann").await.unwrap();
    assert_eq!((changed.document.rev, &*changed.document.updated_by), (1, "ann"));
    assert_eq!(two.state("p", 1).await.revision, 1);
    assert_eq!(lane(&two), "canary");
    assert_eq!(lane(&following(&engine).await), "canary");
    let seen = two.state("p", 1).await.observed;
    assert_eq!(
        seen.iter().map(|lane| (&*lane.lane, lane.count)).collect::<Vec<_>>(),
        [("canary", 1), ("stable", 0)]
    );
}

#[tokio::test]
async fn of_two_who_change_the_same_revision_one_is_told() {
    let engine = memory();
    let (one, two) = (rollouts(&engine), rollouts(&engine));
    one.change("p", Some(0), canary(10.0), "ann").await.unwrap();
    let (ann, bob) = tokio::join!(
        one.change("p", Some(1), canary(20.0), "ann"),
        two.change("p", Some(1), canary(30.0), "bob"),
    );
    let (winner, refused) = if ann.is_ok() { (ann, bob) } else { (bob, ann) };
    let winner = winner.unwrap().document;
    let Err(ChangeError::Conflict(found)) = refused else { panic!("a conflict") };
    assert_eq!(*found, winner, "the refused writer receives the current document");
    assert_eq!(one.document("p").await.unwrap(), winner);
    let forced = two.change("p", None, canary(40.0), "bob").await.unwrap();
    assert_eq!(forced.document.rev, 3, "without a revision the current one is replaced");
}

#[tokio::test]
async fn whatever_the_engine_does_an_acknowledged_change_stands_in_the_history_under_its_own_revision() {
    for seed in 0..200 {
        let memory = Memory::new();
        let process = |seed| Engine::Faulty(Faulty::new(memory.clone(), seed, Faults::all(80)));
        let (ann, bob) = (rollouts(&process(2 * seed)), rollouts(&process(2 * seed + 1)));
        let work = async |rollouts: &Rollouts, by: &str| {
            let mut acknowledged = Vec::new();
            for percent in 0..20u16 {
                // half of the changes expect the revision that was read, the other half any revision
                let read = rollouts.document("p").await.ok().map(|document| document.rev);
                let expected = read.filter(|_| percent % 2 == 0);
                if let Ok(changed) = rollouts.change("p", expected, canary(percent.into()), by).await {
                    acknowledged.push(changed.document);
                }
                tokio::task::yield_now().await;
            }
            acknowledged
        };
        let (mut acknowledged, of_bob) = tokio::join!(work(&ann, "ann"), work(&bob, "bob"));
        acknowledged.extend(of_bob);
        let past = rollouts(&Engine::Memory(memory)).history("p").await.unwrap();
        assert!(past.iter().rev().map(|document| document.rev).eq(1..=past.len() as u64), "seed {seed}");
        assert!(acknowledged.len() > 10, "seed {seed} let too few through");
        for document in acknowledged {
            assert!(past.contains(&document), "seed {seed}: revision {} is lost", document.rev);
        }
    }
}

#[tokio::test]
async fn what_was_written_can_be_written_again() {
    let engine = memory();
    let rollouts = rollouts(&engine);
    for percent in [10.0, 20.0] {
        rollouts.change("p", None, canary(percent), "ann").await.unwrap();
    }
    rollouts.change("p.q", None, canary(1.0), "ann").await.unwrap();
    let past = rollouts.history("p").await.unwrap();
    assert_eq!(past.iter().map(|document| document.rev).collect::<Vec<_>>(), [2, 1]);
    let undone = RolloutUpdate { lanes: Some(past[1].lanes.clone()), ..RolloutUpdate::default() };
    let undone = rollouts.change("p", Some(2), undone, "ann").await.unwrap().document;
    assert_eq!((undone.rev, &undone.lanes), (3, &past[1].lanes));
}

#[tokio::test]
async fn the_last_hundred_revisions_are_kept() {
    let engine = memory();
    let rollouts = rollouts(&engine);
    for _ in 0..103 {
        rollouts.change("p", None, canary(1.0), "ann").await.unwrap();
    }
    let past = rollouts.history("p").await.unwrap();
    assert_eq!((past.len(), past[0].rev, past[99].rev), (100, 103, 4));
}

#[tokio::test]
async fn a_document_that_this_release_cannot_obey_is_neither_applied_nor_overwritten() {
    let engine = memory();
    let rollouts = following(&engine).await;
    rollouts.change("p", None, canary(100.0), "ann").await.unwrap();
    assert_eq!(rollouts.state("p", 1).await.revision, 1);
    let store = engine.kv(Bucket::Config);
    let foreign =
        crate::engine::Put::new("rollout.p", r#"{"rev":2,"rules":[]}"#, crate::engine::Precondition::Any);
    store.put(foreign).await.unwrap();
    let refused = rollouts.change("p", None, canary(0.0), "ann").await;
    assert!(matches!(refused, Err(ChangeError::Newer)));
    assert_eq!(
        rollouts.explain("p", RoutingKey::User("ann"), |_| true).lane,
        "canary",
        "the last one that it knew"
    );
    let winner = store.get("rollout.p", Consistency::Latest).await.unwrap().unwrap();
    assert_eq!(winner.value, r#"{"rev":2,"rules":[]}"#);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lags_says_so() {
    let rollouts = following(&memory()).await;
    assert_eq!(rollouts.state("p", 9).await.revision, 0);
}

#[tokio::test]
async fn explaining_counts_nothing_and_pools_that_nobody_wrote_are_no_labels() {
    let engine = memory();
    let rollouts = following(&engine).await;
    rollouts.change("p", None, canary(0.0), "ann").await.unwrap();
    rollouts.state("p", 1).await;
    rollouts.explain("p", RoutingKey::User("ann"), |_| true);
    rollouts.lane_for("made up", RoutingKey::User("ann"), |_| true);
    assert!(rollouts.assignments().iter().all(|(pool, _, _, count)| pool == "p" && *count == 0));
}

#[tokio::test]
async fn what_a_page_meets_decides_for_its_user_in_every_process_until_another_page_meets_less() {
    let engine = memory();
    let (one, two) = (following(&engine).await, following(&engine).await);
    let rules = serde_json::json!([{"claim": {"name": "plan", "value": "beta"}, "lane": "canary"},
        {"header": {"name": "X-Lane", "value": "1"}, "lane": "canary"}]);
    let targeting = Some(serde_json::from_value(rules).unwrap());
    one.change("p", None, RolloutUpdate { targeting, ..canary(0.0) }, "ann").await.unwrap();
    one.state("p", 1).await;
    let lane = |rollouts: &Rollouts, unit| rollouts.explain("p", unit, |_| true).lane;
    let is_in = async |rollouts: &Rollouts, unit, expected: &str| {
        let mut changes = rollouts.changes();
        changes.wait_for(|_| lane(rollouts, unit) == expected).await.unwrap();
    };
    let (ann, connection) = (RoutingKey::User("ann"), Key::random());
    assert_eq!(one.enrolments().named_headers().into_iter().collect::<Vec<_>>(), ["x-lane"]);
    let claims = serde_json::json!({"plan": "beta"}).as_object().unwrap().clone();
    let beta = PageFacts { claims, ..PageFacts::default() };
    let documents = *one.document_changes().borrow();
    one.enrolments().page_opened(ann, &beta).await.unwrap();
    assert_eq!(lane(&one, ann), "canary", "at once in this process");
    assert_eq!(*one.document_changes().borrow(), documents, "a row of a user is no document");
    is_in(&two, ann, "canary").await;
    assert_eq!(lane(&following(&engine).await, ann), "canary", "in one that starts later");
    let before = *two.changes().borrow();
    one.enrolments().page_opened(ann, &beta).await.unwrap();
    assert_eq!(*two.changes().borrow(), before, "the same is not written again");
    two.enrolments().page_opened(ann, &PageFacts::default()).await.unwrap();
    is_in(&one, ann, "stable").await;
    // an anonymous browser, and its login
    let headers = vec![("x-lane".to_owned(), "1".to_owned())];
    let header = PageFacts { headers, ..PageFacts::default() };
    one.enrolments().page_opened(RoutingKey::Connection(connection), &header).await.unwrap();
    assert_eq!(lane(&one, RoutingKey::Connection(connection)), "canary");
    one.enrolments().logged_in("bob", connection, &PageFacts::default()).await.unwrap();
    assert_eq!(lane(&one, RoutingKey::User("bob")), "canary");
}

#[tokio::test]
async fn a_pool_remembers_so_many_users_and_makes_room_when_a_rollout_has_ended() {
    let engine = memory();
    let rollouts = following(&engine).await;
    let open = || EnrolmentUpdate { self_service: Some(true), ..EnrolmentUpdate::default() };
    rollouts.change("p", None, RolloutUpdate { enrolment: open(), ..canary(0.0) }, "ann").await.unwrap();
    rollouts.state("p", 1).await;
    let choose =
        async |user: &str| rollouts.enrolments().choose("p", RoutingKey::User(user), Some("canary")).await;
    for user in 0..5000 {
        choose(&user.to_string()).await.unwrap();
    }
    assert_eq!(choose("one more").await, Err(ChoiceError::Full));
    assert_eq!(choose("7").await, Ok(()), "a user who is remembered");
    let step = Some(RolloutStep::Abort { lane: Some("canary".into()) });
    rollouts.change("p", None, RolloutUpdate { step, ..RolloutUpdate::default() }, "ann").await.unwrap();
    let again = RolloutUpdate { enrolment: open(), ..RolloutUpdate::default() };
    rollouts.change("p", None, again, "ann").await.unwrap();
    rollouts.state("p", 3).await;
    assert_eq!(choose("one more").await, Ok(()));
    assert_eq!(rollouts.explain("p", RoutingKey::User("one more"), |_| true).lane, "canary");
}
