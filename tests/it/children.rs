//! Programs that run handlers as child processes of a node, and what becomes of their work when they misbehave.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::environment::{Api, Node, Page, SOON, Setup, eventually};

/// The program of the tests.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children/program.py");

/// Returns a pool whose children run the program with these arguments, with more keys.
fn pool(arguments: &[&str], keys: &str) -> String {
    let command: Vec<&str> = ["python3", PROGRAM].iter().chain(arguments).copied().collect();
    format!("[[pool]]\nname = \"default\"\ncommand = {}\n{keys}\n", json!(command))
}

/// Configures a node with one child of each kind.
fn setup(arguments: &[&str]) -> Setup {
    Node::setup().set("welcome", false).file(&pool(arguments, "free = 1\nassigned = 1"))
}

async fn call(api: &Api, method: &str, params: Value) -> (StatusCode, Value) {
    let body = json!({"method": method, "params": params});
    let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
    (response.status(), response.json().await.expect("JSON"))
}

async fn result(api: &Api, method: &str, params: Value) -> Value {
    let (status, body) = call(api, method, params).await;
    assert_eq!(status, StatusCode::OK, "{method}: {body}");
    body
}

async fn error(api: &Api, method: &str, params: Value) -> Value {
    let (status, body) = call(api, method, params).await;
    assert!(!status.is_success(), "{method}: {body}");
    body["error"]["code"].clone()
}

/// Submits a job and returns its id.
async fn submit(api: &Api, body: Value) -> String {
    let response = api.request(Method::POST, "/api/v1/jobs").json(&body).send().await.expect("an answer");
    let job: Value = response.json().await.expect("JSON");
    job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned()
}

/// Waits for the end of a job and returns its record.
async fn ended(api: &Api, job: &str) -> Value {
    eventually("the job ends", SOON * 2, async || {
        let record = api.get_json(&format!("/api/v1/jobs/{job}")).await;
        ["succeeded", "failed", "cancelled", "dead"].contains(&record["state"].as_str()?).then_some(record)
    })
    .await
}

/// Waits until a job runs.
async fn begun(api: &Api, job: &str) {
    eventually("the job runs", SOON, async || {
        (api.get_json(&format!("/api/v1/jobs/{job}")).await["state"] == "running").then_some(())
    })
    .await;
}

/// Returns the pool of the children.
async fn status(api: &Api) -> Value {
    api.get_json("/api/v1/executors").await["pools"][0].clone()
}

/// Returns how many pieces of work the children run.
async fn running(api: &Api) -> u64 {
    let status = status(api).await;
    let children = status["children"].as_array().expect("a list").iter();
    children.map(|child| child["running"].as_u64().expect("a number")).sum()
}

async fn gone(pid: &Value) {
    eventually("the process is gone", SOON, async || (!is_alive(pid)).then_some(())).await;
}

fn is_alive(pid: &Value) -> bool {
    let pid = Pid::from_raw(pid.as_i64().expect("a pid").try_into().expect("a pid")).expect("a pid");
    test_kill_process(pid).is_ok()
}

fn send(pid: &Value, signal: Signal) {
    let pid = Pid::from_raw(pid.as_i64().expect("a pid").try_into().expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("a living process");
}

/// Waits until a handler is served by another process than this one.
async fn replaced(api: &Api, before: &Value) -> Value {
    eventually("another child serves", SOON, async || {
        let (status, who) = call(api, "who", json!(null)).await;
        (status.is_success() && who["pid"] != *before).then(|| who["pid"].clone())
    })
    .await
}

#[tokio::test]
async fn a_page_calls_handlers_of_a_program_and_follows_its_jobs() {
    let node = setup(&[]).start().await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "call", "id": 1, "method": "echo", "params": {"text": "Grüße"}})).await;
    assert_eq!(page.expect("result").await["value"], json!({"text": "Grüße"}));
    page.send(json!({"type": "call", "id": 2, "method": "fail"})).await;
    assert_eq!(page.expect("error").await["code"], "broken");
    page.send(json!({"type": "job", "id": 3, "kind": "sleep", "data": {"ms": 400}})).await;
    page.expect("accepted").await;
    assert!(page.expect("progress").await["progress"].as_f64() < Some(1.0));
    let mut frame = page.next().await;
    while frame["type"] == "progress" {
        frame = page.next().await;
    }
    assert!(frame["type"] == "result" && frame["value"].is_number(), "{frame}");
}

#[tokio::test]
async fn the_configuration_of_the_node_is_not_in_the_environment_of_a_child() {
    let node = setup(&[]).users().start().await;
    let names = result(&node.api(), "environment", json!(null)).await;
    assert_eq!(names, json!(["PAGEWIRE_SOCKET", "PAGEWIRE_TOKEN"]));
}

#[tokio::test]
async fn a_child_that_is_killed_loses_its_calls_and_its_jobs_run_again() {
    let node = setup(&[]).start().await;
    let api = node.api();
    let before = result(&api, "who", json!(null)).await["pid"].clone();
    let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 1500}, "exec_mode": "any"})).await;
    begun(&api, &job).await;
    let (lost, ()) = futures_util::join!(error(&api, "sleep", json!({"ms": 5000})), async {
        eventually("both run", SOON, async || (running(&api).await == 2).then_some(())).await;
        send(&before, Signal::KILL);
    });
    assert_eq!(lost, "worker_lost");
    let record = ended(&api, &job).await;
    assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(2)), "{record}");
    assert_ne!(record["result"], before);
    let status = status(&api).await;
    assert_eq!(status["restarts"], 1, "{status}");
    assert!(status["last_error"].as_str().expect("a reason").contains("signal 9"), "{status}");
}

#[tokio::test]
async fn a_kind_that_kills_its_children_is_quarantined_and_others_go_on() {
    let node = setup(&[]).start().await;
    let api = node.api();
    let job = submit(&api, json!({"kind": "end", "data": 3, "exec_mode": "any"})).await;
    let record = ended(&api, &job).await;
    assert_ne!(record["state"], "succeeded", "{record}");
    let quarantine = api.get_json("/api/v1/quarantine").await.to_string();
    assert!(quarantine.contains("end"), "{quarantine}");
    eventually("the pool serves again", SOON, async || {
        call(&api, "echo", json!(1)).await.0.is_success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_does_not_stop_is_ended_with_its_child_and_other_work_runs_again() {
    let node = setup(&[]).start().await;
    let api = node.api();
    let before = result(&api, "who", json!(null)).await["pid"].clone();
    let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 2500}, "exec_mode": "any"})).await;
    begun(&api, &job).await;
    assert_eq!(error(&api, "hang", json!(null)).await, "timeout");
    let record = ended(&api, &job).await;
    assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert_ne!(record["result"], before);
    gone(&before).await;
}

#[tokio::test]
async fn a_child_that_stands_still_is_replaced() {
    let node = setup(&[]).start().await;
    let api = node.api();
    let before = result(&api, "who", json!(null)).await["pid"].clone();
    // without work: it does not answer pings
    send(&before, Signal::STOP);
    let second = replaced(&api, &before).await;
    gone(&before).await;
    // with work: its time is over
    let body = json!({"method": "freeze", "timeout_ms": 300});
    let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
    assert!(!response.status().is_success());
    replaced(&api, &second).await;
    gone(&second).await;
}

#[tokio::test]
async fn a_child_that_breaks_the_protocol_is_replaced_and_one_that_answers_twice_is_not() {
    let node = setup(&[]).start().await;
    let api = node.api();
    let first = result(&api, "who", json!(null)).await["pid"].clone();
    assert_eq!(result(&api, "twice", json!(null)).await, 1);
    assert_eq!(result(&api, "who", json!(null)).await["pid"], first);
    assert_eq!(error(&api, "garbage", json!(null)).await, "worker_lost");
    let second = replaced(&api, &first).await;
    assert_eq!(error(&api, "half", json!(null)).await, "worker_lost");
    replaced(&api, &second).await;
}

#[tokio::test]
async fn nothing_that_a_child_has_started_outlives_it_or_the_node() {
    let mut node = setup(&[]).start().await;
    let api = node.api();
    let started = result(&api, "fork", json!(null)).await;
    let before = result(&api, "who", json!(null)).await["pid"].clone();
    let all: Vec<&Value> = started.as_array().expect("pids").iter().chain([&before]).collect();
    assert!(all.iter().all(|pid| is_alive(pid)));
    send(&before, Signal::KILL);
    eventually("they are gone with the child", SOON, async || {
        (!all.iter().any(|pid| is_alive(pid))).then_some(())
    })
    .await;
    replaced(&api, &before).await;
    let started = result(&api, "fork", json!(null)).await;
    let all: Vec<&Value> = started.as_array().expect("pids").iter().collect();
    node.kill();
    eventually("they are gone with the node", SOON, async || {
        (!all.iter().any(|pid| is_alive(pid))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_terminated_ends_children_that_ignore_sigterm() {
    let mut node = setup(&["--ignore-term"]).start().await;
    let before = result(&node.api(), "who", json!(null)).await["pid"].clone();
    node.terminate();
    assert!(node.exit(SOON).await.success());
    gone(&before).await;
}

#[tokio::test]
async fn a_node_stays_up_when_its_program_does_not_start_and_shows_why() {
    let mut node = setup(&["--exit-at-start"]).launch();
    let api = node.api();
    let status = eventually("the failures are reported", SOON, async || {
        let response = api.request(Method::GET, "/api/v1/executors").send().await.ok()?;
        let pool = response.json::<Value>().await.ok()?["pools"][0].clone();
        (pool["failing"] == true).then_some(pool)
    })
    .await;
    let reason = status["last_error"].as_str().expect("a reason");
    assert!(reason.contains("exited with 1") && reason.contains("does not import"), "{reason}");
    assert!(node.is_running());
    eventually("the readiness shows it", SOON, async || {
        let (status, body) = api.get("/readyz").await;
        (status == StatusCode::SERVICE_UNAVAILABLE && body.contains("pools")).then_some(())
    })
    .await;
    assert_eq!(error(&api, "echo", json!(1)).await, "no_executor");
    assert!(node.log().contains("does not import"));
}

#[tokio::test]
async fn a_program_that_is_never_ready_or_does_not_exist_is_tried_again() {
    for (command, expected) in [
        (json!(["python3", PROGRAM, "--never-ready"]), "not ready within 200 ms"),
        (json!(["no-such-program"]), "cannot start no-such-program"),
    ] {
        let keys = format!(
            "[[pool]]\nname = \"default\"\ncommand = {command}\nfree = 1\nassigned = 0\nstart_ms = 200"
        );
        let node = Node::setup().set("welcome", false).file(&keys).launch();
        let api = node.api();
        eventually("the reason is shown", SOON, async || {
            let response = api.request(Method::GET, "/api/v1/executors").send().await.ok()?;
            let pool = response.json::<Value>().await.ok()?["pools"][0].clone();
            (pool["restarts"].as_u64()? >= 2 && pool["last_error"].as_str()?.contains(expected)).then_some(())
        })
        .await;
    }
}

/// Calls a handler again and again until `until` has ended, and returns how many calls there were. Each must succeed.
async fn under_load(api: &Api, method: &str, until: impl Future<Output = ()>) -> usize {
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

#[tokio::test]
async fn a_reload_under_load_replaces_every_child_without_a_failed_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program.py");
    let write = |version: &str, methods: &str| {
        let source = std::fs::read_to_string(PROGRAM).expect("the program");
        let source = source
            .replace("default=\"1\"", &format!("default=\"{version}\""))
            .replace("options.only or list(HANDLERS)", &format!("options.only or list(HANDLERS){methods}"));
        std::fs::write(&program, source).expect("a file");
    };
    write("1", "[:3]");
    let command = json!(["python3", program]);
    let keys = format!("[[pool]]\nname = \"default\"\ncommand = {command}\nfree = 2\nassigned = 1");
    let node = Node::setup().set("welcome", false).file(&keys).start().await;
    let api = node.api();
    assert_eq!(result(&api, "version", json!(null)).await, "1");
    // the new version has more handlers
    write("2", "");
    let calls = under_load(&api, "echo", async {
        node.hang_up();
        eventually("only the new version serves", SOON, async || {
            let versions: Vec<_> = futures_util::stream::iter(0..8)
                .then(async |_| call(&api, "version", json!(null)).await.1)
                .collect()
                .await;
            versions.iter().all(|version| version == "2").then_some(())
        })
        .await;
        eventually("its new handlers are served", SOON, async || {
            call(&api, "environment", json!(null)).await.0.is_success().then_some(())
        })
        .await;
    })
    .await;
    assert!(calls > 0);
}

#[tokio::test]
async fn a_child_is_recycled_after_its_work_or_its_memory_without_a_failed_call() {
    let keys = "free = 1\nassigned = 0\nslots = 4\nrecycle = { max_work = 50, max_rss = \"120M\" }";
    let node = Node::setup().set("welcome", false).file(&pool(&[], keys)).start().await;
    let api = node.api();
    let first = result(&api, "who", json!(null)).await["pid"].clone();
    let calls = under_load(&api, "echo", async { drop(replaced(&api, &first).await) }).await;
    assert!(calls > 0);
    let leaking = result(&api, "leak", json!(200)).await;
    replaced(&api, &leaking).await;
    gone(&leaking).await;
    let status = status(&api).await;
    assert_eq!(status["restarts"], 0, "a recycled child has not failed: {status}");
}

#[tokio::test]
async fn children_are_added_for_work_that_waits_and_removed_when_they_are_idle() {
    let keys = "assigned = 0\nslots = 1\nscale = { min = 1, max = 4 }";
    // of four slots, one is reserved for calls
    let node = Node::setup().set("welcome", false).file(&pool(&[], keys)).start().await;
    let api = node.api();
    let count = async || status(&api).await["children"].as_array().expect("a list").len();
    assert_eq!(count().await, 1);
    let jobs = futures_util::stream::iter(0..12)
        .map(async |_| {
            let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 500}, "exec_mode": "any"})).await;
            ended(&api, &job).await["result"].clone()
        })
        .buffer_unordered(12)
        .collect::<Vec<_>>();
    let (pids, ()) = futures_util::join!(jobs, async {
        eventually("all three run", SOON, async || (count().await == 3).then_some(())).await;
    });
    let pids: std::collections::BTreeSet<_> = pids.iter().map(Value::to_string).collect();
    assert_eq!(pids.len(), 3);
    eventually("one is left", SOON, async || (count().await == 1).then_some(())).await;
}

#[tokio::test]
async fn a_user_has_one_child_and_another_user_another_one() {
    let node = Node::setup().set("welcome", false).file(&pool(&[], "free = 1\nassigned = 2")).start().await;
    let api = node.api();
    let pid_of = async |user: &str| {
        let body = json!({"method": "who", "user": user});
        let response =
            api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
        response.json::<Value>().await.expect("JSON")["pid"].clone()
    };
    let (ann, bob) = (pid_of("ann").await, pid_of("bob").await);
    assert_ne!(ann, bob, "users are spread");
    for _ in 0..5 {
        assert_eq!((pid_of("ann").await, pid_of("bob").await), (ann.clone(), bob.clone()));
    }
    let free = result(&api, "who", json!(null)).await["pid"].clone();
    assert!(free != ann && free != bob, "free work goes to other children");
    let users: Vec<u64> = status(&api).await["children"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|child| child["users"].as_u64().expect("a number"))
        .collect();
    assert_eq!(users.iter().sum::<u64>(), 2, "{users:?}");
}

#[tokio::test]
async fn a_job_is_put_off_without_counting_as_an_attempt_and_cancelled_in_its_child() {
    let node = setup(&[]).start().await;
    let api = node.api();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("attempts");
    let data = json!({"file": file});
    let job = submit(&api, json!({"kind": "snooze", "data": data, "exec_mode": "any"})).await;
    let record = ended(&api, &job).await;
    assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert_eq!(lines(&file), 3);
    let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 60_000}, "exec_mode": "any"})).await;
    begun(&api, &job).await;
    let cancel =
        api.request(Method::POST, &format!("/api/v1/jobs/{job}/cancel")).json(&json!({})).send().await;
    assert!(cancel.expect("an answer").status().is_success());
    assert_eq!(ended(&api, &job).await["state"], "cancelled");
    eventually("its slot is free", SOON, async || (running(&api).await == 0).then_some(())).await;
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).expect("a file").lines().count()
}

#[tokio::test]
async fn a_drained_node_lets_the_work_of_its_children_end() {
    let mut node = setup(&[]).start().await;
    let api = node.api();
    let (value, ()) = futures_util::join!(result(&api, "sleep", json!({"ms": 1000})), async {
        eventually("the call runs", SOON, async || (running(&api).await == 1).then_some(())).await;
        node.terminate();
    });
    assert!(value.is_number());
    assert!(node.exit(Duration::from_secs(20)).await.success());
}
