//! Programs that run handlers as child processes of a node, and what becomes of their work when they misbehave.

use std::path::Path;

use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::environment::children::*;
use crate::environment::{Node, Page, SOON, eventually};

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
        (status == StatusCode::SERVICE_UNAVAILABLE && body.contains("pool default")).then_some(())
    })
    .await;
    assert_eq!(error(&api, "echo", json!(1)).await, "no_executor");
    assert!(node.log().contains("does not import"));
}

#[tokio::test]
async fn a_program_that_is_never_ready_delays_neither_its_node_nor_another_pool() {
    let slow = format!(
        "[[pool]]\nname = \"slow\"\ncommand = {}\nfree = 1\nassigned = 0\nstart_ms = 600000\n",
        json!(["python3", PROGRAM, "--never-ready"])
    );
    let mut node = Node::setup()
        .set("welcome", false)
        .file(&format!("{slow}{}", pool(&[], "free = 1\nassigned = 1")))
        .launch();
    let api = node.api();
    let answer = first_call(&api, "echo", json!(1)).await;
    assert_eq!(answer, (StatusCode::OK, json!(1)), "a call waits for the program of its pool");
    assert_eq!(api.get("/livez").await.0, StatusCode::OK);
    eventually("only one pool is not ready", SOON, async || {
        let (status, body) = api.get("/readyz").await;
        let missing = serde_json::from_str::<Value>(&body).ok()?["missing"].clone();
        (status == StatusCode::SERVICE_UNAVAILABLE && missing == json!(["pool slow"])).then_some(())
    })
    .await;
    let job = submit(&api, json!({"kind": "echo", "data": 2, "exec_mode": "any"})).await;
    assert_eq!(ended(&api, &job).await["result"], 2, "work is followed to its end");
    node.terminate();
    assert!(node.exit(SOON).await.success());
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
async fn a_node_without_file_descriptors_goes_on_and_starts_its_child_when_there_are_some() {
    let node = setup(&[]).start().await;
    let api = node.api();
    let before = result(&api, "who", json!(null)).await["pid"].clone();
    let process = Pid::from_raw(i32::try_from(node.pid()).expect("a pid"));
    let old = getrlimit(Resource::Nofile);
    // what is open stays open, and no number below this one is free
    let few = Rlimit { current: Some(4), maximum: old.maximum };
    prlimit(process, Resource::Nofile, few).expect("a process of ours");
    send(&before, Signal::KILL);
    eventually("a start fails", SOON, async || node.log().contains("Too many open files").then_some(()))
        .await;
    prlimit(process, Resource::Nofile, old).expect("a process of ours");
    replaced(&api, &before).await;
}
