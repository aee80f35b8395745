//! Tests of writes during conflicts and outages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{BatchOp, Bucket, Consistency, Precondition, Put, Resolution, WriteError};

use crate::proxy::Proxy;
use crate::server::{Server, TIMING, Trio, connect, eventually, url};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_share_a_fence_wait_for_each_other_instead_of_failing() {
    let trio = Trio::start();
    let kv = trio.engine().await.kv(Bucket::Pages);
    let fence = kv.put(Put::new("fence", "", Precondition::Absent)).await.expect("writes");
    // replicated streams refuse a second write under one fence while the first is in flight
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let kv = kv.clone();
        writers.spawn(async move {
            let doc = BatchOp::Put(Put::new(format!("doc.{number}"), "v", Precondition::Absent));
            kv.commit(vec![doc, BatchOp::Check { key: "fence".to_owned(), rev: fence }]).await
        });
    }
    let outcomes = writers.join_all().await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(kv.list("doc.").await.expect("lists").len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_parallel_writers_of_one_replicated_key_one_wins() {
    let trio = Trio::start();
    let kv = trio.engine().await.kv(Bucket::Pages);
    let rev = kv.put(Put::new("k", "", Precondition::Absent)).await.expect("writes");
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let kv = kv.clone();
        writers.spawn(async move { kv.put(Put::new("k", number.to_string(), Precondition::Rev(rev))).await });
    }
    let outcomes = writers.join_all().await;
    let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.ok()).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let conflict = Err(WriteError::Conflict { actual: Some(won[0]) });
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() || *outcome == conflict), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_a_killed_leader() {
    let mut trio = Trio::start();
    let kv = trio.engine().await.kv(Bucket::Pages);
    let mut acknowledged = BTreeMap::new();
    for (number, server) in trio.0.iter_mut().enumerate() {
        for key in 0..50 {
            let key = format!("k.{number}.{key}");
            // one of the three servers leads the stream; after its kill, outcomes are unknown for a while
            if key.ends_with(".25") {
                server.kill();
            }
            eventually("is written", async || {
                let put = Put::new(key.as_str(), "v", Precondition::Absent);
                let op = put.op;
                let rev = match kv.put(put).await {
                    Ok(rev) => rev,
                    Err(WriteError::Conflict { actual: Some(rev) }) => rev,
                    Err(_) => match kv.resolve_unknown(&key, op).await {
                        Ok(Resolution::Written { rev }) => rev,
                        _ => return false,
                    },
                };
                acknowledged.insert(key.clone(), rev);
                true
            })
            .await;
        }
        server.start_again();
    }
    eventually("everything is there", async || {
        let listed = kv.list("").await.unwrap_or_default();
        listed.into_iter().map(|entry| (entry.key, entry.rev)).collect::<BTreeMap<_, _>>() == acknowledged
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_a_connection_is_refused_at_once() {
    let mut server = Server::start();
    let engine = server.engine().await;
    let kv = engine.kv(Bucket::Pages);
    server.kill();
    eventually("down", async || {
        let begun = Instant::now();
        let outcome = kv.put(Put::new("k", "v", Precondition::Any)).await;
        assert!(outcome == Err(WriteError::Down) || outcome == Err(WriteError::Unknown), "{outcome:?}");
        outcome == Err(WriteError::Down) && begun.elapsed() < TIMING.operation / 4
    })
    .await;
    assert!(kv.get("k", Consistency::Latest).await.is_err());
    assert!(kv.list("").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_dies_without_a_word_leaves_an_unknown_outcome_and_then_a_broken_link() {
    let server = Server::start();
    let wire = Proxy::to(server.port);
    let engine = connect(vec![url(wire.port)], 1).await.expect("connects");
    let kv = engine.kv(Bucket::Pages);
    wire.stick();
    let begun = Instant::now();
    assert_eq!(kv.put(Put::new("k", "v", Precondition::Any)).await, Err(WriteError::Unknown));
    assert!(begun.elapsed() < TIMING.operation * 2);
    let noticed = TIMING.nats_ping * 3 + Duration::from_secs(2);
    let down = async || kv.put(Put::new("k", "v", Precondition::Any)).await == Err(WriteError::Down);
    tokio::time::timeout(noticed, eventually("down", down)).await.expect("noticed by pings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_jetstream_is_a_clear_refusal() {
    let server = Server::with(|_| Vec::new());
    let refusal = connect(vec![server.url()], 1).await.err().expect("is refused").to_string();
    assert!(refusal.contains("JetStream"), "{refusal}");
}
