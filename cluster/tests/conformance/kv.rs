//! Tests of the Kv: entries, expectations, expiry.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pagewire_cluster::engine::{
    BatchOp, Bucket, Consistency, Entry, Kv, MAX_COMMIT, MAX_META, MAX_VALUE, OperationId, Precondition, Put,
    Resolution, WriteError,
};
use pagewire_cluster::subject::SubjectToken;

use crate::cluster::{Cluster, awkward_identities, eventually};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn pages(cluster: &Cluster) -> Kv {
    cluster.process().await.kv(Bucket::Pages)
}

pub(crate) async fn latest(kv: &Kv, key: &str) -> Option<Entry> {
    kv.get(key, Consistency::Latest).await.expect("reads")
}

pub(crate) async fn value(kv: &Kv, key: &str) -> Option<Bytes> {
    latest(kv, key).await.map(|entry| entry.value)
}

pub(crate) async fn write(kv: &Kv, key: &str, value: &str) -> u64 {
    kv.put(Put::new(key, value.to_owned(), Precondition::Any)).await.expect("writes")
}

fn lasting(key: &str, ttl: Duration, expect: Precondition) -> Put {
    Put { ttl: Some(ttl), ..Put::new(key, "v", expect) }
}

pub(crate) fn is_conflict(outcome: &Result<u64, WriteError>) -> bool {
    matches!(outcome, Err(WriteError::Conflict { .. }))
}

/// Waits until a key is absent. Returns the time at which it was.
async fn gone(kv: &Kv, key: &str) -> Instant {
    eventually("expires", async || latest(kv, key).await.is_none()).await;
    Instant::now()
}

pub(crate) async fn what_is_written_is_what_another_process_reads(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let put = Put { meta: "m".into(), ..Put::new("a.b", "v", Precondition::Absent) };
    let rev = one.put(put.clone()).await.expect("writes");
    let written = Entry { key: "a.b".into(), rev, op: put.op, meta: "m".into(), value: "v".into() };
    assert_eq!(latest(&two, "a.b").await.as_ref(), Some(&written));
    assert_eq!(two.list("a.").await.expect("lists"), std::slice::from_ref(&written));
    assert_eq!(two.scan("a.", 0, 10).await.expect("scans"), std::slice::from_ref(&written));
    eventually("a cheap read sees it", async || {
        two.get("a.b", Consistency::Any).await.expect("reads").as_ref() == Some(&written)
    })
    .await;
    assert_eq!(latest(&two, "a").await, None);
    assert_eq!(two.list("b.").await.expect("lists"), []);
}

pub(crate) async fn an_expectation_that_does_not_hold_writes_nothing(cluster: &Cluster) {
    let kv = pages(cluster).await;
    for never in [0, 1, 7] {
        let outcome = kv.put(Put::new("k", "wrong", Precondition::Rev(never))).await;
        assert!(is_conflict(&outcome), "revision {never} of nothing: {outcome:?}");
    }
    let first = kv.put(Put::new("k", "1", Precondition::Absent)).await.expect("is absent");
    assert!(is_conflict(&kv.put(Put::new("k", "wrong", Precondition::Absent)).await));
    let second = kv.put(Put::new("k", "2", Precondition::Rev(first))).await.expect("is current");
    for outdated in [0, first, second + 1] {
        match kv.put(Put::new("k", "wrong", Precondition::Rev(outdated))).await {
            Err(WriteError::Conflict { actual }) => assert!(actual.is_none_or(|actual| actual == second)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            kv.delete("k", Precondition::Rev(outdated)).await,
            Err(WriteError::Conflict { .. })
        ));
    }
    assert_eq!(value(&kv, "k").await.expect("stands"), "2");
    kv.put(Put::new("k", "3", Precondition::Any)).await.expect("anything may stand");
    assert_eq!(value(&kv, "k").await.expect("stands"), "3");
}

pub(crate) async fn a_revision_grows_and_is_never_reused(cluster: &Cluster) {
    let kv = pages(cluster).await;
    let mut last = 0;
    let mut grows = |rev: u64| assert!(rev > std::mem::replace(&mut last, rev), "{rev}");
    for key in ["a", "b", "a"] {
        grows(write(&kv, key, "v").await);
    }
    let before = latest(&kv, "a").await.expect("stands").rev;
    kv.delete("a", Precondition::Any).await.expect("deletes");
    grows(kv.put(Put::new("a", "v", Precondition::Absent)).await.expect("is absent"));
    assert!(is_conflict(&kv.put(Put::new("a", "v", Precondition::Rev(before))).await));
    grows(kv.put(lasting("t", SECOND, Precondition::Absent)).await.expect("is absent"));
    gone(&kv, "t").await;
    grows(kv.put(Put::new("t", "v", Precondition::Absent)).await.expect("expired"));
    let batch = ["x", "y"].map(|key| BatchOp::Put(Put::new(key, "v", Precondition::Any))).to_vec();
    grows(kv.commit(batch).await.expect("commits"));
    grows(write(&kv, "b", "v").await);
    let revisions: BTreeSet<_> = kv.list("").await.expect("lists").into_iter().map(|e| e.rev).collect();
    assert_eq!(revisions.len(), 5, "every key has its own");
}

pub(crate) async fn of_many_writers_one_wins_each_revision(cluster: &Cluster) {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 10;
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    write(&one, "count", "0").await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let kv = if number % 2 == 0 { one.clone() } else { two.clone() };
        writers.spawn(async move {
            let mut won = Vec::new();
            while won.len() < ROUNDS {
                let entry = latest(&kv, "count").await.expect("stands");
                let count: usize =
                    std::str::from_utf8(&entry.value).expect("text").parse().expect("a number");
                let outcome =
                    kv.put(Put::new("count", (count + 1).to_string(), Precondition::Rev(entry.rev))).await;
                match outcome {
                    Ok(rev) => won.push(rev),
                    Err(WriteError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            won
        });
    }
    let won: BTreeSet<u64> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), WRITERS * ROUNDS, "each revision has one winner");
    assert_eq!(value(&one, "count").await.expect("stands"), (WRITERS * ROUNDS).to_string());
}

pub(crate) async fn of_many_creators_one_wins(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    for round in 0..10 {
        let mut creators = tokio::task::JoinSet::new();
        for kv in [&one, &two, &one, &two] {
            let (kv, put) = (kv.clone(), Put::new("k", round.to_string(), Precondition::Absent));
            creators.spawn(async move { (put.op, kv.put(put).await) });
        }
        let outcomes = creators.join_all().await;
        let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).collect();
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok() || is_conflict(outcome)), "{outcomes:?}");
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(latest(&one, "k").await.map(|entry| entry.op), Some(winners[0].0));
        two.delete("k", Precondition::Any).await.expect("deletes");
    }
}

pub(crate) async fn deleting_what_is_absent_succeeds_unless_it_was_expected(cluster: &Cluster) {
    let kv = pages(cluster).await;
    for expect in [Precondition::Any, Precondition::Absent] {
        assert_eq!(kv.delete("k", expect).await, Ok(()), "{expect:?}, never written");
    }
    let rev = write(&kv, "k", "v").await;
    assert!(matches!(kv.delete("k", Precondition::Absent).await, Err(WriteError::Conflict { .. })));
    assert_eq!(kv.delete("k", Precondition::Rev(rev)).await, Ok(()));
    assert_eq!(latest(&kv, "k").await, None);
    assert!(matches!(kv.delete("k", Precondition::Rev(rev)).await, Err(WriteError::Conflict { .. })));
    for expect in [Precondition::Any, Precondition::Absent] {
        assert_eq!(kv.delete("k", expect).await, Ok(()), "{expect:?}, deleted");
    }
}

pub(crate) async fn a_key_expires_to_the_second_and_may_be_created_again(cluster: &Cluster) {
    let kv = pages(cluster).await;
    // the second round starts from the remains of the expired key, and must expire as well
    for round in 0..2 {
        let begun = Instant::now();
        let rev = kv.put(lasting("k", SECOND, Precondition::Absent)).await.expect("is absent");
        let acknowledged = Instant::now();
        assert!(is_conflict(&kv.put(Put::new("k", "v", Precondition::Absent)).await));
        let gone = gone(&kv, "k").await;
        assert!(gone - begun >= SECOND, "round {round}: not before its time");
        assert!(gone - acknowledged < SECOND * 2, "round {round}: to the second");
        assert_eq!(kv.list("").await.expect("lists"), []);
        assert_eq!(kv.scan("", 0, 9).await.expect("scans"), []);
        assert!(
            is_conflict(&kv.put(lasting("k", SECOND, Precondition::Rev(rev))).await),
            "its revision is gone"
        );
    }
    kv.put(Put::new("k", "v", Precondition::Absent)).await.expect("expired");
}

pub(crate) async fn a_renewed_key_lives_on_and_a_put_without_ttl_is_permanent(cluster: &Cluster) {
    let kv = pages(cluster).await;
    let mut rev = kv.put(lasting("lease", SECOND * 2, Precondition::Absent)).await.expect("is absent");
    kv.put(lasting("kept", SECOND, Precondition::Absent)).await.expect("is absent");
    kv.put(Put::new("kept", "for good", Precondition::Any)).await.expect("writes");
    let mut renewed = Instant::now();
    for round in 0..4 {
        let clock = format!("clock.{round}");
        kv.put(lasting(&clock, SECOND, Precondition::Absent)).await.expect("is absent");
        gone(&kv, &clock).await;
        renewed = Instant::now();
        rev = kv.put(lasting("lease", SECOND * 2, Precondition::Rev(rev))).await.expect("lives");
    }
    let gone = gone(&kv, "lease").await;
    assert!(gone - renewed >= SECOND * 2, "the time counts from the last put");
    assert_eq!(value(&kv, "kept").await.expect("is permanent"), "for good");
}

pub(crate) async fn values_metas_keys_and_ttls_have_limits(cluster: &Cluster) {
    let kv = pages(cluster).await;
    let sized = |value: usize, meta: usize| Put {
        meta: vec![1; meta].into(),
        ..Put::new("k", vec![2; value], Precondition::Any)
    };
    assert_eq!(kv.put(sized(MAX_VALUE + 1, 0)).await, Err(WriteError::Invalid));
    assert_eq!(kv.put(sized(0, MAX_META + 1)).await, Err(WriteError::Invalid));
    assert_eq!(latest(&kv, "k").await, None);
    kv.put(sized(MAX_VALUE, MAX_META)).await.expect("fits");
    let entry = latest(&kv, "k").await.expect("stands");
    assert!(entry.value == vec![2; MAX_VALUE] && entry.meta == vec![1; MAX_META]);
    kv.put(sized(0, 0)).await.expect("may be empty");
    assert_eq!(latest(&kv, "k").await.map(|entry| entry.value.len()), Some(0));
    for wrong in ["", ".", "a.", ".a", "a..b", "*", ">", "a.*", "a.>", "a b", "a|b", "ü", "a\r\nb"] {
        assert_eq!(
            kv.put(Put::new(wrong, "v", Precondition::Any)).await,
            Err(WriteError::Invalid),
            "{wrong:?}"
        );
        assert_eq!(kv.delete(wrong, Precondition::Any).await, Err(WriteError::Invalid), "{wrong:?}");
        let read = kv.get(wrong, Consistency::Latest).await;
        assert!(!matches!(read, Ok(Some(_))), "{wrong:?} read {read:?}");
    }
    for right in ["a-b/c_d=e.F9", "-", "=", "/"] {
        write(&kv, right, right).await;
        assert_eq!(value(&kv, right).await.expect("stands"), right);
    }
    for ttl in [Duration::ZERO, SECOND / 2, SECOND * 3 / 2, SECOND - Duration::from_nanos(1)] {
        assert_eq!(kv.put(lasting("t", ttl, Precondition::Any)).await, Err(WriteError::Invalid), "{ttl:?}");
    }
    assert_eq!(latest(&kv, "t").await, None);
}

pub(crate) async fn a_list_is_complete_and_in_key_order(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    for key in ["page", "pages.x", "pag.x", "page-x.y"] {
        write(&one, key, "v").await;
    }
    // as many entries as one reply of any engine holds, and then more
    for (from, to) in [(0, 1030), (1030, 3100)] {
        let keys: Vec<_> = (from..to).map(|number| format!("page.{:05}", number * 7919 % 100_003)).collect();
        for keys in keys.chunks(MAX_COMMIT) {
            let put = |key: &String| BatchOp::Put(Put::new(key.clone(), key.clone(), Precondition::Absent));
            one.commit(keys.iter().map(put).collect()).await.expect("commits");
        }
        let mut expected: Vec<_> =
            (0..to).map(|number| format!("page.{:05}", number * 7919 % 100_003)).collect();
        expected.sort_unstable();
        let listed = two.list("page.").await.expect("lists");
        assert!(listed.iter().all(|entry| entry.value == entry.key));
        assert_eq!(listed.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), expected);
    }
    assert_eq!(two.list("").await.expect("lists").len(), 3104);
}

pub(crate) async fn a_scan_is_in_the_order_of_writing(cluster: &Cluster) {
    let kv = pages(cluster).await;
    for number in (0..30).rev() {
        write(&kv, &format!("job.{number:02}"), "v").await;
        write(&kv, &format!("other.{number:02}"), "v").await;
    }
    write(&kv, "job.29", "again").await;
    kv.delete("job.28", Precondition::Any).await.expect("deletes");
    let mut expected: Vec<_> = (0..28).rev().map(|number| format!("job.{number:02}")).collect();
    expected.push("job.29".to_owned());
    for limit in [1, 4, 1000] {
        let (mut keys, mut after) = (Vec::new(), 0);
        loop {
            let page = kv.scan("job.", after, limit).await.expect("scans");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            assert!(page.first().is_some_and(|first| first.rev > after));
            after = last.rev;
            keys.extend(page.into_iter().map(|entry| entry.key));
        }
        assert_eq!(keys, expected, "pages of {limit}");
    }
}

pub(crate) async fn the_operation_id_tells_whose_write_is_there(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let nobody = OperationId::random();
    assert_eq!(one.resolve_unknown("k", nobody).await, Ok(Resolution::Other { entry: None }));
    let mine = Put::new("k", "mine", Precondition::Absent);
    let rev = one.put(mine.clone()).await.expect("is absent");
    assert_eq!(two.resolve_unknown("k", mine.op).await, Ok(Resolution::Written { rev }));
    let theirs = Put::new("k", "theirs", Precondition::Rev(rev));
    let rev = two.commit(vec![BatchOp::Put(theirs.clone())]).await.expect("is current");
    assert_eq!(one.resolve_unknown("k", theirs.op).await, Ok(Resolution::Written { rev }));
    match one.resolve_unknown("k", mine.op).await {
        Ok(Resolution::Other { entry: Some(entry) }) => assert_eq!(entry.op, theirs.op),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn awkward_identities_are_ordinary_keys(cluster: &Cluster) {
    let [one, two] = [pages(cluster).await, pages(cluster).await];
    let key = |identity: &str| format!("user.{}.tree", SubjectToken::new(identity));
    let identities = awkward_identities();
    for identity in &identities {
        one.put(Put::new(key(identity), identity.clone(), Precondition::Absent)).await.expect("is absent");
    }
    for identity in &identities {
        assert_eq!(value(&two, &key(identity)).await.expect("stands"), identity.as_str());
        let below = two.list(&format!("user.{}.", SubjectToken::new(identity))).await.expect("lists");
        assert_eq!(below.into_iter().map(|entry| entry.value).collect::<Vec<_>>(), [identity.as_str()]);
    }
    two.delete(&key("*"), Precondition::Any).await.expect("deletes");
    two.delete(&key(">"), Precondition::Any).await.expect("deletes");
    assert_eq!(one.list("user.").await.expect("lists").len(), identities.len() - 2);
}

pub(crate) async fn buckets_are_separate(cluster: &Cluster) {
    let engine = cluster.process().await;
    for bucket in Bucket::ALL {
        let put = Put::new("same.key", bucket.name(), Precondition::Absent);
        engine.kv(bucket).put(put).await.expect("is absent");
    }
    for bucket in Bucket::ALL {
        assert_eq!(value(&engine.kv(bucket), "same.key").await.expect("stands"), bucket.name());
        assert_eq!(engine.kv(bucket).list("").await.expect("lists").len(), 1);
    }
}
