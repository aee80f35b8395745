//! Tests of the Kv: commits of several operations.

use pagewire_cluster::engine::{BatchOp, MAX_COMMIT, MAX_VALUE, Precondition, Put, WriteError};

use crate::cluster::Cluster;
use crate::kv::{is_conflict, latest, pages, value, write};

pub(crate) async fn a_commit_is_all_or_nothing(cluster: &Cluster) {
    let [kv, other] = [pages(cluster).await, pages(cluster).await];
    let (a, b) = (write(&kv, "a", "1").await, write(&kv, "b", "1").await);
    let put = |key: &str, expect| BatchOp::Put(Put::new(key, "2", expect));
    let delete = |key: &str, expect| BatchOp::Delete { key: key.into(), expect };
    let failing = [
        put("a", Precondition::Absent),
        put("a", Precondition::Rev(b)),
        put("c", Precondition::Rev(a)),
        delete("a", Precondition::Rev(b)),
        delete("a", Precondition::Absent),
        BatchOp::Check { key: "a".into(), rev: b },
        BatchOp::Check { key: "c".into(), rev: a },
    ];
    for step in failing {
        for batch in
            [vec![put("new", Precondition::Absent), delete("b", Precondition::Rev(b)), step.clone()], {
                vec![step.clone(), put("new", Precondition::Absent), delete("b", Precondition::Rev(b))]
            }]
        {
            let outcome = kv.commit(batch).await;
            assert!(is_conflict(&outcome), "{step:?}: {outcome:?}");
            let stands: Vec<_> = other.list("").await.expect("lists").into_iter().map(|e| e.key).collect();
            assert_eq!(stands, ["a", "b"], "{step:?}");
        }
    }
    let batch = vec![
        put("a", Precondition::Rev(a)),
        delete("b", Precondition::Rev(b)),
        put("new", Precondition::Absent),
    ];
    let rev = kv.commit(batch).await.expect("everything holds");
    let stands = other.list("").await.expect("lists");
    let values: Vec<_> = stands.iter().map(|entry| (entry.key.as_str(), &entry.value[..])).collect();
    assert_eq!(values, [("a", &b"2"[..]), ("new", &b"2"[..])]);
    assert!(stands.iter().all(|entry| entry.rev > b && entry.rev <= rev), "{stands:?} up to {rev}");
    for entry in stands {
        other
            .put(Put::new(entry.key, "3", Precondition::Rev(entry.rev)))
            .await
            .expect("its revision is current");
    }
}

pub(crate) async fn a_commit_is_fenced_by_its_checks(cluster: &Cluster) {
    let [owner, successor] = [pages(cluster).await, pages(cluster).await];
    let fence = owner.put(Put::new("fence", "owner", Precondition::Absent)).await.expect("is absent");
    let write = |rev, value: &'static str| {
        vec![
            BatchOp::Put(Put::new("doc", value, Precondition::Any)),
            BatchOp::Check { key: "fence".into(), rev },
        ]
    };
    owner.commit(write(fence, "by the owner")).await.expect("holds the fence");
    assert_eq!(latest(&owner, "fence").await.map(|e| e.rev), Some(fence), "a check writes nothing");
    let next =
        successor.put(Put::new("fence", "successor", Precondition::Rev(fence))).await.expect("takes it");
    assert!(is_conflict(&owner.commit(write(fence, "too late")).await));
    assert_eq!(value(&owner, "doc").await.expect("stands"), "by the owner");
    successor.commit(write(next, "by the successor")).await.expect("holds the fence");
    successor.delete("fence", Precondition::Rev(next)).await.expect("deletes");
    assert!(is_conflict(&successor.commit(write(next, "without a fence")).await));
}

pub(crate) async fn commits_have_limits(cluster: &Cluster) {
    let kv = pages(cluster).await;
    let puts = |count: usize| -> Vec<BatchOp> {
        (0..count)
            .map(|number| BatchOp::Put(Put::new(format!("k.{number:04}"), "v", Precondition::Absent)))
            .collect()
    };
    assert_eq!(kv.commit(puts(MAX_COMMIT + 1)).await, Err(WriteError::Invalid));
    let mut twice = puts(2);
    twice.push(BatchOp::Check { key: "k.0001".into(), rev: 1 });
    assert_eq!(kv.commit(twice).await, Err(WriteError::Invalid), "each key once");
    let mut illegal = puts(1);
    illegal.push(BatchOp::Delete { key: "k.*".into(), expect: Precondition::Any });
    assert_eq!(kv.commit(illegal).await, Err(WriteError::Invalid));
    let mut large = puts(1);
    large.push(BatchOp::Put(Put::new("large", vec![0; MAX_VALUE + 1], Precondition::Any)));
    assert_eq!(kv.commit(large).await, Err(WriteError::Invalid));
    assert_eq!(kv.list("").await.expect("lists"), [], "nothing was written");
    kv.commit(puts(MAX_COMMIT)).await.expect("fits");
    assert_eq!(kv.list("k.").await.expect("lists").len(), MAX_COMMIT);
}
