//! Claims of several processes on one engine.

use std::future::pending;

use tokio::sync::watch;

use super::*;
use crate::engine::{Bucket, Engine, Entry, Memory};
use crate::id::Key;
use crate::subject::Subjects;
use crate::timing::Timing;
use crate::worker::{WorkerRow, Workers, claim_worker};

const TIMING: Timing = Timing::TEST;
const OWN: Proto = Proto { min: PROTO_MIN, max: PROTO_MAX };
const LATER: Proto = Proto { min: PROTO_MAX + 2, max: PROTO_MAX + 3 };

fn engine() -> Engine {
    Engine::Memory(Memory::with_timing(&TIMING))
}

async fn node(engine: &Engine, proto: Proto) -> Result<(LeaseKeeper<NodeNumbers>, NodeLease), Incompatible> {
    let row = NodeRow { proto, ..NodeRow::default() };
    claim_node(engine, &Subjects::new("c"), TIMING, ClaimRequest::default(), row).await
}

async fn worker(engine: &Engine, proto: Proto) -> Result<(), Incompatible> {
    let row = WorkerRow { pool: "p".into(), lane: "l".into(), proto, ..WorkerRow::default() };
    claim_worker(engine, TIMING, Key::random(), row).await.map(drop)
}

async fn rows(engine: &Engine) -> Vec<Entry> {
    engine.kv(Bucket::Nodes).list("").await.unwrap()
}

#[tokio::test]
async fn a_node_or_worker_without_a_common_version_is_refused_and_leaves_no_row() {
    let engine = engine();
    let _living = node(&engine, OWN).await.unwrap();
    let before = rows(&engine).await;
    let refused = [node(&engine, LATER).await.err(), worker(&engine, LATER).await.err()];
    for refused in refused {
        let refused = refused.unwrap();
        assert_eq!((refused.own, refused.theirs, refused.member.as_str()), (LATER, OWN, "lease.p01"));
    }
    assert_eq!(rows(&engine).await, before);
    worker(&engine, Proto { min: PROTO_MAX, max: PROTO_MAX + 3 }).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_lives_refuses_a_node_without_a_common_version() {
    let engine = engine();
    worker(&engine, LATER).await.unwrap();
    let refused = node(&engine, OWN).await.err().unwrap();
    assert_eq!((refused.own, refused.theirs), (OWN, LATER));
}

#[tokio::test]
async fn of_two_that_join_at_once_without_a_common_version_at_most_one_stays() {
    for _ in 0..20 {
        let engine = engine();
        let (one, two) = tokio::join!(node(&engine, OWN), worker(&engine, LATER));
        assert!(one.is_err() || two.is_err());
        assert!(rows(&engine).await.len() <= 1);
    }
}

#[tokio::test]
async fn a_worker_with_many_handlers_gets_its_lease_and_other_processes_see_them() {
    let (engine, id) = (engine(), Key::random());
    let methods: Vec<String> = (0..1000).map(|n| format!("orders.method-{n}")).collect();
    let row =
        WorkerRow { pool: "p".into(), lane: "l".into(), methods: methods.clone(), ..WorkerRow::default() };
    let claimed = claim_worker(&engine, TIMING, id, row);
    let (_keeper, lease) = tokio::time::timeout(TIMING.lease_ttl, claimed).await.unwrap().unwrap();
    let workers = Workers::new(&engine, &Subjects::new("c"), TIMING);
    let _following = workers.follow().await.unwrap();
    assert_eq!(workers.roster().row(id).map(|row| &row.methods), Some(&methods));
    assert_eq!(workers.is_alive(lease.worker().unwrap()).await, Ok(true));
}

#[tokio::test]
async fn a_lease_is_renewed_with_its_offset_and_given_back() {
    let engine = engine();
    let (keeper, lease) = node(&engine, OWN).await.unwrap();
    let holder = lease.holder().unwrap();
    let (stop, stopping) = watch::channel(false);
    let (_, unmarked) = watch::channel(NodeNote::default());
    let mut waiting = stopping.clone();
    let keeping = tokio::spawn(keeper.keep(unmarked, async move {
        let _ = waiting.wait_for(|stop| *stop).await;
    }));
    let renewed = async {
        loop {
            let row = rows(&engine).await.into_iter().find(|row| row.rev != holder.epoch);
            match row {
                Some(row) => return NodeRow::decode(&row.meta).unwrap(),
                None => tokio::time::sleep(TIMING.lease_renew / 10).await,
            }
        }
    };
    let row = tokio::time::timeout(TIMING.lease_ttl, renewed).await.unwrap();
    assert_eq!((row.epoch, row.offset_ms), (Some(holder.epoch), Some(0)));
    stop.send_replace(true);
    keeping.await.unwrap();
    assert_eq!((lease.holder(), rows(&engine).await.len()), (None, 0));
}

#[tokio::test]
async fn a_row_that_was_deleted_is_claimed_again_with_another_epoch() {
    let engine = engine();
    let (keeper, lease) = node(&engine, OWN).await.unwrap();
    let before = lease.holder().unwrap();
    let (_, unmarked) = watch::channel(NodeNote::default());
    let keeping = tokio::spawn(keeper.keep(unmarked, pending()));
    let key = crate::subject::node_key::lease(before.node);
    engine.kv(Bucket::Nodes).delete(&key, crate::engine::Precondition::Any).await.unwrap();
    let mut changes = lease.changes();
    let again = changes.wait_for(|holder| holder.is_some_and(|holder| holder.epoch != before.epoch));
    let again = tokio::time::timeout(TIMING.lease_ttl * 2, again).await.unwrap().unwrap().unwrap();
    assert_eq!(again.node, before.node);
    keeping.abort();
}

#[tokio::test]
async fn a_note_of_a_node_is_written_at_once_and_stays_in_its_row() {
    let engine = engine();
    let (keeper, _lease) = node(&engine, OWN).await.unwrap();
    let (note, notes) = watch::channel(NodeNote::default());
    let keeping = tokio::spawn(keeper.keep(notes, pending()));
    let places = MountPlaces { count: 2, ready: vec![0], release: String::new() };
    let told = NodeNote {
        draining: true,
        internal: "a:1".to_owned(),
        mounts: [("/".to_owned(), places)].into(),
        ..NodeNote::default()
    };
    note.send_replace(told.clone());
    let shown = async {
        while NodeRow::decode(&rows(&engine).await[0].meta).unwrap().note != told {
            tokio::time::sleep(TIMING.lease_renew / 20).await;
        }
    };
    tokio::time::timeout(TIMING.lease_ttl, shown).await.unwrap();
    let plain = serde_json::to_value(NodeRow::default()).unwrap();
    assert!(
        ["note", "mounts", "lanes"].iter().all(|field| plain.get(field).is_none()),
        "a node without mounts has no field more"
    );
    keeping.abort();
}
