use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::engine::Entry;
use crate::state::batch::Operation;
use crate::state::{Edit, Tree};

fn op(n: u8) -> OperationId {
    OperationId([n; 16])
}

fn set(path: &str, value: Value) -> DraftWrite {
    let edit = Edit { path: path.parse().unwrap(), value: Some(value) };
    DraftWrite { operation: Operation::Edit(vec![edit]), if_revision: None, from: None, fence: None }
}

fn stored(rev: u64, by: u8, history: OpHistory, tree: Value) -> TreeVersion {
    TreeVersion { rev, op: op(by), history, tree: Tree::stored(tree).unwrap(), ..TreeVersion::default() }
}

/// Returns the version that a put makes.
fn version(call: &WriterRequest, rev: u64) -> TreeVersion {
    let WriterRequest::Put { op, meta, value, .. } = call else { panic!("{call:?}") };
    let entry = Entry { key: String::new(), rev, op: *op, meta: meta.clone(), value: value.clone() };
    TreeVersion::decode(&entry).unwrap()
}

fn tree(call: &Option<WriterRequest>) -> Value {
    version(call.as_ref().unwrap(), 0).tree.as_value().clone()
}

fn writer(known: Found) -> TreeWriter<u8> {
    TreeWriter::new(Some(known))
}

#[test]
fn what_is_asked_while_a_put_is_under_way_is_the_next_batch() {
    let mut writer = TreeWriter::new(None);
    assert_eq!(writer.enqueue(set("a", json!(1)), 1, op(1)).call, Some(WriterRequest::Read));
    assert!(writer.enqueue(set("b", json!(1)), 2, op(2)).call.is_none());
    let step = writer.read(Ok(None), op(3));
    assert_eq!(tree(&step.call), json!({"a": 1}));
    writer.enqueue(set("c", json!(1)), 3, op(4));
    let step = writer.on_written(Ok(5), op(5));
    assert_eq!(step.replies, [(1, Ok(5))]);
    assert_eq!(tree(&step.call), json!({"a": 1, "b": 1, "c": 1}));
    let Some(WriterRequest::Put { expect, .. }) = step.call else { panic!("a put") };
    assert_eq!(expect, Precondition::Rev(5), "no read between two of its own");
    let step = writer.on_written(Ok(9), op(6));
    assert_eq!(step.replies, [(2, Ok(9)), (3, Ok(9))]);
    assert!(step.call.is_none() && writer.is_idle());
}

#[test]
fn after_a_conflict_the_batch_is_drafted_again_in_its_order() {
    let mut writer = writer(None);
    let step = writer.enqueue(DraftWrite { if_revision: Some(0), ..set("a", json!(1)) }, 1, op(1));
    assert!(matches!(step.call, Some(WriterRequest::Put { expect: Precondition::Absent, .. })));
    assert_eq!(
        writer.on_written(Err(WriteError::Conflict { actual: None }), op(2)).call,
        Some(WriterRequest::Read)
    );
    let other = stored(4, 9, OpHistory::default(), json!({"b": 2}));
    let step = writer.read(Ok(Some(other)), op(3));
    assert_eq!((step.replies, step.call), (vec![(1, Err(StateError::Conflict { revision: 4 }))], None));
}

#[test]
fn what_changes_nothing_is_answered_by_a_fresh_version() {
    let mut writer = writer(Some(stored(4, 9, OpHistory::default(), json!({"a": 1}))));
    assert_eq!(writer.enqueue(set("a", json!(1)), 1, op(1)).call, Some(WriterRequest::Read), "4 may be old");
    let step = writer.read(Ok(Some(stored(6, 8, OpHistory::default(), json!({"a": 2})))), op(2));
    assert_eq!(tree(&step.call), json!({"a": 1}));
}

/// Loses the response to a put over revision 4. `found` is the version that is read afterwards.
fn lose(found: Found) -> WriterStep<u8> {
    let mut writer = writer(Some(stored(4, 9, OpHistory::default(), json!({"a": 0}))));
    writer.enqueue(set("a", json!(1)), 1, op(1));
    assert_eq!(writer.on_written(Err(WriteError::Unknown), op(2)).call, Some(WriterRequest::Read));
    writer.read(Ok(found), op(3))
}

#[test]
fn after_a_lost_answer_the_operation_tells_what_became_of_it() {
    let passed = OpHistory::default().then(4, op(9)).then(5, op(1));
    let other = OpHistory::default().then(4, op(9)).then(5, op(7));
    let long = (10..18).fold(OpHistory::default(), |history, rev| history.then(rev, op(7)));
    let step = lose(Some(stored(5, 1, OpHistory::default(), json!({"a": 1}))));
    assert_eq!(step.replies, [(1, Ok(5))], "it is stored");
    let step = lose(Some(stored(6, 7, passed, json!({"a": 2}))));
    assert_eq!((step.replies, step.call), (vec![(1, Ok(5))], None), "it stood, and is not written again");
    let step = lose(Some(stored(6, 7, other, json!({"a": 2}))));
    assert!(
        matches!(&step.call, Some(WriterRequest::Put { expect: Precondition::Rev(6), op: by, .. }) if *by == op(3))
    );
    let step = lose(Some(stored(4, 9, OpHistory::default(), json!({"a": 0}))));
    assert!(
        matches!(&step.call, Some(WriterRequest::Put { expect: Precondition::Rev(4), op: by, .. }) if *by == op(1))
    );
    for unclear in
        [None, Some(stored(18, 7, long, json!({}))), Some(stored(9, 7, OpHistory::default(), json!({})))]
    {
        assert_eq!(lose(unclear).replies, [(1, Err(StateError::Uncertain))]);
    }
}

#[test]
fn a_removal_whose_answer_was_lost_is_not_done_twice() {
    let lose = |found: Found| {
        let current = stored(4, 9, OpHistory::default(), json!({"a": 0}));
        let mut writer = writer(Some(current.clone()));
        let step = writer.enqueue(
            DraftWrite { operation: Operation::Remove, if_revision: None, from: None, fence: None },
            1,
            op(1),
        );
        assert_eq!(
            step.call,
            Some(WriterRequest::Read),
            "4 may have been removed, and created again, before this request"
        );
        assert_eq!(writer.read(Ok(Some(current)), op(1)).call, Some(WriterRequest::Delete { rev: 4 }));
        writer.on_written(Err(WriteError::Unknown), op(2));
        writer.read(Ok(found), op(3))
    };
    assert_eq!(lose(None).replies, [(1, Ok(0))]);
    assert_eq!(
        lose(Some(stored(9, 7, OpHistory::default(), json!({})))).replies,
        [(1, Ok(0))],
        "another tree"
    );
    let later = OpHistory::default().then(4, op(9));
    assert_eq!(lose(Some(stored(9, 7, later, json!({})))).call, Some(WriterRequest::Delete { rev: 9 }));
}

#[test]
fn an_engine_that_is_down_fails_a_batch_and_not_its_successors() {
    let mut writer = TreeWriter::new(None);
    writer.enqueue(set("a", json!(1)), 1, op(1));
    writer.enqueue(set("b", json!(1)), 2, op(2));
    let step = writer.read(Err(Unavailable), op(3));
    assert_eq!(
        (step.replies, step.call),
        (vec![(1, Err(StateError::Unavailable))], Some(WriterRequest::Read))
    );
    writer.read(Ok(None), op(4));
    let step = writer.on_written(Err(WriteError::Down), op(5));
    assert_eq!(step.replies, [(2, Err(StateError::Unavailable))]);
    assert!(writer.is_idle() && writer.take_known().is_none());
}

#[test]
fn an_engine_that_never_answers_leaves_it_open_after_a_while() {
    let mut writer = writer(None);
    writer.enqueue(set("a", json!(1)), 1, op(1));
    for _ in 1..MAX_LOST_REPLIES {
        writer.on_written(Err(WriteError::Unknown), op(2));
        assert!(writer.read(Ok(None), op(3)).call.is_some());
    }
    writer.on_written(Err(WriteError::Unknown), op(2));
    assert_eq!(writer.read(Ok(None), op(3)).replies, [(1, Err(StateError::Uncertain))]);
}

#[test]
fn whoever_is_always_second_is_told_so() {
    let mut writer = writer(None);
    writer.enqueue(set("a", json!(1)), 1, op(1));
    let replies = (1..).find_map(|rev| {
        let mut step = writer.on_written(Err(WriteError::Conflict { actual: None }), op(1));
        if step.call.is_some() {
            step = writer.read(Ok(Some(stored(rev, 7, OpHistory::default(), json!({})))), op(1));
        }
        step.call.is_none().then_some(step.replies)
    });
    assert_eq!(replies.unwrap(), [(1, Err(StateError::Overloaded))]);
}

#[test]
fn the_queue_is_bounded_by_count_and_by_bytes() {
    let mut writer = TreeWriter::new(None);
    writer.enqueue(set("a", json!(1)), 0, op(1));
    let overloaded = |step: WriterStep<usize>| step.replies.first().is_some_and(|(_, reply)| reply.is_err());
    let taken = (1..).take_while(|n| !overloaded(writer.enqueue(set("a", json!(1)), *n, op(1)))).count();
    assert_eq!(taken, MAX_WAITING);
    let mut writer = TreeWriter::new(None);
    writer.enqueue(set("a", json!(1)), 0, op(1));
    let large = || set("a", json!("x".repeat(100_000)));
    let taken = (1..).take_while(|n| !overloaded(writer.enqueue(large(), *n, op(1)))).count();
    assert_eq!(taken, MAX_WAITING_BYTES / 100_131);
    let mut writer = TreeWriter::new(None);
    assert!(!overloaded(writer.enqueue(set("a", json!("x".repeat(MAX_WAITING_BYTES))), 0, op(1))));
    assert_eq!(
        writer.read(Ok(None), op(1)).replies,
        [(0, Err(StateError::Size))],
        "whenever the request is repeated"
    );
}

#[test]
fn a_tree_that_becomes_large_says_so_once() {
    let large = |known: Value| {
        let mut writer = writer(Some(stored(4, 9, OpHistory::default(), known)));
        let step = writer.enqueue(set("b", json!("x".repeat(LARGE_TREE))), 1, op(1));
        matches!(step.call, Some(WriterRequest::Put { large: true, .. }))
    };
    assert!(large(json!({"a": 1})) && !large(json!({"a": "x".repeat(LARGE_TREE)})));
}

#[test]
fn a_lifetime_goes_with_every_version() {
    let mut writer = writer(Some(stored(4, 9, OpHistory::default(), json!({"a": 1}))));
    let ttl = Some(Duration::from_secs(30));
    let step = writer.enqueue(
        DraftWrite { operation: Operation::Expire(ttl), if_revision: None, from: None, fence: None },
        1,
        op(1),
    );
    assert!(matches!(&step.call, Some(WriterRequest::Put { ttl: put, .. }) if *put == ttl));
    assert_eq!(version(step.call.as_ref().unwrap(), 5).ttl, ttl);
    writer.on_written(Ok(5), op(2));
    let step = writer.enqueue(set("a", json!(2)), 2, op(3));
    assert!(matches!(&step.call, Some(WriterRequest::Put { ttl: put, .. }) if *put == ttl));
}
