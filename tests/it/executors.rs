//! Where calls and jobs run: inline, in the pools of nodes, at workers, by configuration alone.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::{Api, Nats, Node, Page, SOON, WorkerProcess, eventually, pagewire};

const POOL: &str = "[[pool]]\nname = \"default\"\n";

async fn post(api: &Api, path: &str, body: Value) -> Value {
    let response = api.request(Method::POST, path).json(&body).send().await.expect("an answer");
    response.json().await.expect("a JSON body")
}

async fn call(api: &Api, method: &str, params: Value) -> Value {
    post(api, "/api/v1/calls", json!({"method": method, "params": params, "user": "ann"})).await
}

/// Returns how often a method has run at a kind of executor, as the node has counted it.
async fn ran(api: &Api, metric: &str, kind: &str, exec: &str) -> u64 {
    let (_, page) = api.get("/metrics").await;
    let outcome = if metric == "jobs" { "succeeded" } else { "ok" };
    let series = format!("pagewire_{metric}_total{{kind=\"{kind}\",exec=\"{exec}\",outcome=\"{outcome}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn one_handler_runs_in_five_ways_by_configuration_alone() {
    let nats = Nats::start().await;
    for (exec, mode, pool, has_worker) in [
        ("inline", "inline", POOL, true),
        ("local_free", "any", POOL, true),
        ("local_assigned", "assigned", POOL, false),
        ("remote_free", "any", "", true),
        ("remote_assigned", "assigned", "", true),
    ] {
        let modes = format!("[executors.mode]\necho = \"{mode}\"\nremember = \"{mode}\"\n{pool}");
        let node = Node::setup().nats(&nats).set("cluster", exec).file(&modes).start().await;
        let api = node.api();
        let worker = WorkerProcess::setup(&nats, "stable").with("--cluster", exec);
        let worker = if has_worker { Some(worker.start().await) } else { None };
        api.sees_workers(usize::from(!pool.is_empty()) + usize::from(worker.is_some())).await;
        assert_eq!(call(&api, "echo", json!([1])).await, json!([1]), "{exec}");
        assert_eq!(ran(&api, "calls", "echo", exec).await, 1, "{exec}");
        if exec != "inline" {
            let remembered = call(&api, "remember", json!({"path": "seen", "value": exec})).await;
            assert!(remembered.get("error").is_none(), "{exec}: {remembered}");
            assert_eq!(ran(&api, "calls", "remember", exec).await, 1, "{exec}");
        }
    }
}

#[tokio::test]
async fn a_node_has_several_pools_and_each_of_them_runs_the_work_of_users() {
    let nats = Nats::start().await;
    let pools: String = (0..6).map(|number| format!("[[pool]]\nname = \"p{number}\"\n")).collect();
    let setup = Node::setup().set("demo", true).file(&pools);
    for setup in [setup.clone(), setup.on_another_port().nats(&nats)] {
        let node = setup.start().await;
        let api = node.api();
        api.sees_workers(6).await;
        for number in 0..6 {
            let (pool, params) = (format!("p{number}"), json!([number]));
            let job = json!({"kind": "echo", "data": params, "user": "ann", "pool": pool, "wait_ms": 10_000});
            let ended = post(&api, "/api/v1/jobs", job).await;
            assert_eq!((&ended["state"], &ended["result"]), (&json!("succeeded"), &params), "{ended}");
        }
    }
}

#[tokio::test]
async fn the_preferred_executors_come_first_and_the_others_when_they_are_full_or_gone() {
    let nats = Nats::start().await;
    let pool = format!("{POOL}slots = 1\n");
    let local = Node::setup().nats(&nats).file(&pool).start().await;
    let remote = Node::setup().nats(&nats).set("executors.prefer", "remote").file(&pool).start().await;
    let without = Node::setup().nats(&nats).set("welcome", false).start().await;
    let (near, far, bare) = (local.api(), remote.api(), without.api());
    for api in [&near, &far, &bare] {
        api.sees_workers(2).await;
    }
    let free = async |api: &Api| {
        let answer = post(api, "/api/v1/calls", json!({"method": "echo", "params": 7})).await;
        assert_eq!(answer, 7);
    };
    free(&near).await;
    assert_eq!(ran(&near, "calls", "echo", "local_free").await, 1);
    free(&far).await;
    assert_eq!(ran(&far, "calls", "echo", "local_free").await, 1, "there is no worker elsewhere");
    free(&bare).await;
    assert_eq!(ran(&bare, "calls", "echo", "remote_free").await, 1, "in another node");

    let worker = WorkerProcess::start(&nats, "stable").await;
    for api in [&near, &far] {
        api.sees_workers(3).await;
    }
    free(&near).await;
    assert_eq!(ran(&near, "calls", "echo", "local_free").await, 2);
    free(&far).await;
    assert_eq!(ran(&far, "calls", "echo", "remote_free").await, 1);
    let full = post(
        &near,
        "/api/v1/calls",
        json!({"method": "sleep", "params": {"ms": 60_000}, "timeout_ms": 60_000}),
    );
    let others = async {
        eventually("the only slot is taken", SOON, async || {
            let kinds = near.get_json("/api/v1/executors").await;
            (kinds["items"][1]["executors"][0]["running"] == 1).then_some(())
        })
        .await;
        free(&near).await;
        assert_eq!(ran(&near, "calls", "echo", "remote_free").await, 1);
    };
    tokio::select! {
        answer = full => panic!("the call ends before the others: {answer}"),
        () = others => {}
    }
    drop(worker);
    far.sees_workers(2).await;
    free(&far).await;
    assert_eq!(ran(&far, "calls", "echo", "local_free").await, 2);
}

#[tokio::test]
async fn an_assigned_user_has_one_executor_in_the_whole_cluster() {
    let nats = Nats::start().await;
    let nodes = [
        Node::setup().nats(&nats).file(POOL).start().await,
        Node::setup().nats(&nats).file(POOL).start().await,
    ];
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let apis = nodes.each_ref().map(Node::api);
    for api in &apis {
        api.sees_workers(3).await;
    }
    for user in 0..12 {
        let user = format!("user {user}");
        let mut workers = Vec::new();
        for api in &apis {
            let body = json!({"method": "echo", "params": user, "user": user, "exec_mode": "assigned"});
            assert_eq!(post(api, "/api/v1/calls", body).await, json!(user));
            let body = json!({"kind": "echo", "user": user, "exec_mode": "assigned", "wait_ms": 20_000});
            let job = post(api, "/api/v1/jobs", body).await;
            assert_eq!(job["state"], "succeeded", "{job}");
            workers.push(job["worker"].clone());
        }
        assert_eq!(workers[0], workers[1], "{user}");
    }
    let mut ran_at = Vec::new();
    for api in &apis {
        for exec in ["local_assigned", "remote_assigned"] {
            ran_at.push(ran(api, "calls", "echo", exec).await);
        }
    }
    assert_eq!(ran_at.iter().sum::<u64>(), 24, "{ran_at:?}");
    assert_eq!(ran_at[0] + ran_at[1], 12, "{ran_at:?}");
    assert!(ran_at[0] + ran_at[2] <= 12, "each user is local to one node at most: {ran_at:?}");
}

#[tokio::test]
async fn the_pool_of_a_node_shows_its_node_and_what_it_runs() {
    let nats = Nats::start().await;
    let node = Node::setup()
        .nats(&nats)
        .file(&format!("{POOL}slots = 2\nmethods = [\"sleep\", \"echo\"]\n"))
        .start()
        .await;
    let api = node.api();
    api.sees_workers(1).await;
    let number = node.number().await;
    let workers = api.get_json("/api/v1/workers").await;
    assert_eq!(workers["items"][0]["node"], json!(number));
    let table = pagewire(&node, &["workers"]).await.out;
    assert!(table.contains("NODE") && table.contains(&number), "{table}");
    let job = post(&api, "/api/v1/jobs", json!({"kind": "sleep", "data": {"ms": 60_000}})).await;
    let kind = eventually("the job runs", SOON, async || {
        let kinds = api.get_json("/api/v1/executors").await;
        let kind = kinds["items"].as_array()?.iter().find(|kind| kind["kind"] == "local_free")?.clone();
        (kind["executors"][0]["running"] == 1).then_some(kind)
    })
    .await;
    let executor = &kind["executors"][0];
    assert_eq!(kind["methods"], json!(["echo", "sleep"]));
    assert_eq!((&executor["slots"], &executor["queued"]), (&json!(2), &json!(0)), "{executor}");
    assert_eq!((&executor["node"], &executor["pool"]), (&json!(number), &json!("default")), "{executor}");
    let id = job["id"].as_str().expect("an id");
    post(&api, &format!("/api/v1/jobs/{id}/cancel"), json!({})).await;
    assert_eq!(ran(&api, "jobs", "sleep", "local_free").await, 0);
    let done = post(&api, "/api/v1/jobs", json!({"kind": "echo", "data": 1, "wait_ms": 20_000})).await;
    assert_eq!((&done["state"], &done["worker"]), (&json!("succeeded"), &executor["worker"]), "{done}");
    eventually("the job is counted", SOON, async || {
        (ran(&api, "jobs", "echo", "local_free").await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stops_finishes_the_work_of_its_pools() {
    let nats = Nats::start().await;
    let mut leaving = Node::setup().nats(&nats).file(POOL).start().await;
    let other = Node::setup().nats(&nats).set("welcome", false).start().await;
    let api = other.api();
    api.sees_workers(1).await;
    let job = post(&api, "/api/v1/jobs", json!({"kind": "sleep", "data": {"ms": 1500}})).await;
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().expect("an id"));
    let becomes = async |state: &str| {
        eventually(state, SOON, async || Some(api.get_json(&path).await).filter(|job| job["state"] == state))
            .await
    };
    becomes("running").await;
    leaving.terminate();
    assert!(leaving.exit(Duration::from_secs(30)).await.success());
    assert_eq!(becomes("succeeded").await["attempts"], 1);
    api.sees_workers(0).await;
}

#[tokio::test]
async fn an_unknown_method_is_refused_with_the_nearest_name_and_with_who_serves_what() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).set("welcome", false).start().await;
    let api = node.api();
    let _worker = WorkerProcess::setup(&nats, "stable").with("--methods", "echo,sum").start().await;
    api.sees_workers(1).await;
    let refused = call(&api, "ecko", json!(1)).await["error"].clone();
    assert_eq!(refused["code"], "no_executor");
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains("the nearest known one is echo (pool default, lane stable)"), "{message}");
    assert!(message.contains("pool default, lane stable serves echo, sum"), "{message}");
    let long = call(&api, &"x".repeat(60_000), json!(1)).await["error"].clone();
    assert_eq!(long["code"], "no_executor");
    assert!(long["message"].as_str().is_some_and(|message| message.len() < 1000), "{long}");
}

#[tokio::test]
async fn a_pool_that_cannot_run_is_refused_at_the_start_with_its_name() {
    let mut node = Node::setup().file("[[pool]]\nname = \"web\"\nmethods = [\"ecko\"]\n").launch();
    assert!(!node.exit(SOON).await.success());
    assert!(node.log().contains("pool web: this binary has no handler ecko"), "{}", node.log());
    let mut node = Node::setup().file("[[pool]]\nname = \"web\"\nslot = 1\n").launch();
    assert!(!node.exit(SOON).await.success());
    assert!(node.log().contains("the nearest known one is pool.slots"), "{}", node.log());
}

#[tokio::test]
async fn assigned_work_without_a_user_runs_at_the_one_worker_of_its_connection() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).set("welcome", false).start().await;
    let api = node.api();
    let _workers = [WorkerProcess::start(&nats, "stable").await, WorkerProcess::start(&nats, "stable").await];
    api.sees_workers(2).await;
    let (mut workers, mut pages) = (BTreeSet::new(), 0);
    // chance decides the worker of a connection, so that 10 of them may have the same one
    while pages < 5 || (workers.len() < 2 && pages < 60) {
        pages += 1;
        let mut page = Page::open(&node).await;
        let call = json!({"type": "call", "method": "echo", "params": 1, "exec_mode": "assigned"});
        assert_eq!(page.result(call).await, 1);
        let mut own = Vec::new();
        for _ in 0..3 {
            let job = json!({"type": "job", "kind": "echo", "data": 2, "exec_mode": "assigned"});
            let accepted = page.request(job).await;
            let id = accepted["job"].as_str().expect("a job").to_owned();
            let job = eventually("the job has succeeded", SOON, async || {
                let job = api.get_json(&format!("/api/v1/jobs/{id}")).await;
                (job["state"] == "succeeded").then_some(job)
            })
            .await;
            own.push(job["worker"].to_string());
        }
        own.dedup();
        assert_eq!(own.len(), 1, "one worker per connection: {own:?}");
        workers.extend(own);
    }
    assert_eq!(workers.len(), 2, "the connections are spread");
    assert_eq!(ran(&api, "calls", "echo", "remote_assigned").await, pages);
    let nobody = post(&api, "/api/v1/calls", json!({"method": "echo", "exec_mode": "assigned"})).await;
    assert_eq!(nobody["error"]["code"], "malformed", "a program without a user and a page");
}

#[tokio::test]
async fn a_call_of_the_nodes_own_pool_stops_when_it_is_taken_back_or_its_time_is_over() {
    let node =
        Node::setup().file(&format!("{POOL}slots = 1\n[executors.mode]\nsleep = \"any\"\n")).start().await;
    let api = node.api();
    let running = async |count: u64| {
        eventually("the pool runs that many", SOON, async || {
            let kinds = api.get_json("/api/v1/executors").await;
            let kind = kinds["items"].as_array()?.iter().find(|kind| kind["kind"] == "local_free")?.clone();
            (kind["executors"][0]["running"] == count).then_some(())
        })
        .await;
    };
    let mut page = Page::open(&node).await;
    let sleep =
        json!({"type": "call", "id": 7, "method": "sleep", "params": {"ms": 60_000}, "timeout_ms": 60_000});
    page.send(sleep).await;
    running(1).await;
    let busy = page.request(json!({"type": "call", "method": "echo", "exec_mode": "any"})).await;
    assert_eq!(busy["code"], "rate_limited", "{busy}");
    page.send(json!({"type": "cancel", "id": 7})).await;
    assert_eq!(page.expect("error").await["code"], "cancelled");
    running(0).await;
    let short = json!({"type": "call", "method": "sleep", "params": {"ms": 60_000}, "timeout_ms": 100});
    assert_eq!(page.error(short).await, "timeout");
    running(0).await;
    let echo = json!({"type": "call", "method": "echo", "params": 1, "exec_mode": "any"});
    assert_eq!(page.result(echo).await, 1);
}
