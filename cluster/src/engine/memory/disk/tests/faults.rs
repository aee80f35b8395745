//! Tests of a slow, full or broken disk: no caller gets a result that is not on disk.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::Poll;

use super::*;

async fn link_becomes(engine: &Engine, wanted: impl Fn(&ConnectionState) -> bool) {
    let mut link = engine.link();
    let change = link.wait_for(wanted);
    tokio::time::timeout(Duration::from_secs(20), change).await.expect("the link changes").unwrap();
}

/// Returns whether a future is still pending.
async fn is_pending(future: &mut Pin<Box<impl Future>>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_and_no_watch_is_told_before_it_is_on_disk() {
    let platter = Arc::<Platter>::default();
    let (engine, _) = start(&platter);
    let kv = engine.kv(Bucket::State);
    put(&kv, "old", "v").await.unwrap();
    let mut watch = kv.watch("", WatchMode::Value).await.unwrap();
    while watch.next().await.unwrap() != WatchEvent::Live {}

    let held = platter.hold();
    let mut writing = Box::pin(put(&kv, "new", "v"));
    assert!(is_pending(&mut writing).await);
    platter.until_held();
    let mut reading = Box::pin(value(&kv, "new"));
    let mut listing = Box::pin(kv.list(""));
    let mut conflicting = Box::pin(kv.put(Put::new("new", "other", Precondition::Absent)));
    assert!(is_pending(&mut reading).await);
    assert!(is_pending(&mut listing).await);
    assert!(is_pending(&mut conflicting).await, "a conflict tells a revision");
    assert!(watch.try_next().is_none());
    assert_eq!(value(&kv, "old").await.unwrap().as_deref(), Some("v"), "what is kept is answered at once");
    assert!(is_pending(&mut writing).await);

    drop(held);
    let rev = writing.await.unwrap();
    assert_eq!(conflicting.await, Err(WriteError::Conflict { actual: Some(rev) }));
    assert_eq!(reading.await.unwrap().as_deref(), Some("v"));
    assert_eq!(listing.await.unwrap().len(), 2);
    assert!(matches!(watch.next().await, Some(WatchEvent::Put(entry)) if entry.rev == rev));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_the_same_time_share_one_sync() {
    const WRITERS: usize = 64;
    let platter = Arc::<Platter>::default();
    let (engine, _) = start(&platter);
    let kv = engine.kv(Bucket::State);
    put(&kv, "first", "v").await.unwrap();
    let before = platter.syncs();
    put(&kv, "second", "v").await.unwrap();
    let alone = platter.syncs() - before;

    let held = platter.hold();
    let keys: Vec<_> = (0..WRITERS).map(|number| format!("k.{number}")).collect();
    let mut writing: Vec<_> = keys.iter().map(|key| Box::pin(put(&kv, key, "v"))).collect();
    // the first write has a transaction of its own, the others wait and share the next one
    for writing in &mut writing {
        assert!(is_pending(writing).await);
        platter.until_held();
    }
    let before = platter.syncs();
    drop(held);
    for writing in writing {
        writing.await.unwrap();
    }
    assert!(platter.syncs() - before <= 2 * alone, "{} syncs, {alone} for one", platter.syncs() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_takes_up_where_it_left_when_it_has_room() {
    let platter = Arc::<Platter>::default();
    let (engine, _) = start(&platter);
    let kv = engine.kv(Bucket::State);
    put(&kv, "old", "v").await.unwrap();

    platter.fail(Some(ErrorKind::StorageFull));
    let mut new = Put::new("new", "v", Precondition::Absent);
    new.op = crate::engine::OperationId([7; 16]);
    assert_eq!(kv.put(new).await, Err(WriteError::Unknown), "it may be there, now or a moment later");
    link_becomes(&engine, |link| matches!(link, ConnectionState::Down { .. })).await;
    assert_eq!(put(&kv, "old", "w").await, Err(WriteError::Down));
    assert_eq!(engine.push(work_item("a")).await, Err(crate::engine::QueueError::Down));
    assert_eq!(value(&kv, "new").await, Err(Unavailable), "the state is not known yet");
    assert!(kv.watch("", WatchMode::Meta).await.is_err(), "it would hear of nothing");
    assert_eq!(value(&kv, "old").await.unwrap().as_deref(), Some("v"), "what is kept is still read");

    platter.fail(None);
    link_becomes(&engine, |link| matches!(link, ConnectionState::Up { generation: 2 })).await;
    assert_eq!(value(&kv, "new").await.unwrap().as_deref(), Some("v"));
    put(&kv, "old", "w").await.unwrap();
    drop((kv, engine));
    let (engine, _) = start(&platter);
    let kv = engine.kv(Bucket::State);
    assert_eq!(value(&kv, "new").await.unwrap().as_deref(), Some("v"));
    assert_eq!(value(&kv, "old").await.unwrap().as_deref(), Some("w"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_nothing_is_believed_until_a_new_start() {
    let platter = Arc::<Platter>::default();
    let (engine, _) = start(&platter);
    let kv = engine.kv(Bucket::State);
    put(&kv, "old", "v").await.unwrap();
    platter.fail(Some(ErrorKind::Other));
    assert_eq!(put(&kv, "new", "v").await, Err(WriteError::Unknown));
    link_becomes(&engine, |link| matches!(link, ConnectionState::Down { .. })).await;
    platter.fail(None);
    assert_eq!(put(&kv, "old", "w").await, Err(WriteError::Down), "a disk that failed once is not trusted");
    assert_eq!(value(&kv, "old").await.unwrap().as_deref(), Some("v"));
    assert_eq!(value(&kv, "new").await, Err(Unavailable));
    drop((kv, engine));
    let (engine, _) = start(&platter);
    assert_eq!(value(&engine.kv(Bucket::State), "old").await.unwrap().as_deref(), Some("v"));
}
