//! Faults of workers that run a program: they and their children are killed, drained and reloaded.

use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::environment::children::{begun, call, ended, gone, is_alive, send, status, submit};
use crate::environment::python::{children, python_pool, python_worker, under_load, who};
use crate::environment::{Api, Nats, Node, SOON, WorkerProcess, eventually};

/// Starts a node without handlers.
async fn bare(nats: &Nats) -> Node {
    Node::setup().set("welcome", false).nats(nats).start().await
}

async fn worker(nats: &Nats, children: &str) -> WorkerProcess {
    python_worker(nats, "stable").with("--children", children).start().await
}

async fn nap(api: &Api, ms: u64) -> String {
    submit(api, json!({"kind": "nap", "data": {"ms": ms}, "exec_mode": "any"})).await
}

/// Makes a long call, causes a fault while it runs, and returns the answer.
async fn while_a_call_runs(api: &Api, fault: impl FnOnce()) -> (StatusCode, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("runs");
    let (answer, ()) = futures_util::join!(call(api, "nap", json!({"ms": 60_000, "file": file})), async {
        eventually("the call runs", SOON, async || file.exists().then_some(())).await;
        fault();
    });
    answer
}

#[tokio::test]
async fn nothing_outlives_a_killed_worker_and_its_work_runs_at_another_one() {
    let nats = Nats::start().await;
    let node = bare(&nats).await;
    let api = node.api();
    let mut first = worker(&nats, "2").await;
    let before = children(&api, 2).await;
    let job = nap(&api, 1500).await;
    begun(&api, &job).await;
    let (status, body) = while_a_call_runs(&api, || first.kill()).await;
    assert!(!status.is_success(), "{body}");
    assert!(["worker_lost", "timeout"].contains(&body["error"]["code"].as_str().expect("a code")), "{body}");
    for pid in &before {
        gone(pid).await;
    }
    let _second = worker(&nats, "1").await;
    let record = ended(&api, &job).await;
    assert_eq!(record["state"], "succeeded", "{record}");
    assert!(!before.contains(&record["result"]), "{record}");
    assert!(who(&api, Some("ann")).await.is_some(), "calls are answered");
}

#[tokio::test]
async fn a_child_killed_under_a_worker_loses_its_calls_at_once_and_its_jobs_run_again() {
    let nats = Nats::start().await;
    let node = bare(&nats).await;
    let api = node.api();
    let _worker = worker(&nats, "1").await;
    let before = children(&api, 1).await.remove(0);
    let job = nap(&api, 1500).await;
    begun(&api, &job).await;
    let lost = while_a_call_runs(&api, || send(&before, Signal::KILL)).await;
    assert_eq!(lost.1["error"]["code"], "worker_lost", "{lost:?}");
    let record = ended(&api, &job).await;
    assert_eq!(record["state"], "succeeded", "{record}");
    assert_ne!(record["result"], before);
}

#[tokio::test]
async fn a_worker_reloads_its_program_under_load_without_a_failed_call() {
    let nats = Nats::start().await;
    let node = bare(&nats).await;
    let api = node.api();
    let worker = worker(&nats, "2").await;
    let before = children(&api, 2).await;
    let calls = under_load(&api, async {
        worker.hang_up();
        for pid in &before {
            gone(pid).await;
        }
        children(&api, 2).await;
    });
    assert!(calls.await > 0);
}

#[tokio::test]
async fn a_drained_worker_finishes_its_work_and_hands_over_without_a_failed_call() {
    let nats = Nats::start().await;
    let node = bare(&nats).await;
    let api = node.api();
    let mut first = worker(&nats, "1").await;
    let before = children(&api, 1).await.remove(0);
    let job = nap(&api, 1500).await;
    begun(&api, &job).await;
    let _second = worker(&nats, "1").await;
    children(&api, 2).await;
    let calls = under_load(&api, async {
        first.terminate();
        assert!(first.exit(SOON).await.success());
    });
    assert!(calls.await > 0);
    let record = ended(&api, &job).await;
    assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert_eq!(record["result"], before, "it ended where it had begun");
    assert!(!is_alive(&before));
}

#[tokio::test]
async fn a_user_of_a_killed_worker_is_served_by_another_one_with_the_timing_of_production() {
    let nats = Nats::start().await;
    let node = Node::setup().set("welcome", false).nats(&nats).real_timing().start().await;
    let api = node.api();
    let start = || python_worker(&nats, "stable").with("--children", "1").real_timing().start();
    let (mut first, mut second) = (start().await, start().await);
    children(&api, 2).await;
    let before = who(&api, Some("ann")).await.expect("an answer")["pid"].clone();
    // a child runs below its guard
    let owner = parent_of(parent_of(&before));
    if owner == first.pid().to_string() {
        first.kill()
    } else {
        second.kill()
    }
    gone(&before).await;
    let after = eventually("the user is served", SOON, async || who(&api, Some("ann")).await).await;
    assert_ne!(after["pid"], before);
}

/// Returns the parent of a process.
fn parent_of(pid: impl std::fmt::Display) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.expect("a parent").trim().to_owned()
}

#[tokio::test]
async fn work_of_a_user_moves_from_the_pool_of_a_node_to_a_worker_without_touching_the_program() {
    let nats = Nats::start().await;
    let pool = python_pool("free = 1\nassigned = 1");
    let mut local = Node::setup().set("welcome", false).nats(&nats).file(&pool).start().await;
    let node = bare(&nats).await;
    let api = node.api();
    let first = eventually("the pool serves", SOON, async || who(&api, Some("ann")).await).await;
    let _worker = worker(&nats, "1").await;
    let own = status(&local.api()).await["children"].to_string();
    assert!(own.contains(&format!("\"pid\":{}", first["pid"])), "the pool serves its user: {own}");
    let moved = eventually("the worker serves", SOON, async || {
        let who = who(&api, None).await?;
        (!own.contains(&format!("\"pid\":{}", who["pid"]))).then_some(who)
    })
    .await;
    let calls = under_load(&api, async {
        local.terminate();
        assert!(local.exit(Duration::from_secs(30)).await.success());
    });
    assert!(calls.await > 0);
    for user in ["ann", "bob", "cleo"] {
        let who = who(&api, Some(user)).await.expect("an answer");
        assert_eq!(who["pid"], moved["pid"], "{user}");
    }
}
