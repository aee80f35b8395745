//! Tests of the shells with real tasks, on the embedded engine and on the faulty one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Engine, Faults, Faulty, Memory};
use crate::id::Entity;
use crate::id::Key;
use crate::state::{
    DraftWrite, Edit, Fence, Operation, Path, StateError, StateStore, Tree, TreeNotification, TreeUpdate,
};

fn ann() -> Entity {
    Entity::User("ann".into())
}

fn set(path: &str, value: Value) -> DraftWrite {
    let edit = Edit { path: path.parse().unwrap(), value: Some(value) };
    DraftWrite { operation: Operation::Edit(vec![edit]), if_revision: None, from: None, fence: None }
}

/// Replicas that the followers of a process have built from their notifications.
#[derive(Clone, Default)]
struct Replicas(Arc<Mutex<HashMap<Key, (u64, Tree)>>>);

impl Replicas {
    fn of(&self, who: Key) -> (u64, Value) {
        let replicas = self.0.lock().unwrap();
        replicas.get(&who).map_or((0, Value::Null), |(rev, tree)| (*rev, tree.as_value().clone()))
    }

    /// Panics on a gap or on a revision that goes back, which ends all notifications.
    fn apply(&self, delivery: &TreeNotification) {
        let mut replicas = self.0.lock().unwrap();
        for who in delivery.to.iter() {
            match &delivery.update {
                TreeUpdate::Snapshot { revision, value } => {
                    let mut tree = Tree::default();
                    if let Some(value) = value {
                        tree.set(&delivery.path, value.clone()).unwrap();
                    }
                    let before = replicas.insert(*who, (*revision, tree));
                    assert!(before.is_none_or(|(rev, _)| rev <= *revision));
                }
                TreeUpdate::Changed { base, revision, events } => {
                    let (rev, tree) = replicas.get_mut(who).expect("a snapshot first");
                    assert!(*base >= *rev && revision > base);
                    for event in events {
                        tree.change(event.change()).unwrap().expect("changes something");
                    }
                    *rev = *revision;
                }
                TreeUpdate::Removed => drop(replicas.insert(*who, (0, Tree::default()))),
            }
        }
    }
}

/// Starts a process with its feed.
async fn process(engine: Engine) -> (StateStore, Replicas) {
    let (states, replicas) = (StateStore::new(&engine), Replicas::default());
    let followed = replicas.clone();
    tokio::spawn(states.feed(move |delivery| followed.apply(&delivery)));
    (states, replicas)
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "never happened: {what}");
}

/// Writes distinct keys until `count` are acknowledged.
async fn write_keys(states: StateStore, name: &'static str, count: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let path = format!("{name}.k{number}");
        match states.write(&ann(), set(&path, json!(number))).await {
            Ok(_) => acknowledged.push(path),
            Err(refusal) => assert!(refusal.code().retryable(), "{refusal}"),
        }
        if acknowledged.len() == count {
            break;
        }
    }
    acknowledged
}

async fn writers_lose_nothing_and_followers_agree(engines: [Engine; 3]) {
    let [one, two, three] = engines;
    let processes = [process(one).await, process(two).await, process(three).await];
    let follower = Key::from_bits(1);
    for (states, _) in &processes {
        states.follow(ann(), Path::ROOT, follower);
    }
    let names = ["x", "y", "z"];
    let writers: Vec<_> = processes
        .iter()
        .zip(names)
        .flat_map(|((states, _), name)| {
            // two at a time in each process, so that batches form
            let other = match name {
                "x" => "x2",
                "y" => "y2",
                _ => "z2",
            };
            [
                tokio::spawn(write_keys(states.clone(), name, 40)),
                tokio::spawn(write_keys(states.clone(), other, 40)),
            ]
        })
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let truth = async || loop {
        if let Ok(reading) = processes[0].0.get(&ann(), &Path::ROOT.into()).await {
            break (reading.revision, reading.value.unwrap());
        }
    };
    let (_, tree) = truth().await;
    for path in &acknowledged {
        let (name, key) = path.split_once('.').unwrap();
        assert!(tree[name].get(key).is_some(), "{path} was acknowledged and is lost");
    }
    for (_, replicas) in &processes {
        eventually("all follow, in the same order", async || {
            let ((rev, tree), (seen, replica)) = (truth().await, replicas.of(follower));
            (rev, tree.to_string()) == (seen, replica.to_string())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_several_processes_lose_nothing_and_followers_agree() {
    let engine = Engine::Memory(Memory::new());
    writers_lose_nothing_and_followers_agree([engine.clone(), engine.clone(), engine]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_whatever_the_engine_does() {
    for seed in 0..5 {
        let memory = Memory::new();
        let engine =
            |number: u64| Engine::Faulty(Faulty::new(memory.clone(), 3 * seed + number, Faults::all(50)));
        writers_lose_nothing_and_followers_agree([engine(0), engine(1), engine(2)]).await;
    }
}

#[tokio::test]
async fn what_is_asked_at_once_is_one_version_and_a_stale_condition_fails_alone() {
    let (states, _) = process(Engine::Memory(Memory::new())).await;
    let conflict = DraftWrite { if_revision: Some(99), ..set("c", json!(1)) };
    let owner = ann();
    let first = states.write(&owner, set("a", json!(1)));
    let (first, second, conflict, third) = tokio::join!(
        first,
        states.write(&owner, set("b", json!(1))),
        states.write(&owner, conflict),
        states.write(&owner, set("d", json!(1))),
    );
    assert_eq!((first, second, third), (Ok(1), Ok(2), Ok(2)));
    assert_eq!(conflict, Err(StateError::Conflict { revision: 2 }));
    let again = states.write(&ann(), DraftWrite { if_revision: Some(2), ..set("a", json!(1)) }).await;
    assert_eq!(again, Ok(2), "the same value is no version");
    let reading = states.get(&ann(), &"#2".parse().unwrap()).await.unwrap();
    assert_eq!((reading.revision, reading.value), (2, Some(json!(1))));
}

fn fenced(pool: &str, term: u64, write: DraftWrite) -> DraftWrite {
    DraftWrite { fence: Some(Fence::new(pool, "ann", term)), ..write }
}

#[tokio::test]
async fn a_replaced_owner_is_refused_in_every_process_and_pools_do_not_lock_each_other_out() {
    let memory = Engine::Memory(Memory::new());
    let [before, after] = [StateStore::new(&memory), StateStore::new(&memory)];
    before.write(&ann(), fenced("main", 5, set("a", json!(1)))).await.unwrap();
    after.stamp(&ann(), Fence::new("main", "ann", 9)).await.unwrap();
    // the version that this process knows is older than the stamp
    let late = before.write(&ann(), fenced("main", 5, set("a", json!(2)))).await;
    assert_eq!(late, Err(StateError::Stale { term: 9 }));
    assert_eq!(before.stamp(&ann(), Fence::new("main", "ann", 8)).await, late.map(drop));
    before.write(&ann(), fenced("reports", 3, set("b", json!(1)))).await.unwrap();
    after.write(&ann(), fenced("main", 9, set("a", json!(3)))).await.unwrap();
    before.write(&ann(), fenced("reports", 3, set("b", json!(2)))).await.unwrap();
    let owner = ann();
    let (stale, page, newer) = tokio::join!(
        before.write(&owner, fenced("main", 5, set("a", json!(4)))),
        before.write(&owner, set("c", json!(1))),
        before.write(&owner, fenced("main", 10, set("d", json!(1)))),
    );
    assert_eq!(stale, Err(StateError::Stale { term: 9 }));
    assert!(page.is_ok() && newer.is_ok(), "a refused write fails alone: {page:?} {newer:?}");
    let reading = after.get(&ann(), &Path::ROOT.into()).await.unwrap();
    assert_eq!(reading.value, Some(json!({"a": 3, "b": 2, "c": 1, "d": 1})));
}

#[tokio::test]
async fn a_tree_that_does_not_exist_is_guarded_and_stays_absent_for_readers() {
    let memory = Engine::Memory(Memory::new());
    let ((before, replicas), (after, _)) = (process(memory.clone()).await, process(memory).await);
    let follower = Key::from_bits(1);
    before.follow(ann(), Path::ROOT, follower);
    eventually("there is no tree", async || replicas.of(follower) == (0, json!({}))).await;
    after.stamp(&ann(), Fence::new("main", "ann", 9)).await.unwrap();
    let late = || fenced("main", 5, set("a", json!(1)));
    assert_eq!(before.write(&ann(), late()).await, Err(StateError::Stale { term: 9 }));
    let reading = before.get(&ann(), &Path::ROOT.into()).await.unwrap();
    assert_eq!((reading.revision, reading.value), (0, None));
    let create = DraftWrite { if_revision: Some(0), ..fenced("main", 9, set("b", json!(1))) };
    let made = after.write(&ann(), create).await.unwrap();
    eventually("it is seen", async || replicas.of(follower) == (made, json!({"b": 1}))).await;
    before.remove(&ann()).await.unwrap();
    eventually("it is gone", async || replicas.of(follower) == (0, json!({}))).await;
    assert_eq!(
        before.write(&ann(), late()).await,
        Err(StateError::Stale { term: 9 }),
        "removed, not forgotten"
    );
    assert_eq!(replicas.of(follower), (0, json!({})));
}

#[tokio::test]
async fn a_follower_hears_of_its_path_only_and_of_nothing_after_it_left() {
    let (states, replicas) = process(Engine::Memory(Memory::new())).await;
    let (root, part) = (Key::from_bits(1), Key::from_bits(2));
    states.follow(ann(), Path::ROOT, root);
    states.follow(ann(), "a.b".parse().unwrap(), part);
    states.write(&ann(), set("a", json!({"b": {"c": 1}, "bc": 2}))).await.unwrap();
    states.write(&ann(), set("a.bc", json!(3))).await.unwrap();
    eventually("the change arrives", async || replicas.of(root).0 == 2).await;
    assert_eq!(replicas.of(part), (1, json!({"a": {"b": {"c": 1}}})));
    states.leave(part);
    states.write(&ann(), set("a.b", json!(4))).await.unwrap();
    eventually("the change arrives", async || replicas.of(root).0 == 3).await;
    assert_eq!(replicas.of(part).0, 1);
}

#[tokio::test]
async fn a_tree_goes_with_its_lifetime_or_by_hand_and_everybody_is_told() {
    let memory = Engine::Memory(Memory::new());
    let ((here, _), (states, replicas)) = (process(memory.clone()).await, process(memory).await);
    let follower = Key::from_bits(1);
    states.follow(ann(), Path::ROOT, follower);
    here.write(&ann(), set("a", json!(1))).await.unwrap();
    eventually("it is seen", async || replicas.of(follower) == (1, json!({"a": 1}))).await;
    here.remove(&ann()).await.unwrap();
    eventually("it is gone", async || replicas.of(follower) == (0, json!({}))).await;
    let made = here.write(&ann(), set("b", json!(1))).await.unwrap();
    assert!(made > 1, "a revision is never used again");
    here.expire(&ann(), Some(Duration::from_secs(1))).await.unwrap();
    let changed = here.write(&ann(), set("b", json!(2))).await.unwrap();
    eventually("it is seen", async || replicas.of(follower) == (changed, json!({"b": 2}))).await;
    eventually("it expires", async || replicas.of(follower) == (0, json!({}))).await;
    here.write(&ann(), set("b", json!(3))).await.unwrap();
    here.expire(&ann(), Some(Duration::from_secs(1))).await.unwrap();
    here.expire(&ann(), None).await.unwrap();
    let kept = here.get(&ann(), &Path::ROOT.into()).await.unwrap().revision;
    eventually("it is seen", async || replicas.of(follower) == (kept, json!({"b": 3}))).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(here.get(&ann(), &Path::ROOT.into()).await.unwrap().revision, kept, "for good");
}

#[tokio::test]
async fn too_many_writes_at_once_are_refused_and_the_rest_is_done() {
    let states = StateStore::new(&Engine::Memory(Memory::new()));
    let owner = ann();
    let writes = (0..3000).map(|number| states.write(&owner, set("a", json!(number))));
    let outcomes = futures_util::future::join_all(writes).await;
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(StateError::Overloaded)).count();
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(refused > 0 && done > crate::state::MAX_WAITING && refused + done == 3000, "{refused} {done}");
    assert!(states.write(&owner, set("a", json!(1))).await.is_ok(), "later there is room");
}
