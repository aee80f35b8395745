//! Handlers behind HTTP: the backend is played by the test, and called through nodes and workers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::environment::{
    HttpServer, Nats, Node, Page, ReceivedRequest, SOON, WorkerProcess, eventually, pagewire,
};

const SECRET: &str = "a key for the tests of backends";

/// Returns the configuration of a pool `orders` with a backend.
fn pool(url: &str, more: &str) -> String {
    format!("[[pool]]\nname = \"orders\"\nurl = \"{url}/run\"\nmethods = [\"total\", \"report\"]\n{more}\n")
}

fn work(kind: &str, method: &str, params: Value) -> Value {
    match kind {
        "job" => json!({"type": "job", "id": "j", "kind": method, "data": params, "pool": "orders"}),
        _ => json!({"type": kind, "method": method, "params": params, "pool": "orders"}),
    }
}

fn is_signed(request: &ReceivedRequest) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(request.header("pagewire-timestamp").as_bytes());
    mac.update(b".");
    mac.update(&request.body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    request.header("pagewire-signature") == format!("v1={hex}")
}

/// A backend that adds numbers, reports progress, and keeps what it has received.
struct Backend {
    server: HttpServer,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl Backend {
    async fn start(name: &'static str) -> Self {
        let received = Arc::<Mutex<Vec<ReceivedRequest>>>::default();
        let seen = received.clone();
        let server = HttpServer::start(move |request| {
            let work: Value = serde_json::from_slice(&request.body).expect("JSON");
            if !is_signed(&request) || request.path != "/run" {
                panic!("not a request of a pool: {work}");
            }
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            async move { run(name, work).await }
        })
        .await;
        Self { server, received }
    }

    /// Returns a header of each request so far.
    fn headers(&self, name: &str) -> Vec<String> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.iter().map(|request| request.header(name).to_owned()).collect()
    }
}

async fn run(backend: &str, work: Value) -> (StatusCode, Vec<u8>) {
    let params = &work["params"];
    let (status, body) = match params["do"].as_str().unwrap_or_default() {
        "garbage" => return (StatusCode::OK, b"<html>".to_vec()),
        "large" => (StatusCode::OK, json!("a".repeat(200 * 1024))),
        "slow" => {
            tokio::time::sleep(SOON).await;
            (StatusCode::OK, Value::Null)
        }
        "refuse" => {
            let error = json!({"code": "sold_out", "message": "nothing is left", "retryable": false});
            (StatusCode::UNPROCESSABLE_ENTITY, json!({"error": error}))
        }
        "report" => {
            let callback = work["callback"].as_str().expect("an address for reports");
            let client = reqwest::Client::new();
            let report = json!({"progress": 0.5, "message": "half"});
            let status = client.post(callback).json(&report).send().await.expect("an answer").status();
            assert_eq!(status, StatusCode::NO_CONTENT);
            // until the report has reached the page, whose client then goes on
            while params["wait"] == json!(true)
                && !std::path::Path::new(params["until"].as_str().unwrap_or_default()).exists()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (StatusCode::OK, json!({"callback": callback, "attempt": work["attempt"]}))
        }
        _ => (StatusCode::OK, json!({"from": backend, "user": work["user"], "params": params})),
    };
    (status, serde_json::to_vec(&body).expect("JSON"))
}

#[tokio::test]
async fn a_call_of_a_page_runs_in_the_backend_and_its_trace_arrives() {
    let backend = Backend::start("stable").await;
    let file = pool(&backend.server.url(), &format!("secret = \"{SECRET}\"\ntimeout_ms = 300"));
    let node = Node::setup().file(&file).start().await;
    let mut page = Page::open(&node).await;
    let value = page.result(work("call", "total", json!([1, 2]))).await;
    assert_eq!((&value["from"], &value["params"]), (&json!("stable"), &json!([1, 2])));
    for (what, code) in [("garbage", "failed"), ("slow", "timeout"), ("refuse", "sold_out")] {
        assert_eq!(page.error(work("call", "total", json!({"do": what}))).await, code, "{what}");
    }
    assert_eq!(page.error(work("call", "nothing", json!(1))).await, "no_executor");
    let executors = node.api().get_json("/api/v1/executors").await;
    let backend_now = &executors["backends"][0];
    assert_eq!((&backend_now["pool"], &backend_now["lane"]), (&json!("orders"), &json!("stable")));
    assert_eq!((&backend_now["requests"], &backend_now["failures"]), (&json!(4), &json!(3)));
    assert!(
        backend_now["last_error"].as_str().is_some_and(|error| error.contains("300 ms")),
        "{backend_now}"
    );
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let body = json!({"method": "total", "params": 1, "pool": "orders"});
    let call = node.api().request(Method::POST, "/api/v1/calls").json(&body);
    let call = call.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    assert_eq!(call.send().await.expect("an answer").status(), StatusCode::OK);
    assert!(backend.headers("traceparent").iter().any(|header| header.contains(trace)));
}

#[tokio::test]
async fn a_job_in_the_backend_reports_progress_to_its_page() {
    let backend = Backend::start("stable").await;
    let file = pool(&backend.server.url(), &format!("secret = \"{SECRET}\""));
    let node = Node::setup().file(&file).start().await;
    let mut page = Page::open(&node).await;
    let folder = tempfile::tempdir().expect("a folder");
    let seen = folder.path().join("seen");
    page.send(work("job", "report", json!({"do": "report", "wait": true, "until": seen}))).await;
    page.expect("accepted").await;
    let progress = page.expect("progress").await;
    assert_eq!((&progress["progress"], &progress["message"]), (&json!(0.5), &json!("half")));
    std::fs::write(&seen, "").expect("a file");
    let end = page.expect("result").await;
    assert_eq!((&end["state"], &end["value"]["attempt"]), (&json!("succeeded"), &json!(1)));
    let late = end["value"]["callback"].as_str().expect("an address");
    assert!(late.starts_with(&format!("{}/_work/", node.url())), "{late}");
    let report = reqwest::Client::new().post(late).json(&json!({"progress": 1})).send().await;
    assert_eq!(report.expect("an answer").status(), StatusCode::NOT_FOUND, "the job has ended");
    page.send(work("job", "report", json!({"do": "large"}))).await;
    page.expect("accepted").await;
    assert_eq!(page.expect("result").await["error"]["code"], "too_large");
}

#[tokio::test]
async fn a_lane_has_a_backend_of_its_own() {
    let (stable, canary) = (Backend::start("stable").await, Backend::start("canary").await);
    let lanes = format!("lanes = {{ canary = \"{}/run\" }}\nsecret = \"{SECRET}\"", canary.server.url());
    let node = Node::setup().file(&pool(&stable.server.url(), &lanes)).start().await;
    let mut page = Page::open(&node).await;
    let from = async |page: &mut Page| page.result(work("call", "total", json!(1))).await["from"].clone();
    assert_eq!(from(&mut page).await, "stable");
    let set = pagewire(&node, &["rollout", "set-weight", "orders", "canary=100"]).await;
    assert_eq!(set.code, 0, "{set:?}");
    eventually("the canary runs the calls", SOON, async || {
        (page.result(work("call", "total", json!(1))).await["from"] == "canary").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_serves_the_pool_and_receives_reports() {
    let (nats, backend) = (Nats::start().await, Backend::start("stable").await);
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a file");
    let file = folder.path().join("worker.toml");
    let named = format!("secret_file = {:?}", secret.display().to_string());
    std::fs::write(&file, pool(&backend.server.url(), &named)).expect("a file");
    let node = Node::setup().nats(&nats).start().await;
    let worker = WorkerProcess::setup(&nats, "stable");
    let worker = worker.with("--config", file.to_str().expect("a path")).start().await;
    let mut page = Page::open(&node).await;
    eventually("the worker is known", SOON, async || {
        let response = page.request(work("call", "total", json!(1))).await;
        (response["value"]["from"] == "stable").then_some(())
    })
    .await;
    page.send(work("job", "report", json!({"do": "report"}))).await;
    let end = loop {
        let frame = page.next().await;
        if frame["type"] == "result" {
            break frame;
        }
    };
    let callback = end["value"]["callback"].as_str().expect("an address");
    assert!(callback.starts_with(&format!("{}/_work/", worker.url())), "{callback}");
}
