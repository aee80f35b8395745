//! Tests of watches during outages.

use std::collections::BTreeMap;
use std::time::Duration;

use pagewire_cluster::engine::{
    Bucket, ConnectionState, Engine, Kv, Precondition, Put, Watch, WatchEvent, WatchMode,
};

use crate::proxy::Proxy;
use crate::server::{Server, connect, eventually, url};

async fn write(kv: &Kv, key: &str) -> u64 {
    kv.put(Put::new(key, "v", Precondition::Any)).await.expect("writes")
}

async fn next(watch: &mut Watch) -> WatchEvent {
    let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    event.expect("something happens").expect("the engine lives")
}

/// Returns the entries that exist at the start.
async fn snapshot(watch: &mut Watch) -> BTreeMap<String, u64> {
    let mut view = BTreeMap::new();
    loop {
        match next(watch).await {
            WatchEvent::Put(entry) => drop(view.insert(entry.key, entry.rev)),
            WatchEvent::Live => return view,
            event @ WatchEvent::Delete { .. } => panic!("{event:?}"),
        }
    }
}

/// Follows until the key `end` exists. A second `Live` fails the test.
async fn follow(view: &mut BTreeMap<String, u64>, watch: &mut Watch, end: &str) {
    while !view.contains_key(end) {
        match next(watch).await {
            WatchEvent::Put(entry) => drop(view.insert(entry.key, entry.rev)),
            WatchEvent::Delete { key, .. } => assert!(view.remove(&key).is_some(), "{key} was not there"),
            WatchEvent::Live => panic!("a second time"),
        }
    }
}

async fn truth(kv: &Kv) -> BTreeMap<String, u64> {
    kv.list("").await.expect("lists").into_iter().map(|entry| (entry.key, entry.rev)).collect()
}

/// Puts and deletes a few keys and ignores the outcomes.
async fn churn(engine: Engine) {
    let kv = engine.kv(Bucket::Pages);
    for round in 0_u32.. {
        let key = format!("page.{}", round * 7 % 31);
        if round % 3 == 0 {
            let _ = kv.delete(&key, Precondition::Any).await;
        } else {
            let _ = kv.put(Put::new(key, "v", Precondition::Any)).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Follows until the view is what the leader has. A write with a lost reply may be stored after the write of a later key.
async fn follow_to_truth(view: &mut BTreeMap<String, u64>, watch: &mut Watch, kv: &Kv) {
    eventually("the truth", async || {
        while let Some(event) = watch.try_next() {
            match event {
                WatchEvent::Put(entry) => drop(view.insert(entry.key, entry.rev)),
                WatchEvent::Delete { key, .. } => drop(view.remove(&key)),
                WatchEvent::Live => panic!("a second time"),
            }
        }
        *view == truth(kv).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_misses_nothing_when_the_server_is_killed() {
    let mut server = Server::start();
    let [writer, reader] = [server.engine().await, server.engine().await];
    let kv = reader.kv(Bucket::Pages);
    let mut watch = kv.watch("", WatchMode::Meta).await.expect("watches");
    let mut view = snapshot(&mut watch).await;
    let pace = Duration::from_millis(30);
    let mut slow = kv.watch_at_pace("", WatchMode::Meta, pace).await.expect("watches");
    let mut slow_view = snapshot(&mut slow).await;
    let churning = tokio::spawn(churn(writer));
    for number in 0..3 {
        // kill the server while writes are running
        let writes = write(&kv, &format!("before.{number}")).await + 200;
        eventually("much is written", async || write(&kv, "clock").await > writes).await;
        server.kill();
        server.start_again();
        eventually("it is back", async || kv.put(Put::new("clock", "v", Precondition::Any)).await.is_ok())
            .await;
    }
    churning.abort();
    assert!(churning.await.is_err_and(|error| error.is_cancelled()));
    eventually("an end", async || kv.put(Put::new("end", "v", Precondition::Any)).await.is_ok()).await;
    follow(&mut view, &mut watch, "end").await;
    follow_to_truth(&mut view, &mut watch, &kv).await;
    follow(&mut slow_view, &mut slow, "end").await;
    follow_to_truth(&mut slow_view, &mut slow, &kv).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_at_a_pace_yields_all_that_exists_and_then_how_each_key_stands() {
    let server = Server::start();
    let kv = server.engine().await.kv(Bucket::Pages);
    write(&kv, "other.key").await;
    // more than one pull yields
    let writes = (0..2_500).map(|number| format!("page.{number}")).map(async |key| write(&kv, &key).await);
    futures_util::future::join_all(writes).await;
    let pace = Duration::from_millis(200);
    let mut watch = kv.watch_at_pace("page.", WatchMode::Meta, pace).await.expect("watches");
    let mut view = snapshot(&mut watch).await;
    assert_eq!(view.len(), 2_500);
    for round in 0..3 {
        kv.delete(&format!("page.{round}"), Precondition::Any).await.expect("deletes");
        write(&kv, "page.brief").await;
        kv.delete("page.brief", Precondition::Any).await.expect("deletes");
        for _ in 0..20 {
            write(&kv, "page.often").await;
        }
        let end = format!("page.end-{round}");
        write(&kv, &end).await;
        follow(&mut view, &mut watch, &end).await;
        let standing = kv.list("page.").await.expect("lists");
        assert_eq!(view, standing.into_iter().map(|entry| (entry.key, entry.rev)).collect());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_a_process_is_cut_off_is_told_once_it_is_back() {
    let server = Server::start();
    let wire = Proxy::to(server.port);
    let reader = connect(vec![url(wire.port)], 1).await.expect("connects");
    let writer = server.engine().await.kv(Bucket::Pages);
    for key in ["same", "changed", "deleted", "deleted and back"].map(|key| key.replace(' ', "-")) {
        write(&writer, &key).await;
    }
    let expiring =
        Put { ttl: Some(Duration::from_secs(2)), ..Put::new("expired", "v", Precondition::Absent) };
    writer.put(expiring).await.expect("writes");
    let mut watch = reader.kv(Bucket::Pages).watch("", WatchMode::Value).await.expect("watches");
    assert_eq!(snapshot(&mut watch).await.len(), 5);

    wire.cut();
    let mut link = reader.link();
    link.wait_for(|link| matches!(link, ConnectionState::Down { .. })).await.expect("the engine lives");
    let changed = write(&writer, "changed").await;
    writer.delete("deleted", Precondition::Any).await.expect("deletes");
    writer.delete("deleted-and-back", Precondition::Any).await.expect("deletes");
    let back = write(&writer, "deleted-and-back").await;
    let new = write(&writer, "new").await;
    eventually("expires", async || !truth(&writer).await.contains_key("expired")).await;
    wire.heal();

    let (mut puts, mut deletes) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..5 {
        match next(&mut watch).await {
            WatchEvent::Put(entry) => drop(puts.insert(entry.key, entry.rev)),
            WatchEvent::Delete { key, expired } => drop(deletes.insert(key, expired)),
            WatchEvent::Live => panic!("a second time"),
        }
    }
    let expected = [("changed", changed), ("deleted-and-back", back), ("new", new)];
    assert_eq!(puts, expected.map(|(key, rev)| (key.to_owned(), rev)).into());
    let expected = [("deleted", Some(false)), ("expired", Some(true))];
    assert_eq!(deletes, expected.map(|(key, expired)| (key.to_owned(), expired)).into());
    let end = write(&writer, "end").await;
    assert!(matches!(next(&mut watch).await, WatchEvent::Put(entry) if entry.rev == end), "nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_everything_is_believed_and_gets_its_streams_again() {
    let mut server = Server::start();
    let engine = server.engine().await;
    let kv = engine.kv(Bucket::Pages);
    for key in ["a", "b", "b", "b"] {
        write(&kv, key).await;
    }
    let mut watch = kv.watch("", WatchMode::Meta).await.expect("watches");
    assert_eq!(snapshot(&mut watch).await.len(), 2);
    server.kill();
    server.wipe();
    server.start_again();
    let mut gone = [next(&mut watch).await, next(&mut watch).await].map(|event| match event {
        WatchEvent::Delete { key, expired: None } => key,
        event => panic!("{event:?}"),
    });
    gone.sort_unstable();
    assert_eq!(gone, ["a", "b"]);
    // the revision is lower than those seen before
    let rev = write(&kv, "b").await;
    assert!(matches!(next(&mut watch).await, WatchEvent::Put(entry) if entry.key == "b" && entry.rev == rev));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_start_again_or_end_leave_no_consumer_behind() {
    let server = Server::start();
    let wire = Proxy::to(server.port);
    let engine = connect(vec![url(wire.port)], 1).await.expect("connects");
    let kv = engine.kv(Bucket::Pages);
    let mut watch = kv.watch("", WatchMode::Meta).await.expect("watches");
    snapshot(&mut watch).await;
    let mut link = engine.link();
    for round in 0..5 {
        wire.cut();
        link.wait_for(|link| matches!(link, ConnectionState::Down { .. })).await.expect("the engine lives");
        wire.heal();
        let key = format!("round.{round}");
        eventually("it is back", async || {
            kv.put(Put::new(key.as_str(), "v", Precondition::Any)).await.is_ok()
        })
        .await;
        follow(&mut BTreeMap::new(), &mut watch, &key).await;
    }
    eventually("one consumer", async || server.consumers() == 1).await;
    drop(watch);
    eventually("no consumer", async || server.consumers() == 0).await;
}
