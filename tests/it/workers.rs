//! Worker processes: a canary that receives its share, and workers that leave, are stopped or are killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::environment::{Api, Nats, Node, Page, SOON, Token, WorkerProcess, eventually, pagewire};

const USERS: usize = 1000;
/// The lease of a worker with the timing of production. A server notices the expiry up to a second later, and a small
/// machine needs a moment for the rest.
const LEASE: Duration = Duration::from_secs(20);
/// Longer than the lease of a worker with the timing of production (TTL 20 s).
const REAL_LEASE: Duration = Duration::from_secs(60);

/// Calls a handler for a user, on any worker of the user's lane.
async fn call(api: &Api, user: &str) -> Result<Value, String> {
    let body = json!({"method": "echo", "params": 1, "user": user, "exec_mode": "any"});
    let request = api.request(Method::POST, "/api/v1/calls").json(&body);
    let response = request.send().await.expect("an answer");
    let (status, body) = (response.status(), response.json::<Value>().await.expect("JSON"));
    match status {
        StatusCode::OK => Ok(body),
        _ => Err(body["error"]["code"].as_str().expect("a code").to_owned()),
    }
}

/// Returns the users whose calls fail: those of the lane with failing handlers.
async fn failing(api: &Api) -> BTreeSet<usize> {
    let mut failing = BTreeSet::new();
    for user in 0..USERS {
        match call(api, &format!("user-{user}")).await {
            Ok(value) => assert_eq!(value, 1),
            Err(code) => {
                assert_eq!(code, "failed");
                failing.insert(user);
            }
        }
    }
    failing
}

async fn set_weight(node: &Node, weight: &str) {
    let output = pagewire(node, &["rollout", "set-weight", "default", weight, "--force"]).await;
    assert_eq!(output.code, 0, "{output:?}");
}

/// Waits until the node knows a worker of the lane, because it sends no work there before.
async fn serves(node: &Node, lane: &str) {
    set_weight(node, &format!("{lane}=100")).await;
    let api = node.api();
    eventually("the lane has a worker", SOON, async || {
        let response = call(&api, "ann").await;
        (response != Err("no_executor".to_owned())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_canary_gets_its_share_of_the_calls_and_no_user_flips_back() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::start(&nats, "stable").await;
    // a call that is sent to the canary fails
    let _canary = WorkerProcess::setup(&nats, "canary").failing().start().await;
    serves(&node, "canary").await;
    let (api, mut before) = (node.api(), BTreeSet::new());
    for (weight, expected) in [("canary=0", 0..=0), ("canary=10", 60..=140), ("canary=100", USERS..=USERS)] {
        set_weight(&node, weight).await;
        let moved = failing(&api).await;
        assert!(expected.contains(&moved.len()), "{} of {USERS} users at {weight}", moved.len());
        assert!(before.is_subset(&moved), "users that came back at {weight}");
        let status = api.get_json("/api/v1/rollouts/default").await;
        let canary = &status["split"][0];
        assert_eq!(
            (&canary["lane"], canary["assigned"].as_u64()),
            (&json!("canary"), Some(moved.len() as u64)),
            "what was configured beside what happened: {status}"
        );
        before = moved;
    }
    set_weight(&node, "canary=0").await;
    assert!(failing(&api).await.is_empty(), "a roll-back is one change");
}

#[tokio::test]
async fn a_canary_that_is_not_there_shows_unless_the_base_lane_helps_out() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::start(&nats, "stable").await;
    eventually("the worker is known", SOON, async || {
        let sum = json!({"method": "echo", "user": "ann", "exec_mode": "assigned"});
        let request = node.api().request(Method::POST, "/api/v1/calls").json(&sum).send();
        request.await.expect("an answer").status().is_success().then_some(())
    })
    .await;
    set_weight(&node, "canary=100").await;
    assert_eq!(call(&node.api(), "ann").await, Err("no_executor".to_owned()));
    let output =
        pagewire(&node, &["rollout", "set-weight", "default", "canary=100", "--fallback", "base"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(call(&node.api(), "ann").await, Ok(json!(1)));
}

#[tokio::test]
async fn a_worker_that_is_terminated_finishes_what_it_does_and_takes_nothing_new() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let mut leaving = WorkerProcess::start(&nats, "stable").await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "job", "id": 1, "kind": "sleep", "data": {"ms": 1500}})).await;
    page.expect("accepted").await;
    page.expect("progress").await;
    leaving.terminate();
    let staying = WorkerProcess::start(&nats, "stable").await;
    page.send(json!({"type": "job", "id": 2, "kind": "sum", "data": [1, 2]})).await;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let frame = page.next().await;
        if frame["type"] == "result" {
            assert_eq!(frame["state"], "succeeded", "{frame}");
            ended.push(frame["id"].clone());
        }
    }
    assert_eq!(ended, [2, 1], "the new one did not wait for the old worker");
    assert!(leaving.exit(SOON).await.success());
    assert!(!leaving.log().contains("another worker has this job"), "{}", leaving.log());
    drop(staying);
}

#[tokio::test]
async fn what_takes_too_long_is_given_back_untouched_when_its_worker_leaves() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let mut leaving = WorkerProcess::start(&nats, "stable").await;
    let mut page = Page::open(&node).await;
    let longer_than_a_drain = json!({"ms": 7000});
    page.send(json!({"type": "job", "id": 1, "kind": "sleep", "data": longer_than_a_drain})).await;
    page.expect("accepted").await;
    page.expect("progress").await;
    leaving.terminate();
    let _staying = WorkerProcess::start(&nats, "stable").await;
    assert!(leaving.exit(SOON).await.success());
    loop {
        let frame = page.next().await;
        if frame["type"] == "result" {
            assert_eq!(frame["state"], "succeeded", "{frame}");
            break;
        }
    }
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_worker_that_stood_still_beyond_its_lease_has_no_say_in_its_job_any_more() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let sleeper = WorkerProcess::start(&nats, "stable").await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "job", "id": 1, "kind": "sleep", "data": {"ms": 1000}})).await;
    page.expect("accepted").await;
    page.expect("progress").await;
    sleeper.pause();
    let _other = WorkerProcess::start(&nats, "stable").await;
    let mut results = 0;
    while results == 0 {
        results += usize::from(page.next().await["type"] == "result");
    }
    sleeper.wake();
    eventually("the sleeper finds that it has lost its job", SOON, async || {
        let log = sleeper.log();
        (log.contains("another worker has this job") || log.contains("has lapsed")).then_some(())
    })
    .await;
    page.has_nothing_to_read().await;
}

/// The job is cancelled at the worker that took it over, so only the worker that stood still could have an effect.
#[tokio::test]
async fn every_effect_of_a_worker_that_was_replaced_is_refused_before_the_new_owner_has_written_anything() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).users().start().await;
    let still = WorkerProcess::start(&nats, "stable").await;
    let token = Token::of("ann").sign();
    let mut page = Page::opening(&node).token(&token).open().await;
    let api = node.api();
    let begun = Instant::now();
    let after = Duration::from_secs(8);
    let data = json!({"value": "late", "after_ms": after.as_millis() as u64});
    page.send(json!({"type": "job", "id": 1, "kind": "remember", "data": data, "retries": 3})).await;
    let job = page.expect("accepted").await["job"].as_str().expect("an id").to_owned();
    let attempts = async || api.get_json(&format!("/api/v1/jobs/{job}")).await["attempts"].clone();
    eventually("the job runs", SOON, async || (attempts().await == 1).then_some(())).await;
    still.pause();
    let _next = WorkerProcess::start(&nats, "stable").await;
    eventually("another worker has taken it over", SOON, async || (attempts().await == 2).then_some(()))
        .await;
    page.send(json!({"type": "cancel", "id": 1})).await;
    while !matches!(page.next().await["type"].as_str(), Some("error" | "result")) {}
    // the handler that stood still has its effects from then on
    tokio::time::sleep_until((begun + after).into()).await;
    still.wake();
    eventually("the effects or the end are refused", SOON, async || {
        let log = still.log();
        (log.contains("an effect of a handler is refused") || log.contains("another worker has this job"))
            .then_some(())
    })
    .await;
    let call = json!({"type": "call", "id": 2, "method": "remember", "params": {"value": "now"}});
    page.has_nothing_to_read().await;
    assert_eq!(api.get_json("/api/v1/users/ann/data").await, json!({}));
    page.send(call).await;
    assert_eq!(page.expect("message").await["payload"], json!({"remembered": "now"}));
    assert_eq!(api.get_json("/api/v1/users/ann/data").await, json!({"remembered": "now"}));
}

/// kill -9 with the timing of production.
#[tokio::test]
async fn in_production_a_killed_workers_job_goes_on_within_its_lease() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).real_timing().start().await;
    let mut worker = WorkerProcess::setup(&nats, "stable").real_timing().start().await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "job", "id": 1, "kind": "sleep", "data": {"ms": 3000}})).await;
    page.expect("accepted").await;
    page.expect("progress").await;
    worker.kill();
    let _next = WorkerProcess::setup(&nats, "stable").real_timing().start().await;
    let api = node.api();
    eventually("the job has ended at the other worker", REAL_LEASE, async || {
        api.is_ready().await.then_some(())?;
        page.request(json!({"type": "call", "method": "echo"})).await;
        page.has_ended(1).then_some(())
    })
    .await;
}

/// SIGSTOP with the timing of production: every connection of the worker stays open, and the queue still delivers the
/// items that it has requested.
#[tokio::test]
async fn in_production_the_jobs_of_a_worker_that_stands_still_go_on_when_its_lease_has_run_out() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).users().real_timing().start().await;
    let still = WorkerProcess::setup(&nats, "stable").real_timing().start().await;
    let token = Token::of("ann").sign();
    let mut page = Page::opening(&node).token(&token).open().await;
    let mut jobs = Vec::new();
    for mode in ["any", "assigned"] {
        let data = json!({"ms": 100_000});
        page.send(json!({"type": "job", "id": mode, "kind": "sleep", "data": data, "exec_mode": mode})).await;
    }
    while jobs.len() < 2 {
        let frame = page.next().await;
        if frame["type"] == "accepted" {
            jobs.push(frame["job"].as_str().expect("an id").to_owned());
        }
    }
    let api = node.api();
    let attempts =
        async |job: &String| api.get_json(&format!("/api/v1/jobs/{job}")).await["attempts"].clone();
    for job in &jobs {
        eventually("the job runs", SOON, async || (attempts(job).await == 1).then_some(())).await;
    }
    let _next = WorkerProcess::setup(&nats, "stable").real_timing().start().await;
    still.pause();
    let restarted = async || (attempts(&jobs[0]).await == 2 && attempts(&jobs[1]).await == 2).then_some(());
    eventually("both have begun anew", LEASE + Duration::from_secs(4), restarted).await;
}

#[tokio::test]
async fn a_users_calls_and_jobs_wait_for_each_other_at_no_other_worker() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).users().start().await;
    let token = Token::of("ann").sign();
    let mut page = Page::opening(&node).token(&token).open().await;
    let workers = [WorkerProcess::start(&nats, "stable").await, WorkerProcess::start(&nats, "stable").await];
    for id in 0..10 {
        page.send(json!({"type": "job", "id": id, "kind": "echo", "data": id})).await;
    }
    let (mut jobs, mut ended) = (vec![String::new(); 10], 0);
    while ended < 10 {
        let frame = page.next().await;
        match frame["type"].as_str() {
            Some("accepted") => {
                let place =
                    frame["id"].as_u64().and_then(|id| jobs.get_mut(id as usize)).expect("an id of the page");
                *place = frame["job"].as_str().expect("an id").to_owned();
            }
            Some("result") => ended += 1,
            _ => {}
        }
    }
    // the page may be told of two ends in another order, because the next job does not wait for that
    let mut times = Vec::new();
    for job in &jobs {
        let record = node.api().get_json(&format!("/api/v1/jobs/{job}")).await;
        times.extend(["started_at", "ended_at"].map(|member| {
            let text = record[member].as_str().expect("a time");
            OffsetDateTime::parse(text, &Rfc3339).expect("a time")
        }));
    }
    assert!(times.is_sorted(), "one after the other, in the order of their submission: {times:?}");
    drop(workers);
}

#[tokio::test]
async fn a_worker_without_handlers_does_not_start_and_names_the_key() {
    let node = Node::start().await;
    let worker = ["worker", "--nats", "nats://127.0.0.1:1"];
    let output = pagewire(&node, &worker).await;
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("--demo") && output.err.contains("PAGEWIRE_DEMO"), "{output:?}");
}

#[tokio::test]
async fn a_worker_shows_whether_it_takes_work_and_what_it_has_done() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let mut worker = WorkerProcess::setup(&nats, "stable").with("--release", "7").start().await;
    let probes = worker.api();
    assert_eq!(probes.get_json("/livez").await, json!({"status": "alive"}));
    assert_eq!(probes.get_json("/readyz").await, json!({"status": "ready"}));
    let output = pagewire(&node, &["healthcheck", "--url", &worker.url()]).await;
    assert_eq!((output.code, output.out.trim()), (0, "ready"), "{output:?}");

    let output = pagewire(&node, &["job", "submit", "sum", "[1, 2]", "--watch"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let labels = r#"pool="default",lane="stable",release="7""#;
    let jobs = r#"kind="sum",exec="remote_free",outcome="succeeded""#;
    let counted = format!("pagewire_jobs_total{{{labels},{jobs}}}");
    eventually("the job is counted", SOON, async || (probes.metric(&counted).await == 1.0).then_some(()))
        .await;

    let output = pagewire(&node, &["job", "submit", "sleep", r#"{"ms": 2000}"#]).await;
    assert_eq!(output.code, 0, "{output:?}");
    eventually("the job runs", SOON, async || {
        let output = pagewire(&node, &["job", "list", "--state", "running", "--json"]).await.json();
        (!output["items"].as_array().expect("jobs").is_empty()).then_some(())
    })
    .await;
    worker.terminate();
    eventually("the worker is not ready", SOON, async || (!probes.is_ready().await).then_some(())).await;
    let (status, body) = probes.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("accepting"), "{body}");
    assert!(worker.exit(SOON).await.success());
}

#[tokio::test]
async fn a_worker_that_listens_beyond_this_machine_shows_its_metrics_with_a_key_only() {
    let nats = Nats::start().await;
    let worker = WorkerProcess::setup(&nats, "stable").with("--listen", "0.0.0.0:0").start().await;
    let probes = Api::of(worker.url().replace("0.0.0.0", "127.0.0.1"));
    assert!(probes.is_ready().await);
    assert_eq!(probes.get("/metrics").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn users_of_a_worker_that_was_killed_are_served_before_its_lease_ends_also_by_calls_with_little_time() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).real_timing().start().await;
    let mut killed = WorkerProcess::setup(&nats, "stable").real_timing().start().await;
    let _other = WorkerProcess::setup(&nats, "stable").real_timing().start().await;
    let api = node.api();
    let call = async |user: usize| {
        let user = format!("user-{user}");
        let body =
            json!({"method": "echo", "params": 1, "user": user, "exec_mode": "assigned", "timeout_ms": 500});
        let response =
            api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
        response.status().is_success().then_some(())
    };
    api.sees_workers(2).await;
    for user in 0..20 {
        eventually("the user is served", SOON, async || call(user).await).await;
    }
    killed.kill();
    let before_its_end = LEASE - Duration::from_secs(5);
    for user in 0..20 {
        eventually("the user is served again", before_its_end, async || call(user).await).await;
    }
}
