//! Canaries that are taken back, paused and promoted by the evidence, with real workers.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually, pagewire};

async fn rollout(node: &Node, arguments: &[&str]) -> String {
    let output = pagewire(node, &[&["rollout"], arguments].concat()).await;
    assert_eq!(output.code, 0, "{output:?}");
    output.out
}

/// Submits a job of each user, and returns their ids.
async fn submit(node: &Node, users: std::ops::Range<u32>) -> Vec<String> {
    let mut ids = Vec::new();
    for user in users {
        let body = json!({"kind": "echo", "data": user, "user": format!("user-{user}"), "retries": 20});
        let response = node.api().request(Method::POST, "/api/v1/jobs").json(&body).send().await;
        let job: Value = response.expect("an answer").json().await.expect("a JSON body");
        ids.push(job["id"].as_str().expect("an id").to_owned());
    }
    ids
}

/// Makes a call of each user, and returns how many were served.
async fn call(node: &Node, users: std::ops::Range<u32>) -> usize {
    let mut served = 0;
    for user in users {
        let body = json!({"method": "echo", "params": [user], "user": format!("user-{user}")});
        let response = node.api().request(Method::POST, "/api/v1/calls").json(&body).send().await;
        served += usize::from(response.expect("an answer").status() == StatusCode::OK);
    }
    served
}

/// Waits until the last change is one of the analysis with this plan, and returns it.
async fn decided(node: &Node, state: &str) -> Value {
    eventually(&format!("the plan is {state}"), SOON, async || {
        let status = node.api().get_json("/api/v1/rollouts/default").await;
        (status["plan"]["state"] == state && status["updated_by"] == "analysis").then_some(status)
    })
    .await
}

#[tokio::test]
async fn a_bad_release_is_taken_back_by_itself_with_its_work_and_its_users() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::start(&nats, "stable").await;
    let _bad = WorkerProcess::setup(&nats, "canary").with("--release", "2.0").failing().start().await;
    let started =
        rollout(&node, &["start", "default", "--lane", "canary", "--steps", "30,100", "--auto"]).await;
    assert!(started.ends_with("canary grows by itself [30%] → 100%: running\n"), "{started}");
    let jobs = submit(&node, 0..60).await;
    let status = decided(&node, "aborted").await;
    let comment = status["comment"].as_str().expect("a comment");
    assert!(
        comment.starts_with("lane canary is worse: ") && comment.contains("with failed jobs"),
        "{comment}"
    );
    let evidence = &status["evidence"];
    assert_eq!((&evidence["lane"], &evidence["release"]), (&json!("canary"), &json!("2.0")), "{evidence}");
    assert!(evidence["evidence"].as_f64() >= Some(100.0) && evidence["base_failed"] == 0, "{evidence}");
    for id in &jobs {
        eventually("the job has succeeded", SOON, async || {
            let job = node.api().get_json(&format!("/api/v1/jobs/{id}")).await;
            (job["state"] == "succeeded").then_some(())
        })
        .await;
    }
    assert_eq!(call(&node, 0..60).await, 60, "the calls of all users are served by the base");
    let history = rollout(&node, &["history", "default"]).await;
    assert!(history.contains("analysis") && history.contains("lane canary is worse"), "{history}");
}

#[tokio::test]
async fn a_good_release_is_promoted_to_the_last_step_when_enough_of_its_users_were_served() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::start(&nats, "stable").await;
    let _good = WorkerProcess::setup(&nats, "canary").with("--release", "2.0").start().await;
    let auto = ["--auto", "--hold", "0", "--margin", "20", "--on-regression", "pause"];
    rollout(&node, &[&["start", "default", "--lane", "canary", "--steps", "40,60"], &auto[..]].concat())
        .await;
    assert_eq!(call(&node, 0..20).await, 20);
    let status = eventually("the lanes are compared", SOON, async || {
        let status = rollout(&node, &["status", "default"]).await;
        status.contains("canary, release 2.0: 0 of").then_some(status)
    })
    .await;
    assert!(status.contains("evidence 1 of 100; a promotion needs"), "{status}");
    assert_eq!(call(&node, 20..200).await, 180);
    let status = decided(&node, "completed").await;
    assert_eq!(status["lanes"], json!([{"name": "canary", "weight": 60}]), "{status}");
    assert!(status["comment"].as_str().expect("a comment").contains("0 of"), "{status}");
    assert_eq!(status["evidence"]["needs"], 0, "{status}");
}

#[tokio::test]
async fn a_bad_release_is_paused_when_its_leader_dies_because_the_next_one_has_the_numbers() {
    let nats = Nats::start().await;
    let mut leader = Node::setup().nats(&nats).start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::start(&nats, "stable").await;
    let _bad = WorkerProcess::setup(&nats, "canary").failing().start().await;
    let start = ["start", "default", "--lane", "canary", "--steps", "50,100", "--on-regression", "pause"];
    rollout(&node, &start).await;
    call(&node, 0..4).await;
    leader.kill();
    call(&node, 4..80).await;
    let status = decided(&node, "paused").await;
    assert!(status["comment"].as_str().expect("a comment").contains("with failed calls"), "{status}");
    assert_eq!(status["lanes"][0]["weight"], 50, "an operator decides what comes next");
}

#[tokio::test]
async fn a_leader_that_has_started_later_knows_what_was_counted_before() {
    let nats = Nats::start().await;
    let mut first = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::start(&nats, "stable").await;
    let _bad = WorkerProcess::setup(&nats, "canary").failing().start().await;
    rollout(&first, &["set-weight", "default", "canary=50"]).await;
    let served = call(&first, 0..40).await;
    let failed = 40 - served;
    let counts = |node: &Node| {
        let api = node.api();
        async move {
            eventually("all users are counted", SOON, async || {
                let lane = api.get_json("/api/v1/rollouts/default").await["analysis"][0].clone();
                let counts = [&lane["units"], &lane["failed"], &lane["base_units"]].map(Value::as_u64);
                (counts == [failed, failed, served].map(|count| Some(count as u64)))
                    .then_some(lane["evidence"].clone())
            })
            .await
        }
    };
    let evidence = counts(&first).await;
    let later = Node::setup().nats(&nats).start().await;
    first.kill();
    let again = counts(&later).await;
    let ratio = evidence.as_f64().expect("a number") / again.as_f64().expect("a number");
    assert!((ratio - 1.0).abs() < 1e-6, "{evidence} {again}");
}

#[tokio::test]
async fn a_stream_has_the_rollout_first_and_then_each_change_and_the_numbers_of_the_lanes() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::start(&nats, "stable").await;
    let _canary = WorkerProcess::start(&nats, "canary").await;
    let stream = node.api().request(Method::GET, "/api/v1/rollouts/default/events").send().await;
    let mut stream = stream.expect("an answer");
    let mut text = String::new();
    let mut shows = async |part: &str| {
        while !text.contains(part) {
            let chunk = tokio::time::timeout(SOON, stream.chunk()).await.expect("an event in time");
            text.push_str(&String::from_utf8_lossy(&chunk.expect("a chunk").expect("the stream goes on")));
        }
    };
    shows("event: rollout\ndata: {\"pool\":\"default\",\"revision\":0").await;
    rollout(&node, &["set-weight", "default", "canary=50"]).await;
    shows("\"revision\":1").await;
    call(&node, 0..10).await;
    shows("event: analysis\ndata: [{\"lane\":\"canary\"").await;
    shows("\"units\":").await;
}
