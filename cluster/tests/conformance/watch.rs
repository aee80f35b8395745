//! Tests of watches: the existing entries, `Live`, then changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{
    BatchOp, Bucket, Entry, Kv, MAX_COMMIT, MAX_WATCHES, Precondition, Put, Watch, WatchEvent, WatchMode,
};

use crate::cluster::{Cluster, eventually};

const SECOND: Duration = Duration::from_secs(1);

async fn pages(cluster: &Cluster) -> Kv {
    cluster.process().await.kv(Bucket::Pages)
}

async fn write(kv: &Kv, key: &str, value: &str) -> u64 {
    let put =
        Put { meta: format!("meta of {value}").into(), ..Put::new(key, value.to_owned(), Precondition::Any) };
    kv.put(put).await.expect("writes")
}

async fn next(watch: &mut Watch) -> WatchEvent {
    watch.next().await.expect("the engine lives")
}

/// Returns the entries before `Live`.
async fn snapshot(watch: &mut Watch) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        match next(watch).await {
            WatchEvent::Put(entry) => entries.push(entry),
            WatchEvent::Live => return entries,
            WatchEvent::Delete { key, .. } => panic!("{key} did not stand"),
        }
    }
}

async fn put_of(watch: &mut Watch) -> Entry {
    match next(watch).await {
        WatchEvent::Put(entry) => entry,
        other => panic!("expected a put, got {other:?}"),
    }
}

fn lasting(key: &str, seconds: u64) -> Put {
    Put { ttl: Some(Duration::from_secs(seconds)), ..Put::new(key, "v", Precondition::Absent) }
}

fn deleted(key: &str, expired: bool) -> WatchEvent {
    WatchEvent::Delete { key: key.to_owned(), expired: Some(expired) }
}

/// The state that a watch reports. Asserts that the revision of a key never decreases.
#[derive(Default)]
struct View(BTreeMap<String, u64>);

impl View {
    fn follow(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Put(entry) => {
                let before = self.0.insert(entry.key, entry.rev);
                assert!(before.is_none_or(|before| before < entry.rev), "went back in time");
            }
            WatchEvent::Delete { key, .. } => drop(self.0.remove(&key)),
            WatchEvent::Live => {}
        }
    }
}

pub(crate) async fn one_watch_shows_the_keys_below_several_prefixes_and_no_other(cluster: &Cluster) {
    let kv = pages(cluster).await;
    for key in ["a.1.x", "a.2.x", "a.3.x"] {
        write(&kv, key, "old").await;
    }
    let prefixes = vec!["a.1.".to_owned(), "a.3.".to_owned()];
    let mut watch = kv.watch_several(prefixes, WatchMode::Meta).await.expect("watches");
    let mut seen: Vec<String> = snapshot(&mut watch).await.into_iter().map(|entry| entry.key).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["a.1.x", "a.3.x"]);
    for key in ["a.2.y", "a.3.y"] {
        write(&kv, key, "new").await;
    }
    assert_eq!(put_of(&mut watch).await.key, "a.3.y");
}

pub(crate) async fn a_watch_yields_what_stands_then_live_then_changes(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    write(&one, "page.a", "old").await;
    let a = write(&one, "page.a", "1").await;
    let b = write(&one, "page.b", "2").await;
    write(&one, "page.c", "3").await;
    one.delete("page.c", Precondition::Any).await.expect("deletes");
    let mut watch = two.watch("page.", WatchMode::Value).await.expect("watches");
    let mut stood = snapshot(&mut watch).await;
    stood.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        stood.iter().map(|e| (e.key.as_str(), e.rev)).collect::<Vec<_>>(),
        [("page.a", a), ("page.b", b)]
    );
    assert_eq!(stood, one.list("page.").await.expect("lists"), "whole entries");
    let c = write(&one, "page.c", "4").await;
    let entry = put_of(&mut watch).await;
    assert_eq!((entry.key.as_str(), entry.rev, &entry.value[..]), ("page.c", c, &b"4"[..]));
    one.delete("page.a", Precondition::Rev(a)).await.expect("deletes");
    let deleted = WatchEvent::Delete { key: "page.a".into(), expired: Some(false) };
    assert_eq!(next(&mut watch).await, deleted);
}

pub(crate) async fn a_meta_watch_carries_no_values(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    write(&one, "page.a", "1").await;
    let mut watch = two.watch("page.", WatchMode::Meta).await.expect("watches");
    let mut seen = snapshot(&mut watch).await;
    write(&one, "page.b", "2").await;
    seen.push(put_of(&mut watch).await);
    let listed = one.list("page.").await.expect("lists");
    let expected: Vec<_> = listed.into_iter().map(|entry| Entry { value: "".into(), ..entry }).collect();
    assert_eq!(seen, expected, "meta, revision and operation id are there");
}

pub(crate) async fn a_watch_hears_only_what_is_below_its_prefix(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let outside = ["page", "pages.a", "pag.a", "other.page.a"];
    for key in outside.into_iter().chain(["page.stood"]) {
        write(&one, key, "v").await;
    }
    let mut watch = two.watch("page.", WatchMode::Meta).await.expect("watches");
    let mut everything = two.watch("", WatchMode::Meta).await.expect("watches");
    assert_eq!(snapshot(&mut watch).await.len(), 1);
    assert_eq!(snapshot(&mut everything).await.len(), 5);
    for key in outside {
        write(&one, key, "changed").await;
        one.delete(key, Precondition::Any).await.expect("deletes");
    }
    let other_bucket = cluster.process().await.kv(Bucket::Nodes);
    write(&other_bucket, "page.elsewhere", "v").await;
    write(&one, "page.a.b", "v").await;
    assert_eq!(put_of(&mut watch).await.key, "page.a.b");
    let mut view = View::default();
    while !view.0.contains_key("page.a.b") {
        view.follow(next(&mut everything).await);
    }
    assert_eq!(view.0.len(), 1, "everything else was deleted");
}

pub(crate) async fn a_watch_tells_deletion_from_expiry(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let mut watch = two.watch("", WatchMode::Meta).await.expect("watches");
    assert_eq!(snapshot(&mut watch).await, []);
    for key in ["deleted", "expired"] {
        one.put(lasting(key, 1)).await.expect("writes");
        assert_eq!(put_of(&mut watch).await.key, key);
    }
    one.delete("deleted", Precondition::Any).await.expect("deletes");
    assert_eq!(next(&mut watch).await, deleted("deleted", false));
    assert_eq!(next(&mut watch).await, deleted("expired", true));
    // a key that was deleted before its expiry does not expire in addition
    write(&one, "end", "v").await;
    assert_eq!(put_of(&mut watch).await.key, "end");
}

pub(crate) async fn a_watch_sees_expiry_on_time(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let mut watch = two.watch("", WatchMode::Meta).await.expect("watches");
    assert_eq!(snapshot(&mut watch).await, []);
    one.put(lasting("late", 4)).await.expect("writes");
    one.put(lasting("early", 1)).await.expect("writes");
    for key in ["late", "early"] {
        assert_eq!(put_of(&mut watch).await.key, key);
    }
    assert_eq!(next(&mut watch).await, deleted("early", true));
    // the engine now waits for the expiry of `late`, and must notice that `sooner` expires first
    let begun = Instant::now();
    one.put(lasting("sooner", 1)).await.expect("writes");
    let acknowledged = Instant::now();
    assert_eq!(put_of(&mut watch).await.key, "sooner");
    assert_eq!(next(&mut watch).await, deleted("sooner", true));
    assert!(begun.elapsed() >= SECOND, "not before its time");
    assert!(acknowledged.elapsed() < SECOND * 2, "to the second");
    assert_eq!(next(&mut watch).await, deleted("late", true));
}

pub(crate) async fn a_watch_sees_commits(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let fence = write(&one, "fence", "v").await;
    write(&one, "a", "1").await;
    let mut watch = two.watch("", WatchMode::Value).await.expect("watches");
    assert_eq!(snapshot(&mut watch).await.len(), 2);
    let batch = vec![
        BatchOp::Put(Put::new("b", "2", Precondition::Absent)),
        BatchOp::Delete { key: "a".into(), expect: Precondition::Any },
        BatchOp::Check { key: "fence".into(), rev: fence },
        BatchOp::Put(Put::new("c", "3", Precondition::Absent)),
    ];
    one.commit(batch).await.expect("commits");
    assert_eq!(put_of(&mut watch).await.key, "b");
    assert_eq!(next(&mut watch).await, WatchEvent::Delete { key: "a".into(), expired: Some(false) });
    assert_eq!(put_of(&mut watch).await.key, "c");
}

pub(crate) async fn a_watch_starts_with_everything_at_any_size(cluster: &Cluster) {
    const KEYS: usize = 3100;
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let keys: Vec<_> = (0..KEYS).map(|number| format!("page.{number:05}")).collect();
    for keys in keys.chunks(MAX_COMMIT) {
        let put = |key: &String| BatchOp::Put(Put::new(key.clone(), "v", Precondition::Absent));
        one.commit(keys.iter().map(put).collect()).await.expect("commits");
    }
    let mut watch = two.watch("page.", WatchMode::Meta).await.expect("watches");
    let mut stood: Vec<_> = snapshot(&mut watch).await.into_iter().map(|entry| entry.key).collect();
    stood.sort_unstable();
    assert_eq!(stood, keys);
}

/// Puts and deletes the same few keys as fast as possible.
async fn churn(kv: Kv, writer: usize) {
    for round in 0..120 {
        let key = format!("page.{}", (round * 7 + writer * 3) % 11);
        if round % 5 == writer {
            kv.delete(&key, Precondition::Any).await.expect("deletes");
        } else {
            write(&kv, &key, &round.to_string()).await;
        }
    }
}

/// Follows a watch until the key `page.end` appears.
async fn follow(mut watch: Watch) -> BTreeMap<String, u64> {
    let mut view = View::default();
    while !view.0.contains_key("page.end") {
        view.follow(next(&mut watch).await);
    }
    view.0
}

pub(crate) async fn every_watch_ends_at_the_truth_under_concurrent_writes(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        writers.spawn(churn(if writer % 2 == 0 { one.clone() } else { two.clone() }, writer));
    }
    let mut watches = tokio::task::JoinSet::new();
    for kv in [&one, &two, &one, &two] {
        // each watch starts at a different point of the writing
        watches.spawn(follow(kv.watch("page.", WatchMode::Meta).await.expect("watches")));
        writers.join_next().await.expect("a writer").expect("no panic");
    }
    write(&one, "page.end", "v").await;
    let truth: BTreeMap<_, _> =
        two.list("page.").await.expect("lists").into_iter().map(|entry| (entry.key, entry.rev)).collect();
    for view in watches.join_all().await {
        assert_eq!(view, truth);
    }
}

pub(crate) async fn a_ninth_watch_is_a_design_fault(cluster: &Cluster) {
    let kv = pages(cluster).await;
    let mut watches = Vec::new();
    for _ in 0..MAX_WATCHES {
        watches.push(kv.watch("page.", WatchMode::Meta).await.expect("watches"));
    }
    let ninth = |kv: Kv| tokio::spawn(async move { kv.watch("page.", WatchMode::Meta).await.map(drop) });
    assert!(ninth(kv.clone()).await.is_err_and(|error| error.is_panic()));
    watches.pop();
    eventually("a watch that ends makes room", async || ninth(kv.clone()).await.is_ok()).await;
}
