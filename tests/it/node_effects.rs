//! What handlers in Node do beyond their result, at children of a worker: state, pushes, progress, jobs, calls, locks.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::children::{call, ended, result, submit};
use crate::environment::python::children as served;
use crate::environment::{Nats, Node, Page, SOON, Token, WorkerProcess, eventually};

const WAYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children/ways.mjs");

/// Starts a node without handlers and a worker with that many children.
async fn start(nats: &Nats, children: &str) -> (Node, WorkerProcess) {
    let node = Node::setup().set("welcome", false).nats(nats).users().start().await;
    let worker = WorkerProcess::running(nats, "stable", &["node", WAYS]).with("--children", children);
    let worker = worker.start().await;
    served(&node.api(), children.parse().expect("a number")).await;
    (node, worker)
}

#[tokio::test]
async fn a_handler_in_node_writes_state_that_a_page_watches_and_pushes_to_its_page_and_user() {
    let nats = Nats::start().await;
    let (node, _worker) = start(&nats, "1").await;
    let token = Token::of("ann").sign();
    let mut page = Page::opening(&node).token(&token).open().await;
    let mut other = Page::opening(&node).token(&token).open().await;
    other.send(json!({"type": "watch", "id": 1, "level": "user", "path": "notes"})).await;
    other.expect("result").await;
    other.expect("data").await;
    let reply = page.result(json!({"type": "call", "method": "remember", "params": {"text": "Grüße"}})).await;
    assert_eq!((&reply["page"], &reply["user"]), (&json!(1), &json!(2)), "{reply}");
    assert_eq!(page.message().await, json!({"page": "Grüße"}));
    assert_eq!(page.message().await, json!({"user": "Grüße"}));
    let (mut patched, mut pushed) = (false, false);
    while !(patched && pushed) {
        let frame = other.next().await;
        pushed |= frame["payload"] == json!({"user": "Grüße"});
        patched |= frame["type"] == "data" && frame.to_string().contains("Grüße");
    }
    let read = page.result(json!({"type": "get_data", "level": "session", "path": "notes.session"})).await;
    assert_eq!(read["value"], "Grüße", "{read}");
    let api = node.api();
    let reply = result(&api, "delegate", json!(null)).await;
    assert_eq!(reply["total"], 7, "{reply}");
    assert_eq!(ended(&api, reply["job"].as_str().expect("an id")).await["result"], 8);
    assert_eq!(result(&api, "peek", json!({"user": "ann"})).await, "malformed");
}

#[tokio::test]
async fn a_page_follows_the_progress_of_a_handler_in_node_and_cancels_it() {
    let nats = Nats::start().await;
    let (node, _worker) = start(&nats, "1").await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "job", "id": 1, "kind": "nap", "data": {"ms": 600}})).await;
    page.expect("accepted").await;
    let mut last = 0.0;
    let mut end = page.next().await;
    while end["type"] == "progress" {
        let progress = end["progress"].as_f64().expect("a number");
        assert!(progress >= last, "{end}");
        last = progress;
        end = page.next().await;
    }
    assert!(end["type"] == "result" && end["value"].is_number() && last > 0.0, "{end}");
    page.send(json!({"type": "job", "id": 2, "kind": "nap", "data": {"ms": 60_000}})).await;
    page.expect("accepted").await;
    page.expect("progress").await;
    page.send(json!({"type": "cancel", "id": 2})).await;
    let mut end = page.next().await;
    while end["type"] == "progress" {
        end = page.next().await;
    }
    assert_eq!((&end["type"], &end["state"]), (&json!("result"), &json!("cancelled")), "{end}");
}

#[tokio::test]
async fn two_children_in_node_lose_no_edit_and_one_at_a_time_holds_a_lock() {
    let nats = Nats::start().await;
    let (node, _worker) = start(&nats, "2").await;
    let api = node.api();
    let body = json!({"method": "count", "user": "ann", "exec_mode": "any"});
    join_all((0..12).map(async |_| {
        let request = api.request(Method::POST, "/api/v1/calls").json(&body);
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{}", response.text().await.unwrap_or_default());
    }))
    .await;
    assert_eq!(api.get_json("/api/v1/users/ann/data/count").await, 12);

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shelf");
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    let calls = join_all((0..4).map(|_| result(&api, "reserve", json!({"file": file, "ms": 50})))).await;
    let tokens: BTreeSet<u64> = calls.iter().map(|token| token.as_u64().expect("a token")).collect();
    assert_eq!(tokens.len(), 4, "{calls:?}");
    let written = lines();
    let written: Vec<&str> = written.lines().collect();
    for pair in written.chunks(2) {
        let [begin, end] = pair else { panic!("{written:?}") };
        assert_eq!(begin.strip_prefix("begin"), end.strip_prefix("end"), "{written:?}");
    }
    let pids: BTreeSet<_> = written.iter().map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(pids.len(), 2, "both children: {written:?}");
    let held = futures_util::join!(result(&api, "reserve", json!({"file": file, "ms": 500})), async {
        eventually("the lock is held", SOON, async || (lines().lines().count() > 8).then_some(())).await;
        call(&api, "reserve", json!({"file": file, "wait": 0})).await.1["error"]["code"].clone()
    });
    assert_eq!(held.1, "locked");
}

#[tokio::test]
async fn a_job_in_node_is_put_off_tried_again_and_fails_for_good_as_its_handler_says() {
    let nats = Nats::start().await;
    let (node, _worker) = start(&nats, "1").await;
    let api = node.api();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("attempts");
    let job = submit(&api, json!({"kind": "later", "data": {"file": file}})).await;
    let record: Value = ended(&api, &job).await;
    assert_eq!(record["state"], "succeeded", "{record}");
    assert_eq!(record["result"], json!({"begun": 4, "attempt": 2}), "{record}");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "1\n1\n1\n2\n");
    let job = submit(&api, json!({"kind": "refuse"})).await;
    let record = ended(&api, &job).await;
    assert_eq!((&record["state"], &record["attempts"]), (&json!("failed"), &json!(1)), "{record}");
    assert_eq!(record["error"]["code"], "sold_out", "{record}");
}
