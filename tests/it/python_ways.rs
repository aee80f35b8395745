//! The same handlers in Python in the four places where children can be, by configuration alone.

use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::children::{call, ended, submit};
use crate::environment::python::{python_pool, python_worker};
use crate::environment::{Api, Nats, Node, SOON, Setup, eventually};

/// A user with an assigned executor.
const USER: &str = "ann";

/// Returns how often a method has run at a kind of executor, as a process has counted it.
async fn ran(api: &Api, metric: &str, kind: &str, exec: &str) -> u64 {
    let (_, page) = api.get("/metrics").await;
    let outcome = if metric == "jobs" { "succeeded" } else { "ok" };
    // a worker adds its pool, lane and release
    let labels = format!("kind=\"{kind}\",exec=\"{exec}\",outcome=\"{outcome}\"}} ");
    let counted = page.lines().filter(|line| line.starts_with(&format!("pagewire_{metric}_total{{")));
    counted.filter_map(|line| line.split_once(&labels)?.1.parse::<u64>().ok()).sum()
}

/// Waits until the handlers are served, and returns what one sees.
async fn seen(api: &Api, mode: &str) -> Value {
    let body = json!({"method": "who", "user": USER, "exec_mode": mode});
    eventually("the handlers are served", SOON * 2, async || {
        let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.ok()?;
        response.status().is_success().then_some(())?;
        response.json::<Value>().await.ok()
    })
    .await
}

/// Checks that a call and a job run at a kind of executor. The jobs are counted by the process that runs them.
async fn runs_at(node: &Node, counting: &Api, exec: &str, mode: &str) {
    let api = node.api();
    let seen = seen(&api, mode).await;
    assert_eq!((&seen["user"], &seen["job"]), (&json!(USER), &Value::Null), "{exec}: {seen}");
    assert_ne!(seen["pid"], json!(node.pid()), "{exec}: a process of its own");
    assert!(ran(&api, "calls", "who", exec).await >= 1, "{exec}: the node counts its calls");
    let job = submit(&api, json!({"kind": "who", "user": USER, "exec_mode": mode})).await;
    let record = ended(&api, &job).await;
    assert_eq!((&record["result"]["job"], &record["state"]), (&json!(job), &json!("succeeded")), "{exec}");
    eventually(&format!("{exec}: the job is counted"), SOON, async || {
        (ran(counting, "jobs", "who", exec).await == 1).then_some(())
    })
    .await;
    let kinds = api.get_json("/api/v1/executors").await;
    let kind = kinds["items"].as_array().and_then(|items| items.iter().find(|item| item["kind"] == exec));
    let methods = kind.unwrap_or_else(|| panic!("{exec}: {kinds}"))["methods"].to_string();
    assert!(methods.contains("\"remember\""), "{exec}: {kinds}");
}

#[tokio::test]
async fn one_handler_in_python_runs_in_four_ways_by_configuration_alone() {
    let nats = Nats::start().await;
    let node = |cluster: &str| Node::setup().set("welcome", false).nats(&nats).set("cluster", cluster);
    let alone = || Node::setup().set("welcome", false);
    let both = python_pool("free = 1\nassigned = 1");
    for (exec, mode) in [("local_free", "any"), ("local_assigned", "assigned")] {
        let setups: [Setup; 2] = [alone().file(&both), node("local").file(&both)];
        for setup in setups {
            let node = setup.start().await;
            runs_at(&node, &node.api(), exec, mode).await;
        }
    }
    let node = node("remote").start().await;
    let worker = python_worker(&nats, "stable").with("--cluster", "remote").with("--children", "1");
    let worker = worker.start().await;
    for (exec, mode) in [("remote_free", "any"), ("remote_assigned", "assigned")] {
        runs_at(&node, &worker.api(), exec, mode).await;
    }
}

#[tokio::test]
async fn the_mode_of_a_handler_is_configured_and_not_programmed() {
    let nats = Nats::start().await;
    let modes = format!("[executors.mode]\nadd = \"assigned\"\n{}", python_pool("free = 1\nassigned = 1"));
    let node = Node::setup().set("welcome", false).nats(&nats).file(&modes).start().await;
    let api = node.api();
    seen(&api, "any").await;
    let body = json!({"method": "add", "params": {"left": 1, "right": 2}, "user": USER});
    let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
    assert_eq!(response.json::<Value>().await.expect("JSON"), 3);
    assert_eq!(ran(&api, "calls", "add", "local_assigned").await, 1);
}

#[tokio::test]
async fn wrong_parameters_and_unknown_methods_are_refused_with_their_names() {
    let nats = Nats::start().await;
    let node = Node::setup().set("welcome", false).nats(&nats).start().await;
    let _worker = python_worker(&nats, "stable").with("--children", "1").start().await;
    let api = node.api();
    seen(&api, "any").await;
    for (method, params, code, named) in [
        ("add", json!({"left": 1, "right": "x"}), "malformed", "`right`"),
        ("add", json!({"left": 1}), "malformed", "`right`"),
        ("add", json!({"left": 1, "right": 2, "middle": 3}), "malformed", "`middle`"),
        ("remembr", json!(null), "no_executor", "remember"),
    ] {
        let (status, body) = call(&api, method, params.clone()).await;
        assert!(status.is_client_error() || method == "remembr", "{method} {params}: {status} {body}");
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(body["error"]["code"], code, "{method} {params}: {body}");
        assert!(message.contains(named), "{method} {params}: {message}");
    }
    let job = submit(&api, json!({"kind": "add", "data": {"left": true, "right": 1}, "retries": 5})).await;
    let record = ended(&api, &job).await;
    assert_eq!((&record["state"], &record["attempts"]), (&json!("failed"), &json!(1)), "{record}");
    assert_eq!(record["error"]["code"], "malformed", "{record}");
}
