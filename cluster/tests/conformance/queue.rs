//! Tests of the Queue: durable work items.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{Engine, Enqueue, MAX_PAYLOAD, QueueError, QueueMessage};
use pagewire_cluster::subject::SubjectToken;

use crate::cluster::{Cluster, TIMING, awkward_identities, eventually};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

fn hint(route: &str, id: &str) -> Enqueue {
    Enqueue { id: id.to_owned(), route: route.to_owned(), payload: id.to_owned().into(), not_before: None }
}

async fn push(engine: &Engine, route: &str, id: &str) {
    engine.push(hint(route, id)).await.expect("pushes");
}

/// Takes the next delivery. One pull must return it as soon as it arrives, long before the pull itself would
/// end.
async fn take(engine: &Engine, route: &str) -> QueueMessage {
    let begun = Instant::now();
    let delivery = engine.pull(route, 1, LONG).await.expect("pulls").pop().expect("comes");
    assert!(begun.elapsed() < LONG / 2, "waited {:?}", begun.elapsed());
    delivery
}

async fn depth_becomes(engine: &Engine, route: &str, depth: u64) {
    eventually(&format!("depth {depth}"), async || engine.depth(route).await == Ok(depth)).await;
}

pub(crate) async fn a_hint_comes_until_it_is_settled(cluster: &Cluster) {
    let [one, two] = [cluster.process().await, cluster.process().await];
    push(&one, "r", "a").await;
    let delivery = take(&two, "r").await;
    assert_eq!((delivery.id.as_str(), &delivery.payload[..], delivery.attempt), ("a", &b"a"[..], 1));
    two.ack(&delivery).await.expect("settles");
    depth_becomes(&one, "r", 0).await;
    let later = one.pull("r", 9, TIMING.redelivery + SHORT).await.expect("pulls");
    assert!(later.is_empty(), "a settled work item was delivered again");
}

pub(crate) async fn a_pull_takes_no_more_than_its_free_slots(cluster: &Cluster) {
    let engine = cluster.process().await;
    for id in ["a", "b", "c", "d", "e"] {
        push(&engine, "r", id).await;
    }
    assert!(engine.pull("r", 0, SHORT).await.expect("pulls").is_empty());
    let mut ids = Vec::new();
    while ids.len() < 5 {
        let deliveries = engine.pull("r", 2, LONG).await.expect("pulls");
        assert!((1..=2).contains(&deliveries.len()), "{}", deliveries.len());
        for delivery in deliveries {
            engine.ack(&delivery).await.expect("settles");
            ids.push(delivery.id);
        }
    }
    assert_eq!(ids, ["a", "b", "c", "d", "e"], "in the order of pushing");
}

pub(crate) async fn a_pull_waits_for_the_first_hint_and_no_longer_than_asked(cluster: &Cluster) {
    let [one, two] = [cluster.process().await, cluster.process().await];
    let begun = Instant::now();
    assert!(one.pull("r", 1, SHORT).await.expect("pulls").is_empty());
    assert!(begun.elapsed() >= SHORT);
    let waiting = tokio::spawn({
        let one = one.clone();
        async move { take(&one, "r").await.id }
    });
    // the pull is waiting or about to start; the work item must arrive in both cases
    tokio::task::yield_now().await;
    push(&two, "r", "a").await;
    assert_eq!(waiting.await.expect("no panic"), "a");
}

pub(crate) async fn an_abandoned_hint_comes_again_with_a_higher_attempt(cluster: &Cluster) {
    let [one, two] = [cluster.process().await, cluster.process().await];
    push(&one, "r", "a").await;
    let mut taken = Instant::now();
    for attempt in 1..=3 {
        let delivery = take(if attempt % 2 == 1 { &one } else { &two }, "r").await;
        assert_eq!((delivery.id.as_str(), delivery.attempt), ("a", attempt));
        // the redelivery time starts at the engine, before this process receives the delivery
        let early = TIMING.redelivery - Duration::from_millis(500);
        assert!(attempt == 1 || taken.elapsed() >= early, "after {:?}", taken.elapsed());
        taken = Instant::now();
    }
    assert_eq!(one.depth("r").await, Ok(1), "abandoned is not settled");
}

pub(crate) async fn a_touched_hint_stays_with_its_worker(cluster: &Cluster) {
    let engine = cluster.process().await;
    push(&engine, "r", "a").await;
    let delivery = take(&engine, "r").await;
    let begun = Instant::now();
    while begun.elapsed() < TIMING.redelivery * 3 / 2 {
        engine.extend(&delivery).await.expect("touches");
        assert!(engine.pull("r", 1, TIMING.redelivery / 5).await.expect("pulls").is_empty());
    }
    assert_eq!(take(&engine, "r").await.attempt, 2, "its redelivery is no longer postponed");
}

pub(crate) async fn a_retried_hint_comes_again_not_before_its_time(cluster: &Cluster) {
    let engine = cluster.process().await;
    push(&engine, "r", "a").await;
    let delivery = take(&engine, "r").await;
    engine.nak(&delivery, Duration::ZERO).await.expect("retries");
    let delivery = take(&engine, "r").await;
    assert_eq!(delivery.attempt, 2);
    let (asked, after) = (Instant::now(), TIMING.redelivery + Duration::from_secs(1));
    engine.nak(&delivery, after).await.expect("retries");
    let delivery = take(&engine, "r").await;
    assert!(asked.elapsed() >= after, "after {:?}", asked.elapsed());
    assert_eq!(delivery.attempt, 3);
}

pub(crate) async fn a_delayed_hint_comes_not_before_its_time(cluster: &Cluster) {
    let engine = cluster.process().await;
    let (pushed, delay) = (Instant::now(), Duration::from_secs(1));
    engine.push(Enqueue { not_before: Some(delay), ..hint("r", "late") }).await.expect("pushes");
    push(&engine, "r", "now").await;
    let first = take(&engine, "r").await;
    engine.ack(&first).await.expect("settles");
    let second = take(&engine, "r").await;
    assert!(pushed.elapsed() >= delay, "after {:?}", pushed.elapsed());
    assert_eq!([first.id.as_str(), second.id.as_str()], ["now", "late"]);
    assert_eq!((&second.payload[..], second.attempt), (&b"late"[..], 1));
}

pub(crate) async fn routes_are_separate(cluster: &Cluster) {
    let engine = cluster.process().await;
    for route in ["r", "r.s", "q.r"] {
        push(&engine, route, &route.replace('.', "-")).await;
    }
    for route in ["r.s", "q.r", "r"] {
        let delivery = take(&engine, route).await;
        assert_eq!(delivery.id, route.replace('.', "-"));
        engine.ack(&delivery).await.expect("settles");
        depth_becomes(&engine, route, 0).await;
    }
    assert_eq!(engine.depth("never.used").await, Ok(0));
}

pub(crate) async fn a_pattern_stands_for_all_its_routes(cluster: &Cluster) {
    let [one, two] = [cluster.process().await, cluster.process().await];
    for route in ["r.1", "r.2", "s.1", "s.2", "r", "r.1.1"] {
        push(&one, route, &route.replace('.', "-")).await;
    }
    assert_eq!(
        [two.depth("r.*").await, two.depth("*.*").await, two.depth("q.*").await],
        [Ok(2), Ok(4), Ok(0)]
    );
    let mut ids = Vec::new();
    while ids.len() < 2 {
        for delivery in two.pull("r.*", 9, LONG).await.expect("pulls") {
            two.ack(&delivery).await.expect("settles");
            ids.push(delivery.id);
        }
    }
    assert_eq!(ids, ["r-1", "r-2"], "in the order of pushing");
    depth_becomes(&one, "r.*", 0).await;
    // the other work items are where they were
    for route in ["s.2", "s.1", "r", "r.1.1"] {
        assert_eq!(take(&two, route).await.id, route.replace('.', "-"));
    }
    let waiting = tokio::spawn({
        let two = two.clone();
        async move { take(&two, "r.*").await.id }
    });
    tokio::task::yield_now().await;
    push(&one, "r.3", "late").await;
    assert_eq!(waiting.await.expect("no panic"), "late", "also from a route that is new");
}

pub(crate) async fn a_delivery_tells_whether_more_is_ready(cluster: &Cluster) {
    let engine = cluster.process().await;
    for id in ["a", "b", "c"] {
        push(&engine, "r", id).await;
    }
    push(&engine, "other", "d").await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let delivery = take(&engine, "r").await;
        told.push((delivery.id, delivery.more));
    }
    assert_eq!(told, [("a".into(), true), ("b".into(), true), ("c".into(), false)]);
}

pub(crate) async fn a_pull_that_is_dropped_loses_no_hint(cluster: &Cluster) {
    let [one, two] = [cluster.process().await, cluster.process().await];
    let mut late = 0;
    for round in 0..200 {
        let pushing = tokio::spawn({
            let two = two.clone();
            async move { push(&two, "r", &round.to_string()).await }
        });
        // dropped at some moment around the arrival of the work item
        let steps = async {
            for _ in 0..round * 5 {
                tokio::task::yield_now().await;
            }
        };
        let pulled = tokio::select! {
            pulled = one.pull("r", 1, LONG) => Some(pulled.expect("pulls")),
            () = steps => None,
        };
        pushing.await.expect("no panic");
        let delivery = match pulled {
            Some(mut deliveries) => deliveries.pop().expect("comes"),
            None => {
                let begun = Instant::now();
                let delivery = take(&two, "r").await;
                late += usize::from(begun.elapsed() >= TIMING.redelivery / 2);
                delivery
            }
        };
        assert_eq!(delivery.id, round.to_string());
        two.ack(&delivery).await.expect("settles");
    }
    assert!(late < 20, "{late} of 200 waited for their redelivery");
}

pub(crate) async fn the_depth_counts_what_is_not_settled(cluster: &Cluster) {
    let engine = cluster.process().await;
    for id in ["a", "b", "c"] {
        push(&engine, "r", id).await;
    }
    push(&engine, "other", "d").await;
    depth_becomes(&engine, "r", 3).await;
    let delivery = take(&engine, "r").await;
    assert_eq!(engine.depth("r").await, Ok(3), "taken is not settled");
    engine.ack(&delivery).await.expect("settles");
    depth_becomes(&engine, "r", 2).await;
    engine.push(Enqueue { not_before: Some(LONG), ..hint("r", "e") }).await.expect("pushes");
    depth_becomes(&engine, "r", 3).await;
}

pub(crate) async fn settling_twice_is_settling_once(cluster: &Cluster) {
    let engine = cluster.process().await;
    for id in ["a", "b"] {
        push(&engine, "r", id).await;
    }
    let delivery = take(&engine, "r").await;
    for _ in 0..2 {
        engine.ack(&delivery).await.expect("settles");
    }
    let next = take(&engine, "r").await;
    assert_eq!((next.id.as_str(), next.attempt), ("b", 1));
    depth_becomes(&engine, "r", 1).await;
}

pub(crate) async fn many_workers_settle_everything(cluster: &Cluster) {
    const HINTS: usize = 200;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    for engine in [&one, &one, &two, &two] {
        let (engine, heard) = (engine.clone(), heard.clone());
        tokio::spawn(async move {
            loop {
                for delivery in engine.pull("r", 7, LONG).await.expect("pulls") {
                    engine.ack(&delivery).await.expect("settles");
                    if heard.send(delivery.id).is_err() {
                        return;
                    }
                }
            }
        });
    }
    for number in 0..HINTS {
        push(&one, "r", &number.to_string()).await;
    }
    let mut seen = BTreeSet::new();
    while seen.len() < HINTS {
        seen.insert(hearing.recv().await.expect("workers live"));
    }
    depth_becomes(&two, "r", 0).await;
}

pub(crate) async fn the_same_id_may_be_pushed_twice(cluster: &Cluster) {
    let engine = cluster.process().await;
    for _ in 0..2 {
        push(&engine, "r", "a").await;
    }
    // an engine may deliver it once or twice; in both cases it is delivered and can be settled
    while engine.depth("r").await.expect("counts") > 0 {
        for delivery in engine.pull("r", 1, SHORT).await.expect("pulls") {
            assert_eq!(delivery.id, "a");
            engine.ack(&delivery).await.expect("settles");
        }
    }
}

pub(crate) async fn hints_have_limits(cluster: &Cluster) {
    let engine = cluster.process().await;
    for wrong in ["", ".", "a.", ".a", "a..b", "*", ">", "a.*", "a b", "ü"] {
        assert_eq!(engine.push(hint(wrong, "a")).await, Err(QueueError::Invalid), "route {wrong:?}");
        assert_eq!(engine.push(hint("r", wrong)).await, Err(QueueError::Invalid), "id {wrong:?}");
        if wrong.ends_with('*') {
            // a legal pattern of a pull
            continue;
        }
        let pulled = engine.pull(wrong, 1, SHORT).await;
        assert_eq!(pulled.map(|deliveries| deliveries.len()), Err(QueueError::Invalid), "pull {wrong:?}");
    }
    let sized = |bytes: usize| Enqueue { payload: vec![7; bytes].into(), ..hint("r", "a") };
    assert_eq!(engine.push(sized(MAX_PAYLOAD + 1)).await, Err(QueueError::Invalid));
    engine.push(sized(MAX_PAYLOAD)).await.expect("fits");
    assert!(take(&engine, "r").await.payload == vec![7; MAX_PAYLOAD]);
}

pub(crate) async fn awkward_identities_are_ordinary_ids(cluster: &Cluster) {
    let engine = cluster.process().await;
    let mut expected: Vec<_> =
        awkward_identities().iter().map(|identity| SubjectToken::new(identity).to_string()).collect();
    for id in &expected {
        push(&engine, "r", id).await;
    }
    let mut ids = Vec::new();
    while ids.len() < expected.len() {
        let delivery = take(&engine, "r").await;
        assert_eq!(delivery.payload, delivery.id);
        engine.ack(&delivery).await.expect("settles");
        ids.push(delivery.id);
    }
    expected.sort_unstable();
    ids.sort_unstable();
    assert_eq!(ids, expected);
    depth_becomes(&engine, "r", 0).await;
}

pub(crate) async fn awkward_identities_are_ordinary_routes(cluster: &Cluster) {
    let engine = cluster.process().await;
    let identities = awkward_identities();
    let route = |identity: &str| format!("pool.{}", SubjectToken::new(identity));
    for identity in &identities {
        push(&engine, &route(identity), SubjectToken::new(identity).as_str()).await;
    }
    for identity in &identities {
        let delivery = take(&engine, &route(identity)).await;
        assert_eq!(delivery.id, SubjectToken::new(identity).as_str());
        engine.ack(&delivery).await.expect("settles");
        depth_becomes(&engine, &route(identity), 0).await;
    }
}
