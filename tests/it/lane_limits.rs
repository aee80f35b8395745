//! The limits of a lane: how many processes run its work, and how many users have it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::environment::children::PROGRAM;
use crate::environment::{Api, Nats, Node, Page, SOON, Token, WorkerProcess, eventually, pagewire};

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
    let of_hash = run(&["limits", "default", "canary", "--max-users", "3"]).await;
    assert!(of_hash.code != 0 && of_hash.err.contains("set enrolment to latched"), "{of_hash:?}");
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
        // longer than a busy machine takes to submit them all
        let job = json!({"kind": "sleep", "data": {"ms": 60_000}, "exec_mode": "any"});
        let sent = node.api().request(Method::POST, "/api/v1/jobs").json(&job).send().await;
        assert!(sent.expect("an answer").status().is_success());
    }
    // of eight slots of a process, for thirty jobs
    becomes("wanted", 4.0).await;
    run(&["limits", "default", "canary", "--min-processes", "2", "--max-processes", "3"]).await;
    becomes("wanted", 3.0).await;
    becomes("processes", 1.0).await;
}

async fn open(node: &Node, user: &str) -> Page {
    Page::opening(node).token(&Token::of(user).sign()).open().await
}

/// Makes a call as a page of a user and submits a job of the user, both at the same time, and returns the lane of each. Handlers
/// fail in the canary, which shows where a call ran.
async fn lanes_of_work(api: &Api, page: &mut Page, user: &str) -> [String; 2] {
    let job = json!({"user": user, "kind": "echo", "data": 1});
    let submitting = async {
        let submitted = api.request(Method::POST, "/api/v1/jobs").json(&job).send().await;
        let submitted: serde_json::Value = submitted.expect("an answer").json().await.expect("a job");
        submitted["lane"].as_str().expect("a lane").to_owned()
    };
    let calling = page.request(json!({"type": "call", "method": "echo", "params": 1}));
    let (ended, of_job) = tokio::join!(calling, submitting);
    let of_call = if ended["type"] == "result" { "stable" } else { "canary" };
    [of_call.to_owned(), of_job]
}

#[tokio::test]
async fn two_nodes_admit_no_more_users_to_a_lane_than_its_limit_and_an_abort_frees_the_places() {
    let nats = Nats::start().await;
    let setup = || Node::setup().nats(&nats).users();
    let (one, two) = (setup().start().await, setup().start().await);
    let _workers = [
        WorkerProcess::setup(&nats, "stable").with("--slots", "64").start().await,
        WorkerProcess::setup(&nats, "canary").with("--slots", "64").failing().start().await,
    ];
    for node in [&one, &two] {
        node.api().sees_workers(2).await;
    }
    let run = async |arguments: &[&str]| {
        let output = pagewire(&one, &[&["rollout"], arguments].concat()).await;
        assert_eq!(output.code, 0, "{output:?}");
        output.out
    };
    run(&["set-weight", "default", "canary=0", "--enrolment", "latched"]).await;
    let limited = run(&["limits", "default", "canary", "--max-users", "2"]).await;
    assert!(limited.ends_with("canary has at most 2 users\n"), "{limited}");
    run(&["set-weight", "default", "canary=100"]).await;
    let users: Vec<_> = (0..8).map(|user| format!("user-{user}")).collect();
    let apis = [one.api(), two.api()];
    let mut pages = Vec::new();
    for user in &users {
        pages.push([open(&one, user).await, open(&two, user).await]);
    }
    let work = pages.iter_mut().zip(&users).flat_map(|(pages, user)| {
        pages.iter_mut().zip(&apis).map(move |(page, api)| lanes_of_work(api, page, user))
    });
    let worked = join_all(work).await;
    let inside: BTreeSet<_> = (0..users.len()).filter(|user| worked[2 * user][0] == "canary").collect();
    assert_eq!(inside.len(), 2, "{worked:?}");
    for (number, user) in users.iter().enumerate() {
        let (lane, reason) = if inside.contains(&number) { ("canary", "weight") } else { ("stable", "full") };
        let [at_one, at_two] = [&worked[2 * number], &worked[2 * number + 1]];
        assert_eq!([at_one, at_two], [&[lane, lane], &[lane, lane]], "{user}");
        for api in &apis {
            let of_user = api.get_json(&format!("/api/v1/rollouts/default/explain?user={user}")).await;
            assert_eq!((&of_user["lane"], &of_user["reason"]), (&json!(lane), &json!(reason)));
        }
        let page = pages[number][0].id().replace('|', "%7C");
        let explained = apis[0].get_json(&format!("/api/v1/rollouts/default/explain?page={page}")).await;
        assert_eq!(explained["lane"], lane, "{explained}");
    }
    for node in [&one, &two] {
        let status = node.api().get_json("/api/v1/rollouts/default").await;
        assert_eq!(status["split"][0]["users"], 2, "{status}");
        let shown = pagewire(node, &["rollout", "status", "default"]).await.out;
        assert!(shown.contains("users of canary: 2 of 2, full\n"), "{shown}");
    }

    run(&["abort", "default", "--lane", "canary"]).await;
    let freed = run(&["status", "default"]).await;
    assert!(freed.contains("users of canary: 0 of 2\n"), "{freed}");
    run(&["set-weight", "default", "canary=100"]).await;
    for (user, lane) in [("new-1", "canary"), ("new-2", "canary"), ("new-3", "stable")] {
        let (node, api) = if user == "new-2" { (&two, &apis[1]) } else { (&one, &apis[0]) };
        let mut page = open(node, user).await;
        assert_eq!(lanes_of_work(api, &mut page, user).await, [lane, lane], "{user}");
    }
}
