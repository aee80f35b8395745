//! Tests of state trees on real servers: several processes write one tree, and each follows it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagewire_cluster::engine::Engine;
use pagewire_cluster::id::Entity;
use pagewire_cluster::id::Key;
use pagewire_cluster::state::{
    DraftWrite, Edit, Fence, Operation, Path, StateError, StateStore, Tree, TreeChange, TreeNotification,
    TreeUpdate,
};
use serde_json::json;

use crate::server::{Server, Trio, eventually};

const FOLLOWER: Key = Key::from_bits(1);

fn ann() -> Entity {
    Entity::User("ann *.>".into())
}

fn set(path: &str, number: usize) -> DraftWrite {
    let edit = Edit { path: path.parse().expect("a path"), value: Some(json!(number)) };
    DraftWrite { operation: Operation::Edit(vec![edit]), if_revision: None, from: None, fence: None }
}

/// The state that a follower of the whole tree has.
#[derive(Clone, Default)]
struct Replica(Arc<Mutex<(u64, Tree)>>);

impl Replica {
    fn revision(&self) -> u64 {
        self.0.lock().expect("nothing failed").0
    }

    fn text(&self) -> String {
        self.0.lock().expect("nothing failed").1.as_value().to_string()
    }

    fn told(&self, news: TreeUpdate) {
        let (known, tree) = &mut *self.0.lock().expect("nothing failed");
        match news {
            TreeUpdate::Snapshot { revision, value } => {
                assert!(revision >= *known, "a revision goes back");
                *tree = Tree::default();
                if let Some(value) = value {
                    tree.set(&Path::ROOT, value).expect("a tree");
                }
                *known = revision;
            }
            TreeUpdate::Changed { base, revision, events } => {
                assert!(
                    base == *known && revision > base,
                    "{base} to {revision} does not lead on from {known}"
                );
                for event in events {
                    let change =
                        TreeChange { path: event.path.clone(), value: event.new.clone(), from: event.from };
                    tree.change(change).expect("fits").expect("changes something");
                }
                *known = revision;
            }
            TreeUpdate::Removed => (*known, *tree) = (0, Tree::default()),
        }
    }
}

/// Starts a process that follows the tree.
async fn process(engine: Engine) -> (StateStore, Replica) {
    let (states, replica) = (StateStore::new(&engine), Replica::default());
    let told = replica.clone();
    tokio::spawn(states.feed(move |delivery: TreeNotification| told.told(delivery.update)));
    states.follow(ann(), Path::ROOT, FOLLOWER);
    (states, replica)
}

/// Writes keys below `name` until `count` writes are acknowledged.
async fn write(states: StateStore, name: String, count: usize) -> Vec<(String, String)> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if acknowledged.len() == count {
            break;
        }
        let key = format!("k{number}");
        match states.write(&ann(), set(&format!("{name}.{key}"), number)).await {
            Ok(_) => acknowledged.push((name.clone(), key)),
            Err(refusal) => {
                assert!(refusal.code().retryable(), "{refusal}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    acknowledged
}

/// Runs two writers in each process during `happens`. Asserts that no acknowledged write is lost, and that
/// every replica converges to the stored tree.
async fn converge(processes: &[(StateStore, Replica)], count: usize, happens: impl Future<Output = ()>) {
    let numbered = processes.iter().enumerate();
    let writers: Vec<_> = numbered
        .flat_map(|(number, (states, _))| {
            ["a", "b"].map(|name| tokio::spawn(write(states.clone(), format!("{name}{number}"), count)))
        })
        .collect();
    happens.await;
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("writes"));
    }
    let truth = processes[0].0.get(&ann(), &Path::ROOT.into()).await.expect("reads");
    let tree = truth.value.expect("a tree");
    for (name, key) in acknowledged {
        assert!(tree[&name].get(&key).is_some(), "{name}.{key} was acknowledged and is lost");
    }
    for (_, replica) in processes {
        eventually("all follow", async || {
            // a write with an unknown outcome may be stored late
            let truth = processes[0].0.get(&ann(), &Path::ROOT.into()).await.expect("reads");
            let tree = truth.value.expect("a tree").to_string();
            (replica.revision(), replica.text()) == (truth.revision, tree)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_write_one_tree_and_a_restart_loses_nothing() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.expect("starts");
    let processes = [
        process(server.engine().await).await,
        process(server.engine().await).await,
        process(server.engine().await).await,
    ];
    converge(&processes, 60, async {
        eventually("writing goes on", async || processes[0].1.revision() > 20).await;
        tokio::task::block_in_place(|| server.start_again());
    })
    .await;
    processes[1].0.remove(&ann()).await.expect("removes");
    for (_, replica) in &processes {
        eventually("all followers are notified", async || replica.revision() == 0 && replica.text() == "{}")
            .await;
    }
    let before = processes[2].0.write(&ann(), set("a", 1)).await.expect("writes");
    assert!(before > 60, "a revision is never used again");
    processes[2].0.expire(&ann(), Some(Duration::from_secs(1))).await.expect("writes");
    eventually("all followers are notified", async || processes[0].1.revision() > before).await;
    eventually("it expires everywhere", async || {
        processes.iter().all(|(_, replica)| replica.revision() == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_of_which_one_is_killed_lose_no_write() {
    let mut trio = tokio::task::spawn_blocking(Trio::start).await.expect("starts");
    let processes = [
        process(trio.engine().await).await,
        process(trio.engine().await).await,
        process(trio.engine().await).await,
    ];
    converge(&processes, 60, async {
        eventually("writing goes on", async || processes[0].1.revision() > 20).await;
        tokio::task::block_in_place(|| trio.0[0].kill());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_owner_is_refused_on_a_real_server() {
    let server = tokio::task::spawn_blocking(Server::start).await.expect("starts");
    let [before, after] = [StateStore::new(&server.engine().await), StateStore::new(&server.engine().await)];
    let fence = |pool: &str, term| Some(Fence::new(pool, "ann *.>", term));
    let write = |pool, term, number| DraftWrite { fence: fence(pool, term), ..set("a", number) };
    after.stamp(&ann(), Fence::new("main", "ann *.>", 9)).await.expect("stamps");
    let late = before.write(&ann(), write("main", 5, 1)).await;
    assert_eq!(late, Err(StateError::Stale { term: 9 }), "before the new owner has written anything");
    assert_eq!(before.get(&ann(), &Path::ROOT.into()).await.expect("reads").revision, 0);
    before.write(&ann(), write("reports", 1, 2)).await.expect("another pool");
    after.remove(&ann()).await.expect("removes");
    assert_eq!(before.write(&ann(), write("main", 5, 3)).await, late, "a removal keeps the fences");
    after.write(&ann(), write("main", 9, 4)).await.expect("the owner");
}
