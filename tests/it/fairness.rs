//! Many jobs of one user, and one of another, at a worker over NATS.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::{Api, Nats, Node, WorkerProcess};

/// Jobs of the first user.
const MANY: usize = 400;

async fn submit(api: &Api, body: Value) -> Value {
    let response = api.request(Method::POST, "/api/v1/jobs").json(&body).send().await.expect("an answer");
    response.json().await.expect("a JSON body")
}

#[tokio::test]
async fn a_job_does_not_wait_behind_the_many_of_another_user() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let api = node.api();
    let many = json!({"kind": "sleep", "data": {"ms": 50}, "user": "ann", "exec_mode": "any"});
    let submitted: Vec<Value> = futures_util::stream::iter(0..MANY)
        .map(|_| submit(&api, many.clone()))
        .buffer_unordered(16)
        .collect()
        .await;
    assert!(submitted.iter().all(|job| job["state"] == "queued"));
    let _worker = WorkerProcess::setup(&nats, "stable").with("--slots", "4").start().await;
    // not all of them are in the shard of the first user
    let mut others: FuturesUnordered<_> = ["bob", "cid", "dan", "eve"]
        .map(|user| {
            submit(&api, json!({"kind": "echo", "user": user, "exec_mode": "any", "wait_ms": 20_000}))
        })
        .into_iter()
        .collect();
    let first = others.next().await.expect("a job");
    assert_eq!(first["state"], "succeeded", "{first}");
    let waiting = api.get_json("/api/v1/jobs?state=queued&user=ann&limit=1000").await;
    let waiting = waiting["items"].as_array().expect("a list").len();
    assert!(waiting > MANY / 2, "it ran when only {waiting} were left");
}
