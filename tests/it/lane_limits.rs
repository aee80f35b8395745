//! The limits of a lane: how many processes run its work.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::environment::children::PROGRAM;
use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually, pagewire};

/// Waits until a worker has this many children.
async fn children(worker: &WorkerProcess, expected: f64) {
    let api = worker.api();
    eventually(&format!("{expected} children"), SOON, async || {
        let (_, page) = api.get("/metrics").await;
        let counted = page.lines().filter(|line| line.starts_with("pagewire_children{"));
        let ready = counted.filter(|line| line.contains("state=\"ready\""));
        let all: f64 = ready.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        (all == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_workers_of_a_lane_share_its_limits_and_a_busy_child_above_them_ends_its_work() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let worker = |lane| {
        let program = ["python3", PROGRAM];
        WorkerProcess::running(&nats, lane, &program).with("--children", "4").start()
    };
    let (first, stable) = (worker("canary").await, worker("stable").await);
    children(&first, 4.0).await;
    let run = async |arguments: &[&str]| pagewire(&node, &[&["rollout"], arguments].concat()).await;
    let unknown = run(&["limits", "default", "canary", "--max-processes", "2"]).await;
    assert!(unknown.code != 0 && unknown.err.contains("the pool has no lane canary"), "{unknown:?}");
    run(&["set-weight", "default", "canary=100", "--force"]).await;
    let jobs: Vec<_> =
        (0..8).map(|_| json!({"kind": "sleep", "data": {"ms": 1000}, "exec_mode": "any"})).collect();
    for job in &jobs {
        let sent = node.api().request(Method::POST, "/api/v1/jobs").json(job).send().await;
        assert!(sent.expect("an answer").status().is_success());
    }
    let limited = run(&["limits", "default", "canary", "--max-processes", "2"]).await;
    assert!(limited.code == 0 && limited.out.ends_with("canary has at most 2 processes\n"), "{limited:?}");
    children(&first, 2.0).await;
    eventually("all jobs are over", SOON, async || {
        let jobs = node.api().get_json("/api/v1/jobs?kind=sleep&state=succeeded").await;
        let attempts = |job: &serde_json::Value| job["attempts"] == 1;
        let jobs = jobs["items"].as_array()?;
        (jobs.len() == 8 && jobs.iter().all(attempts)).then_some(())
    })
    .await;

    let mut second = worker("canary").await;
    children(&second, 1.0).await;
    children(&first, 1.0).await;
    children(&stable, 4.0).await;
    second.kill();
    children(&first, 2.0).await;
    let invalid = run(&["limits", "default", "canary", "--min-processes", "3", "--max-processes", "2"]).await;
    assert!(invalid.code != 0 && invalid.err.contains("the minimum is above the maximum"), "{invalid:?}");
    let none = run(&["limits", "default", "canary"]).await;
    assert_eq!(none.code, 0, "{none:?}");
    children(&first, 4.0).await;

    let put = async |body: serde_json::Value| {
        let request = node.api().request(Method::PUT, "/api/v1/rollouts/default").header("if-match", "*");
        request.json(&body).send().await.expect("an answer").status()
    };
    let limits = json!({"canary": {"min_processes": 1, "max_processes": 3}});
    assert_eq!(put(json!({"limits": limits})).await, StatusCode::OK);
    assert_eq!(node.api().get_json("/api/v1/rollouts/default").await["limits"], limits);
    assert_eq!(put(json!({"limits": {"canary": {"max_users": 3}}})).await, StatusCode::BAD_REQUEST);
    children(&first, 3.0).await;
    assert_eq!(run(&["undo", "default"]).await.code, 0);
    children(&first, 4.0).await;
}

#[tokio::test]
async fn an_external_scaler_reads_how_many_processes_a_lane_should_have() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let run = async |arguments: &[&str]| {
        let output = pagewire(&node, &[&["rollout"], arguments].concat()).await;
        assert_eq!(output.code, 0, "{output:?}");
    };
    let becomes = async |metric: &str, expected: f64| {
        let metric = format!("pagewire_pool_{metric}{{pool=\"default\",lane=\"canary\"}}");
        eventually(&format!("{metric} is {expected}"), SOON, async || {
            (node.api().metric(&metric).await == expected).then_some(())
        })
        .await;
    };
    run(&["set-weight", "default", "canary=100", "--force"]).await;
    run(&["limits", "default", "canary", "--min-processes", "2"]).await;
    becomes("wanted", 2.0).await;
    becomes("processes", 0.0).await;
    let program = ["python3", PROGRAM];
    let worker = WorkerProcess::running(&nats, "canary", &program).with("--children", "1").start().await;
    children(&worker, 1.0).await;
    becomes("processes", 1.0).await;
    for _ in 0..30 {
        let job = json!({"kind": "sleep", "data": {"ms": 3000}, "exec_mode": "any"});
        let sent = node.api().request(Method::POST, "/api/v1/jobs").json(&job).send().await;
        assert!(sent.expect("an answer").status().is_success());
    }
    // of eight slots of a process, for thirty jobs
    becomes("wanted", 4.0).await;
    run(&["limits", "default", "canary", "--min-processes", "2", "--max-processes", "3"]).await;
    becomes("wanted", 3.0).await;
    becomes("processes", 1.0).await;
}
