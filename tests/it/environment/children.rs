//! A program of the tests whose handlers run in child processes of a node, and clients of its handlers.

use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use super::{Api, Node, SOON, Setup, eventually};

/// The program of the tests.
pub(crate) const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children/program.py");

/// Returns a pool whose children run the program with these arguments, with more keys.
pub(crate) fn pool(arguments: &[&str], keys: &str) -> String {
    let command: Vec<&str> = ["python3", PROGRAM].iter().chain(arguments).copied().collect();
    format!("[[pool]]\nname = \"default\"\ncommand = {}\n{keys}\n", json!(command))
}

/// Configures a node with one child of each kind.
pub(crate) fn setup(arguments: &[&str]) -> Setup {
    Node::setup().set("welcome", false).file(&pool(arguments, "free = 1\nassigned = 1"))
}

pub(crate) async fn call(api: &Api, method: &str, params: Value) -> (StatusCode, Value) {
    let body = json!({"method": method, "params": params});
    let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
    (response.status(), response.json().await.expect("JSON"))
}

/// Calls a handler of a node that has just been launched, as soon as the node takes calls.
pub(crate) async fn first_call(api: &Api, method: &str, params: Value) -> (StatusCode, Value) {
    eventually("the node takes calls", SOON, async || {
        let body = json!({"method": method, "params": params});
        let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.ok()?;
        let status = response.status();
        let body: Value = response.json().await.ok()?;
        // while the process begins, it refuses everything
        (body["error"]["code"] != "unavailable").then_some((status, body))
    })
    .await
}

pub(crate) async fn result(api: &Api, method: &str, params: Value) -> Value {
    let (status, body) = call(api, method, params).await;
    assert_eq!(status, StatusCode::OK, "{method}: {body}");
    body
}

pub(crate) async fn error(api: &Api, method: &str, params: Value) -> Value {
    let (status, body) = call(api, method, params).await;
    assert!(!status.is_success(), "{method}: {body}");
    body["error"]["code"].clone()
}

/// Submits a job and returns its id.
pub(crate) async fn submit(api: &Api, body: Value) -> String {
    let response = api.request(Method::POST, "/api/v1/jobs").json(&body).send().await.expect("an answer");
    let job: Value = response.json().await.expect("JSON");
    job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned()
}

/// Waits for the end of a job and returns its record.
pub(crate) async fn ended(api: &Api, job: &str) -> Value {
    eventually("the job ends", SOON * 2, async || {
        let record = api.get_json(&format!("/api/v1/jobs/{job}")).await;
        ["succeeded", "failed", "cancelled", "dead"].contains(&record["state"].as_str()?).then_some(record)
    })
    .await
}

/// Waits until a job runs.
pub(crate) async fn begun(api: &Api, job: &str) {
    eventually("the job runs", SOON, async || {
        (api.get_json(&format!("/api/v1/jobs/{job}")).await["state"] == "running").then_some(())
    })
    .await;
}

/// Returns the pool of the children.
pub(crate) async fn status(api: &Api) -> Value {
    api.get_json("/api/v1/executors").await["pools"][0].clone()
}

/// Returns how many pieces of work the children run.
pub(crate) async fn running(api: &Api) -> u64 {
    let status = status(api).await;
    let children = status["children"].as_array().expect("a list").iter();
    children.map(|child| child["running"].as_u64().expect("a number")).sum()
}

pub(crate) async fn gone(pid: &Value) {
    eventually("the process is gone", SOON, async || (!is_alive(pid)).then_some(())).await;
}

pub(crate) fn is_alive(pid: &Value) -> bool {
    let pid = Pid::from_raw(pid.as_i64().expect("a pid").try_into().expect("a pid")).expect("a pid");
    test_kill_process(pid).is_ok()
}

pub(crate) fn send(pid: &Value, signal: Signal) {
    let pid = Pid::from_raw(pid.as_i64().expect("a pid").try_into().expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("a living process");
}

/// Waits until a handler is served by another process than this one.
pub(crate) async fn replaced(api: &Api, before: &Value) -> Value {
    eventually("another child serves", SOON, async || {
        let (status, who) = call(api, "who", json!(null)).await;
        (status.is_success() && who["pid"] != *before).then(|| who["pid"].clone())
    })
    .await
}

/// Calls a handler again and again until `until` has ended, and returns how many calls there were. Each must succeed.
pub(crate) async fn under_load(api: &Api, method: &str, until: impl Future<Output = ()>) -> usize {
    let (done, ended) = tokio::sync::watch::channel(false);
    let caller = async || {
        let mut calls = 0;
        while !*ended.borrow() {
            result(api, method, json!(calls)).await;
            calls += 1;
        }
        calls
    };
    let callers = futures_util::future::join_all((0..4).map(|_| caller()));
    let stop = async {
        until.await;
        done.send_replace(true);
    };
    let (counts, ()) = futures_util::join!(callers, stop);
    counts.into_iter().sum()
}
