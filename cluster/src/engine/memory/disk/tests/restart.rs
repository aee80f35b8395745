//! Tests of the state after a restart.

use std::collections::BTreeSet;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

const LONG: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
enum Act {
    Put(u8, Option<u64>),
    Delete(u8),
    Commit(u8, u8),
    Push,
    Take { settle: bool },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..6, prop::option::of(1000u64..2000)).prop_map(|(key, ttl)| Act::Put(key, ttl)),
        2 => (0u8..6).prop_map(Act::Delete),
        1 => (0u8..6, 6u8..9).prop_map(|(a, b)| Act::Commit(a, b)),
        2 => Just(Act::Push),
        2 => any::<bool>().prop_map(|settle| Act::Take { settle }),
        2 => Just(Act::Restart),
    ]
}

/// The expected state of the work items and revisions.
#[derive(Default)]
struct Seen {
    pushed: u64,
    open: BTreeSet<String>,
    newest: u64,
}

/// Returns the revisions and rows of all buckets.
async fn rows(engine: &Engine) -> Vec<(u64, Vec<Entry>)> {
    let mut rows = Vec::new();
    for kv in Bucket::ALL.map(|bucket| engine.kv(bucket)) {
        rows.push((kv.commit(Vec::new()).await.unwrap(), kv.list("").await.unwrap()));
    }
    rows
}

async fn perform(engine: &Engine, act: Act, seen: &mut Seen) {
    let kv = engine.kv(Bucket::Jobs);
    let key = |number: u8| format!("k.{number}");
    match act {
        Act::Put(number, ttl) => {
            let ttl = ttl.map(Duration::from_secs);
            let meta = Bytes::from(vec![number; usize::from(number)]);
            let put = Put { ttl, meta, ..Put::new(key(number), "v", Precondition::Any) };
            let rev = kv.put(put).await.unwrap();
            assert!(rev > seen.newest, "revision {rev} after {}", seen.newest);
            seen.newest = rev;
        }
        Act::Delete(number) => kv.delete(&key(number), Precondition::Any).await.unwrap(),
        Act::Commit(one, two) => {
            let batch = vec![
                BatchOp::Put(Put::new(key(two), "both", Precondition::Any)),
                BatchOp::Delete { key: key(one), expect: Precondition::Any },
            ];
            seen.newest = kv.commit(batch).await.unwrap();
        }
        Act::Push => {
            seen.pushed += 1;
            engine.push(work_item(&seen.pushed.to_string())).await.unwrap();
            seen.open.insert(seen.pushed.to_string());
        }
        Act::Take { settle } => {
            if let Some(delivery) = take(engine, Duration::ZERO).await.filter(|_| settle) {
                engine.ack(&delivery).await.unwrap();
                seen.open.remove(&delivery.id);
            }
        }
        Act::Restart => unreachable!("the test does that"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_restart_changes_nothing_that_a_reader_can_see(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (platter, mut seen) = (Arc::default(), Seen::default());
            let (mut engine, _) = start(&platter);
            for act in acts.into_iter().chain([Act::Restart]) {
                if !matches!(act, Act::Restart) {
                    perform(&engine, act, &mut seen).await;
                    continue;
                }
                let before = rows(&engine).await;
                drop(engine);
                let kept;
                (engine, kept) = start(&platter);
                assert_eq!(rows(&engine).await, before);
                let counted = before.iter().map(|(_, rows)| rows.len()).sum();
                assert_eq!(kept, RecoveryStats { rows: counted, work_items: seen.open.len() });
                assert_eq!(engine.depth("r").await, Ok(seen.open.len() as u64));
            }
            let again = engine.pull("r", usize::MAX, Duration::ZERO).await.unwrap();
            assert_eq!(again.into_iter().map(|delivery| delivery.id).collect::<BTreeSet<_>>(), seen.open);
        });
    }
}

#[tokio::test]
async fn what_expires_while_nobody_runs_has_expired_and_the_rest_expires_in_its_time() {
    let platter = Arc::default();
    let (engine, _) = start(&platter);
    let written = Instant::now();
    for (key, ttl) in [("brief", 1), ("short", 3), ("long", 3600)] {
        let ttl = Some(Duration::from_secs(ttl));
        engine.kv(Bucket::Pages).put(Put { ttl, ..Put::new(key, "v", Precondition::Any) }).await.unwrap();
    }
    drop(engine);
    tokio::time::sleep(SECOND).await;
    let (engine, kept) = start(&platter);
    assert_eq!(kept.rows, 2);
    let pages = engine.kv(Bucket::Pages);
    assert_eq!(value(&pages, "brief").await, Ok(None));
    let mut watch = pages.watch("", WatchMode::Meta).await.unwrap();
    let deleted = WatchEvent::Delete { key: "short".to_owned(), expired: Some(true) };
    while watch.next().await.unwrap() != deleted {}
    let lived = written.elapsed();
    assert!(lived >= 3 * SECOND - Duration::from_millis(5) && lived < 5 * SECOND, "{lived:?}");
    assert_eq!(value(&pages, "long").await.unwrap().as_deref(), Some("v"));
    drop((watch, pages, engine));
    assert_eq!(start(&platter).1.rows, 1, "what expired is gone from the disk");
}

#[tokio::test]
async fn a_delay_goes_on_over_a_restart_and_a_taken_hint_comes_again_at_once() {
    let platter = Arc::default();
    let (engine, _) = start(&platter);
    let pushed = Instant::now();
    engine.push(Enqueue { not_before: Some(SECOND), ..work_item("late") }).await.unwrap();
    engine.push(work_item("again")).await.unwrap();
    let delivery = take(&engine, LONG).await.unwrap();
    engine.nak(&delivery, 2 * SECOND).await.unwrap();
    engine.push(work_item("taken")).await.unwrap();
    assert_eq!(take(&engine, LONG).await.unwrap().id, "taken");
    drop(engine);
    let (engine, kept) = start(&platter);
    assert_eq!(kept.work_items, 3);
    assert_eq!(take(&engine, Duration::ZERO).await.unwrap().id, "taken");
    for (id, seconds) in [("late", 1), ("again", 2)] {
        assert_eq!(take(&engine, LONG).await.unwrap().id, id);
        // allow 5 ms, because the wall clock counts in milliseconds
        assert!(pushed.elapsed() >= SECOND * seconds - Duration::from_millis(5), "{:?}", pushed.elapsed());
    }
}

#[tokio::test]
async fn leases_end_with_their_processes_and_no_epoch_comes_twice() {
    let platter = Arc::default();
    let (engine, _) = start(&platter);
    let ttl = Some(TIMING.lease_ttl);
    let lease = Put { ttl, ..Put::new("lease.p01", "v", Precondition::Absent) };
    let epoch = engine.kv(Bucket::Nodes).put(lease.clone()).await.unwrap();
    drop(engine);
    let (engine, kept) = start(&platter);
    assert_eq!(kept.rows, 0);
    let next = engine.kv(Bucket::Nodes).put(lease).await.unwrap();
    assert!(next > epoch, "{next} after {epoch}");
}
