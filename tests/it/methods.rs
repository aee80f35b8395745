//! Workers of one lane with different handlers.

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::{Api, Nats, Node, SOON, WorkerProcess, eventually};

/// Calls, half of them of users; and jobs of each mode.
const CALLS: usize = 1000;
const JOBS: usize = 60;

/// Methods of the two workers, with an argument and its result.
const METHODS: [(&str, &str, &str); 2] = [("echo", "[7]", "[7]"), ("sum", "[3, 4]", "7")];

async fn post(api: &Api, path: &str, body: Value) -> Value {
    let response = api.request(Method::POST, path).json(&body).send().await.expect("an answer");
    response.json().await.expect("a JSON body")
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Makes a call of one of the methods, for a user if the number is odd. Returns the answer if it is wrong.
async fn call(api: &Api, number: usize) -> Option<Value> {
    let (method, params, expected) = METHODS[number / 2 % 2];
    let user = (number % 2 == 1).then(|| format!("user {}", number % 100));
    let body = json!({"method": method, "params": json_of(params), "user": user});
    let answer = post(api, "/api/v1/calls", body).await;
    (answer != json_of(expected)).then_some(answer)
}

/// Runs a job of one of the methods and returns its record.
async fn job(api: &Api, number: usize) -> Value {
    let (kind, data, _) = METHODS[number / 2 % 2];
    let mode = ["any", "assigned"][number % 2];
    let user = format!("user {}", number % 10);
    let body =
        json!({"kind": kind, "data": json_of(data), "user": user, "exec_mode": mode, "wait_ms": 20_000});
    post(api, "/api/v1/jobs", body).await
}

#[tokio::test]
async fn no_call_fails_and_each_job_has_one_attempt_when_workers_have_different_handlers() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).set("welcome", false).start().await;
    let api = node.api();
    let workers = [
        WorkerProcess::setup(&nats, "stable").with("--methods", "echo,time").start().await,
        WorkerProcess::setup(&nats, "stable").with("--methods", "sum,time").start().await,
    ];
    api.sees_workers(workers.len()).await;
    let calls = futures_util::stream::iter(0..CALLS).map(|number| call(&api, number)).buffer_unordered(4);
    let jobs = futures_util::stream::iter(0..2 * JOBS).map(|number| job(&api, number)).buffer_unordered(4);
    // the users of the calls have jobs, which move them between the workers
    let (wrong, jobs): (Vec<Value>, Vec<Value>) =
        futures_util::join!(calls.filter_map(std::future::ready).collect(), jobs.collect());
    assert!(wrong.is_empty(), "{} of {CALLS} calls: {:?}", wrong.len(), wrong[0]);
    for job in jobs {
        assert_eq!((&job["state"], &job["attempts"]), (&json!("succeeded"), &json!(1)), "{job}");
    }
}

#[tokio::test]
async fn a_job_waits_for_a_worker_with_its_handler_and_a_call_is_refused_at_once() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).set("welcome", false).start().await;
    let api = node.api();
    let _echo = WorkerProcess::setup(&nats, "stable").with("--methods", "echo").start().await;
    api.sees_workers(1).await;
    let mut waiting = Vec::new();
    for mode in ["any", "assigned"] {
        let body = json!({"kind": "sum", "data": [3, 4], "user": "ann", "exec_mode": mode});
        waiting.push(post(&api, "/api/v1/jobs", body).await);
    }
    for mode in ["any", "assigned"] {
        let body = json!({"method": "sum", "params": [3, 4], "user": "ann", "exec_mode": mode});
        let refused = post(&api, "/api/v1/calls", body).await;
        assert_eq!(refused["error"]["code"], "no_executor", "{refused}");
    }
    let behind = json!({"kind": "echo", "user": "ann", "exec_mode": "assigned", "wait_ms": 20_000});
    assert_eq!(post(&api, "/api/v1/jobs", behind).await["state"], "succeeded");
    let path = |job: &Value| format!("/api/v1/jobs/{}", job["id"].as_str().expect("an id"));
    for job in &waiting {
        let job = api.get_json(&path(job)).await;
        assert_eq!((&job["state"], &job["attempts"]), (&json!("queued"), &json!(0)), "{job}");
        assert_eq!(job["waiting"]["code"], "no_handler", "{job}");
    }
    let _sum = WorkerProcess::setup(&nats, "stable").with("--methods", "sum").start().await;
    for job in &waiting {
        let ended = eventually("the job ends", SOON, async || {
            Some(api.get_json(&path(job)).await).filter(|job| job["state"] == "succeeded")
        })
        .await;
        assert_eq!((&ended["result"], &ended["attempts"]), (&json!(7), &json!(1)), "{ended}");
    }
}

#[tokio::test]
async fn a_worker_does_not_start_with_a_handler_that_it_does_not_have() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagewire"))
        .args(["worker", "--demo", "--nats", "nats://127.0.0.1:1", "--methods", "echo,ehco"])
        .env_clear()
        .output()
        .await
        .expect("the worker runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("no handler ehco") && error.contains("echo"), "{error}");
}
