//! Which workers get work: all of them, or the ones of a list, each of its type.

use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::{Api, Nats, Node, SOON, WorkerProcess, eventually, pagewire};

async fn post(api: &Api, path: &str, body: Value) -> Value {
    let response = api.request(Method::POST, path).json(&body).send().await.expect("an answer");
    response.json().await.expect("a JSON body")
}

/// Returns the workers by name, when the node sees that many.
async fn workers(api: &Api, count: usize) -> Vec<Value> {
    let mut workers = eventually("the node sees the workers", SOON, async || {
        let workers = api.get_json("/api/v1/workers").await["items"].as_array().expect("a list").clone();
        (workers.len() == count).then_some(workers)
    })
    .await;
    workers.sort_by_key(|worker| worker["name"].to_string());
    workers
}

/// Runs a job and returns the worker that ran it.
async fn ran_at(api: &Api, mode: &str, user: &str) -> Value {
    let body = json!({"kind": "echo", "user": user, "exec_mode": mode, "wait_ms": 20_000});
    let job = post(api, "/api/v1/jobs", body).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job["worker"].clone()
}

async fn call(api: &Api, mode: &str, user: &str) -> Value {
    let body = json!({"method": "echo", "params": 1, "user": user, "exec_mode": mode});
    post(api, "/api/v1/calls", body).await
}

#[tokio::test]
async fn a_worker_gets_the_work_of_its_type_only() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).set("welcome", false).start().await;
    let api = node.api();
    let typed = |name, kind| WorkerProcess::setup(&nats, "stable").with("--name", name).with("--type", kind);
    let free = typed("a", "free").start().await;
    let seen = workers(&api, 1).await;
    assert_eq!((&seen[0]["type"], &seen[0]["state"]), (&json!("free"), &json!("ready")));
    assert_eq!(call(&api, "any", "ann").await, 1);
    assert_eq!(call(&api, "assigned", "ann").await["error"]["code"], "no_executor");
    let _assigned = typed("b", "assigned").start().await;
    let seen = workers(&api, 2).await;
    for user in 0..20 {
        let user = format!("user {user}");
        assert_eq!(ran_at(&api, "any", &user).await, seen[0]["worker"]);
        assert_eq!(ran_at(&api, "assigned", &user).await, seen[1]["worker"]);
        assert_eq!(call(&api, "any", &user).await, 1);
        assert_eq!(call(&api, "assigned", &user).await, 1);
    }
    drop(free);
    let refused = eventually("the free worker is gone", SOON, async || {
        Some(call(&api, "any", "ann").await).filter(|answer| answer["error"]["code"] == "no_executor")
    })
    .await;
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("stable")), "{refused}");
}

#[tokio::test]
async fn with_a_list_only_its_workers_get_work_and_the_others_are_shown_as_unlisted() {
    let nats = Nats::start().await;
    let list = [("executors.discovery", "manual"), ("executors.worker", "first,second=free")];
    let node = list
        .iter()
        .fold(Node::setup().nats(&nats), |setup, (key, value)| setup.set(key, value))
        .set("welcome", false)
        .start()
        .await;
    let api = node.api();
    let named = |name| {
        let setup = WorkerProcess::setup(&nats, "stable").with("--name", name);
        list.iter().fold(setup, |setup, (key, value)| setup.set(key, value))
    };
    let unlisted = named("other").start().await;
    workers(&api, 1).await;
    assert!(unlisted.log().contains("gives this worker no work"), "{}", unlisted.log());
    let waiting = post(&api, "/api/v1/jobs", json!({"kind": "echo", "exec_mode": "any"})).await;
    assert_eq!(call(&api, "any", "ann").await["error"]["code"], "no_executor");
    let _listed = [named("first").start().await, named("second").start().await];
    let seen = workers(&api, 3).await;
    let states: Vec<_> =
        seen.iter().map(|worker| (&worker["name"], &worker["state"], &worker["gets"])).collect();
    let expected = [
        (json!("first"), json!("ready"), json!(["free", "assigned"])),
        (json!("other"), json!("unlisted"), json!([])),
        (json!("second"), json!("ready"), json!(["free"])),
    ];
    assert_eq!(states, expected.iter().map(|(name, state, gets)| (name, state, gets)).collect::<Vec<_>>());
    let output = pagewire(&node, &["workers"]).await;
    let line = output.out.lines().find(|line| line.contains(" other ")).expect("the worker has a line");
    assert!(line.contains("unlisted"), "{line}");
    for user in 0..20 {
        let user = format!("user {user}");
        assert_ne!(ran_at(&api, "any", &user).await, seen[1]["worker"]);
        assert_eq!(ran_at(&api, "assigned", &user).await, seen[0]["worker"]);
        assert_eq!(call(&api, "assigned", &user).await, 1);
    }
    let path = format!("/api/v1/jobs/{}", waiting["id"].as_str().expect("an id"));
    eventually("the job that waited has run", SOON, async || {
        let job = api.get_json(&path).await;
        (job["state"] == "succeeded" && job["worker"] != seen[1]["worker"]).then_some(())
    })
    .await;
}
