//! Tests of work items during outages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{Engine, Enqueue, QueueMessage};

use crate::server::{Server, Trio};

const ROUTE: &str = "pool.lane";

fn hint(id: &str, not_before: Option<Duration>) -> Enqueue {
    Enqueue { id: id.to_owned(), route: ROUTE.to_owned(), payload: "p".into(), not_before }
}

/// Takes the next delivery. Retries through failures of the server.
async fn take(engine: &Engine) -> QueueMessage {
    let taking = async {
        loop {
            let pulled = engine.pull(ROUTE, 1, Duration::from_secs(5)).await;
            if let Some(delivery) = pulled.unwrap_or_default().pop() {
                return delivery;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taking).await.expect("is delivered")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_hint_survives_a_killed_server_and_keeps_its_time() {
    let mut server = Server::start();
    let engine = server.engine().await;
    let (pushed, delay) = (Instant::now(), Duration::from_secs(3));
    engine.push(hint("late", Some(delay))).await.expect("pushes");
    engine.push(hint("ready", None)).await.expect("pushes");
    server.kill();
    server.start_again();
    // in any order: a server may take longer than the delay to start
    let mut taken_ids = BTreeSet::new();
    while taken_ids.len() < 2 {
        let taken = take(&engine).await;
        // the clock of the server is known to some milliseconds
        let early = taken.id == "late" && pushed.elapsed() + Duration::from_millis(10) < delay;
        assert!(!early && taken.attempt == 1, "{taken:?} after {:?}", pushed.elapsed());
        engine.ack(&taken).await.expect("settles");
        assert!(taken_ids.insert(taken.id), "each work item once");
    }
    assert_eq!(engine.depth(ROUTE).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_given_up_takes_no_hint_along() {
    let server = Server::start();
    let engine = server.engine().await;
    for round in 0..10 {
        let waiting = engine.pull(ROUTE, 5, Duration::from_secs(60));
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
        engine.push(hint(&format!("h{round}"), None)).await.expect("pushes");
        let delivery = take(&engine).await;
        assert_eq!((delivery.id, delivery.attempt), (format!("h{round}"), 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_has_one_consumer_however_many_pull() {
    let trio = Trio::start();
    let engines = [trio.engine().await, trio.engine().await];
    for number in 0..20 {
        engines[0].push(hint(&number.to_string(), None)).await.expect("pushes");
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        for engine in &engines {
            for delivery in engine.pull(ROUTE, 3, Duration::from_millis(500)).await.expect("pulls") {
                engine.ack(&delivery).await.expect("settles");
                seen.insert(delivery.id);
            }
        }
    }
    assert_eq!(trio.0[0].consumers(), 1);
}
