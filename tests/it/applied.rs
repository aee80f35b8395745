//! The proof that nodes and workers have applied a change of a rollout.

use serde_json::{Value, json};

use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually, pagewire};

async fn status(node: &Node) -> Value {
    node.api().get_json("/api/v1/rollouts/default").await
}

/// Returns the revision of each worker by its name.
fn revisions(status: &Value) -> Vec<(String, Option<u64>)> {
    let workers = status["workers"].as_array().expect("a list").iter();
    let name = |worker: &Value| worker["name"].as_str().expect("a name").to_owned();
    let mut revisions: Vec<_> = workers.map(|worker| (name(worker), worker["revision"].as_u64())).collect();
    revisions.sort();
    revisions
}

#[tokio::test]
async fn every_worker_reports_what_it_has_applied_and_one_that_stands_still_is_named() {
    let nats = Nats::start().await;
    let nodes = [Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await];
    let named = |lane, name| WorkerProcess::setup(&nats, lane).with("--name", name).start();
    let workers = [named("stable", "a").await, named("stable", "b").await, named("canary", "c").await];
    let _other = WorkerProcess::setup(&nats, "stable").with("--pool", "other").start().await;
    for node in &nodes {
        eventually("all see each other", SOON, async || {
            let status = status(node).await;
            (status["applied"]["of"] == 2 && status["applied"]["of_workers"] == 3).then_some(())
        })
        .await;
    }
    let set = async |weight: &str| pagewire(&nodes[0], &["rollout", "set-weight", "default", weight]).await;
    let changed = set("canary=10").await;
    let headline = "pool default: revision 1 applied by 2/2 nodes and 3/3 workers in ";
    assert!(changed.code == 0 && changed.out.starts_with(headline), "{changed:?}");
    assert!(changed.out.contains(" ms (slowest: "), "{changed:?}");
    let expected = ["a", "b", "c"].map(|name| (name.to_owned(), Some(1)));
    let applied = [status(&nodes[0]).await, status(&nodes[1]).await];
    for status in &applied {
        assert_eq!(revisions(status), expected, "{status}");
        assert_eq!(status["applied"]["slowest"], applied[0]["applied"]["slowest"], "any node knows it");
    }

    workers[1].pause();
    let late = set("canary=20").await;
    assert!(late.out.contains("revision 2 applied by 2/2 nodes and 2/3 workers\n"), "{late:?}");
    let id = applied[0]["workers"].as_array().and_then(|all| all.iter().find(|worker| worker["name"] == "b"));
    let id = id.and_then(|worker| worker["worker"].as_str()).expect("its id");
    assert!(late.code == 1 && late.err.contains(&format!("not applied yet by worker {id}")), "{late:?}");
    workers[1].wake();
    eventually("it has applied it, too", SOON, async || {
        let status = status(&nodes[1]).await;
        (status["applied"]["workers"] == json!(3)).then_some(())
    })
    .await;
}
