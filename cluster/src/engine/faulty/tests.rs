//! Tests of the faults: each outcome happens, a seed replays, and no outcome outside the contract happens.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::{BusEvent, Engine, Gap, Kv, Resolution, WatchEvent};

fn process(memory: &Memory, seed: u64, faults: Faults) -> Engine {
    Engine::Faulty(Faulty::new(memory.clone(), seed, faults))
}

fn work_item(id: u64) -> Enqueue {
    Enqueue { id: id.to_string(), route: "r".into(), payload: "".into(), not_before: None }
}

/// Makes some of every call, and returns each outcome as text.
async fn script(seed: u64, faults: Faults, calls: u64) -> Vec<String> {
    let memory = Memory::new();
    let engine = process(&memory, seed, faults);
    let kv = engine.kv(Bucket::Pages);
    let (_, mut ear) = memory.bus.subscribe("t.heard", None, 1 << 20);
    let mut trace = Vec::new();
    for call in 0..calls {
        let message = || Message::new(if call % 3 == 0 { "t.heard" } else { "t.nobody" }, "");
        let put = |expect| Put { op: Default::default(), ..Put::new("k", call.to_string(), expect) };
        let mut deliveries = Vec::new();
        trace.push(format!("publish {:?}", engine.publish(message()).await));
        trace.push(format!("subscribe {:?}", engine.subscribe("t.other", None, 1).await.map(drop)));
        trace.push(format!("request {:?}", engine.request(message(), Duration::ZERO).await));
        trace.push(format!("put {:?}", kv.put(put(Precondition::Any)).await.map(drop)));
        trace.push(format!("conflict {:?}", kv.put(put(Precondition::Rev(0))).await.map_err(hide_revision)));
        trace.push(format!("delete {:?}", kv.delete("j", Precondition::Any).await));
        trace.push(format!(
            "commit {:?}",
            kv.commit(vec![BatchOp::Put(put(Precondition::Any))]).await.map(drop)
        ));
        trace.push(format!("any {:?}", kv.get("k", Consistency::Any).await.map(|e| e.map(|e| e.value))));
        trace.push(format!("list {:?}", kv.list("").await.map(|e| e.len())));
        trace.push(format!("scan {:?}", kv.scan("", 0, 1).await.map(|e| e.len())));
        trace.push(format!("push {:?}", engine.push(work_item(call)).await));
        let pulled = engine.pull("r", 3, Duration::ZERO).await;
        trace.push(format!("pull {:?}", pulled.as_ref().map(Vec::len)));
        deliveries.extend(pulled.into_iter().flatten());
        for delivery in deliveries {
            trace.push(format!("touch {:?}", engine.extend(&delivery).await));
            trace.push(format!("retry {:?}", engine.nak(&delivery, Duration::from_secs(60)).await));
            trace.push(format!("done {:?}", engine.ack(&delivery).await));
        }
        trace.push(format!("depth {:?}", engine.depth("r").await));
    }
    drop(memory.bus);
    while let Some(received) = tokio::time::timeout(Duration::ZERO, ear.next()).await.ok().flatten() {
        trace.push(match received {
            BusEvent::Message(_) => "received message".to_owned(),
            BusEvent::Gap(gap) => format!("received {gap:?}"),
        });
    }
    trace
}

fn hide_revision(error: WriteError) -> WriteError {
    match error {
        WriteError::Conflict { actual } => WriteError::Conflict { actual: actual.map(|_| 1) },
        error => error,
    }
}

#[tokio::test(start_paused = true)]
async fn every_outcome_of_the_contract_happens() {
    let outcomes: BTreeSet<String> = script(1, Faults::all(60), 500).await.into_iter().collect();
    let expected = [
        "publish Ok(()) | publish Err(Full) | publish Err(Down) | subscribe Ok(()) | subscribe Err(Unavailable)",
        "request Err(NoResponder) | request Err(Deadline) | request Err(Down)",
        "put Ok(()) | put Err(Unknown) | put Err(Down)",
        "conflict Err(Conflict { actual: Some(1) }) | conflict Err(Conflict { actual: None })",
        "conflict Err(Unknown) | conflict Err(Down)",
        "delete Ok(()) | delete Err(Unknown) | delete Err(Down)",
        "commit Ok(()) | commit Err(Unknown) | commit Err(Down)",
        "any Err(Unavailable) | list Err(Unavailable) | scan Err(Unavailable) | list Ok(1) | scan Ok(1)",
        "push Ok(()) | push Err(Unknown) | push Err(Down)",
        "pull Ok(0) | pull Ok(1) | pull Ok(2) | pull Err(Unknown) | pull Err(Down)",
        "touch Ok(()) | touch Err(Unknown) | touch Err(Down)",
        "retry Ok(()) | retry Err(Unknown) | retry Err(Down)",
        "done Ok(()) | done Err(Unknown) | done Err(Down)",
        "depth Err(Down) | received message | received Reconnect",
    ];
    for outcome in expected.iter().flat_map(|line| line.split(" | ")) {
        assert!(outcomes.contains(outcome), "never happened: {outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_replays_exactly() {
    let first = script(42, Faults::all(50), 100).await;
    assert_eq!(first, script(42, Faults::all(50), 100).await);
    assert_ne!(first, script(43, Faults::all(50), 100).await);
}

/// Adds one to a counter exactly once under any fault: the same write is repeated until its outcome is known.
async fn increment(kv: &Kv) {
    'again: loop {
        let Ok(entry) = kv.get("count", Consistency::Latest).await else { continue };
        let (count, expect) = entry.map_or((0, Precondition::Absent), |entry| {
            (std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap(), Precondition::Rev(entry.rev))
        });
        let put = Put::new("count", (count + 1).to_string(), expect);
        loop {
            match kv.put(put.clone()).await {
                Ok(_) => return,
                Err(WriteError::Invalid) => panic!("it is valid"),
                Err(WriteError::Conflict { .. } | WriteError::Unknown | WriteError::Down) => {}
            }
            match kv.resolve_unknown("count", put.op).await {
                Ok(Resolution::Written { .. }) => return,
                Ok(Resolution::Other { entry }) => {
                    let current = entry.map_or(Precondition::Absent, |entry| Precondition::Rev(entry.rev));
                    if current != put.expect {
                        // the write can no longer happen
                        continue 'again;
                    }
                }
                Err(Unavailable) => {}
            }
        }
    }
}

#[tokio::test]
async fn the_operation_id_settles_every_unknown_outcome() {
    for seed in 0..20 {
        let memory = Memory::new();
        let kv = process(
            &memory,
            seed,
            Faults { unknown: 400, down: 100, hidden_conflict: 500, ..Faults::all(30) },
        )
        .kv(Bucket::Pages);
        for _ in 0..50 {
            increment(&kv).await;
        }
        let entry = memory.buckets.get(Bucket::Pages, "count").unwrap();
        assert_eq!(entry.value, "50", "seed {seed}");
    }
}

#[tokio::test]
async fn no_message_is_lost_without_a_gap() {
    for seed in 0..20 {
        let memory = Memory::new();
        let listener = process(&memory, seed, Faults { cut: 100, ..Faults::default() });
        let speaker = process(&memory, seed + 100, Faults { lost: 100, full: 100, ..Faults::default() });
        let mut ear = loop {
            if let Ok(ear) = listener.subscribe("t", None, 1 << 20).await {
                break ear;
            }
        };
        let mut sent = BTreeSet::new();
        for number in 0..200 {
            if speaker.publish(Message::new("t", number.to_string())).await.is_ok() {
                sent.insert(number);
            }
            // these calls break and heal the link of the listener
            let _ = listener.depth("r").await;
        }
        let mut link = listener.link();
        link.wait_for(|link| matches!(link, ConnectionState::Up { .. })).await.unwrap();
        drop((listener, speaker, memory));
        let (mut gap, mut gaps) = (false, 0);
        while let Some(received) = ear.next().await {
            match received {
                BusEvent::Gap(kind) => {
                    assert_eq!(kind, Gap::Reconnect);
                    (gap, gaps) = (true, gaps + 1);
                }
                BusEvent::Message(message) => {
                    let number = std::str::from_utf8(&message.payload).unwrap().parse::<u64>().unwrap();
                    let missing = sent.range(..number).count();
                    assert!(missing == 0 || gap, "seed {seed}: {missing} lost before {number}");
                    sent = sent.split_off(&(number + 1));
                    gap = false;
                }
            }
        }
        assert!(sent.is_empty() || gap, "seed {seed}: the last ones are lost");
        assert!(gaps > 0, "seed {seed} lost nothing");
    }
}

#[tokio::test]
async fn a_link_that_broke_heals_although_nobody_calls() {
    let engine = process(&Memory::new(), 1, Faults { cut: 1000, ..Faults::default() });
    let mut link = engine.link();
    assert!(engine.depth("r").await.is_err());
    assert!(matches!(*link.borrow_and_update(), ConnectionState::Down { .. }));
    let up = link.wait_for(|link| matches!(link, ConnectionState::Up { .. })).await.unwrap();
    assert_eq!(*up, ConnectionState::Up { generation: 2 });
}

#[tokio::test]
async fn late_watches_end_at_the_truth() {
    for seed in 0..10 {
        let memory = Memory::new();
        let kv = process(&memory, seed, Faults { late: 600, cut: 50, ..Faults::default() }).kv(Bucket::Pages);
        let mut watch = loop {
            if let Ok(watch) = kv.watch("", WatchMode::Meta).await {
                break watch;
            }
        };
        for round in 0..200u64 {
            let key = format!("k{}", round * 7 % 5);
            let _ = match round % 4 {
                0 => kv.delete(&key, Precondition::Any).await,
                _ => kv.put(Put::new(key, "v", Precondition::Any)).await.map(drop),
            };
            tokio::task::yield_now().await;
        }
        memory.buckets.put(Bucket::Pages, Put::new("end", "v", Precondition::Any)).unwrap();
        let mut view = BTreeMap::new();
        let mut changes = 0;
        while !view.contains_key("end") {
            changes += 1;
            match watch.next().await.unwrap() {
                WatchEvent::Put(entry) => {
                    assert!(view.insert(entry.key, entry.rev).is_none_or(|before| before < entry.rev));
                }
                WatchEvent::Delete { key, .. } => drop(view.remove(&key)),
                WatchEvent::Live => {}
            }
        }
        let truth: BTreeMap<_, _> =
            memory.buckets.list(Bucket::Pages, "").into_iter().map(|e| (e.key, e.rev)).collect();
        assert_eq!(view, truth, "seed {seed}");
        assert!(changes < 200, "seed {seed} skipped no version");
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_process_goes_on_where_it_stopped_and_a_killed_one_takes_nothing() {
    let memory = Memory::new();
    let faulty = Faulty::new(memory.clone(), 1, Faults::default());
    let (engine, other) = (Engine::Faulty(faulty.clone()), Engine::Memory(memory));
    let mut written = faulty.process().suspend_after("turn.");
    let writing = tokio::spawn({
        let kv = engine.kv(Bucket::Jobs);
        async move { kv.put(Put::new("turn.a", "1", Precondition::Absent)).await }
    });
    let second = Duration::from_secs(1);
    tokio::time::sleep(second).await;
    assert!(written.try_recv().is_ok() && !writing.is_finished(), "written, without a reply");
    assert!(other.kv(Bucket::Jobs).get("turn.a", Consistency::Latest).await.unwrap().is_some());
    faulty.process().resume();
    assert_eq!(writing.await.unwrap(), Ok(1));

    let pulling = tokio::spawn(async move { engine.pull("r", 1, second * 60).await });
    tokio::time::sleep(second).await;
    faulty.process().kill();
    tokio::time::sleep(second).await;
    let item = Enqueue { id: "1".into(), route: "r".into(), payload: "".into(), not_before: None };
    other.push(item).await.unwrap();
    assert_eq!(other.pull("r", 1, second).await.unwrap().len(), 1);
    assert!(!pulling.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_wall_clock_shows_until_the_first_sample() {
    let _simulation = crate::simulation::Simulation::begin(1);
    let engine = Engine::Faulty(Faulty::new(Memory::new(), 1, Faults::default()).with_wall_ahead(-300_000));
    let real = crate::clock::unix_ms();
    assert_eq!((engine.clock().now_ms(), engine.clock().is_known()), (real - 300_000, false));
    let now = crate::clock::boot();
    engine.kv(Bucket::Nodes).sample_clock(1, now, now).await.unwrap();
    assert_eq!((engine.clock().now_ms(), engine.clock().offset_ms()), (real, Some(-300_000)));
}
