//! Work that waits or runs while its rollout changes, over several nodes and workers.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::{Api, Nats, Node, SOON, WorkerProcess, eventually, pagewire};

async fn set_canary(api: &Api, percent: u32) {
    let body = json!({"lanes": [{"name": "canary", "weight": percent}], "force": true});
    let request = api.request(Method::PUT, "/api/v1/rollouts/default").header("if-match", "*");
    let response = request.json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
}

async fn submit(api: &Api, body: Value) -> String {
    let response = api.request(Method::POST, "/api/v1/jobs").json(&body).send().await.expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
    let job: Value = response.json().await.expect("a JSON body");
    job["id"].as_str().expect("an id").to_owned()
}

async fn job(api: &Api, id: &str) -> Value {
    api.get_json(&format!("/api/v1/jobs/{id}")).await
}

/// Waits for the end of each job.
async fn ends(api: &Api, ids: &[String]) -> Vec<Value> {
    let mut jobs = Vec::new();
    for id in ids {
        let ended = eventually("the job ends", SOON, async || {
            let over =
                |job: &Value| !["scheduled", "queued", "running"].iter().any(|state| job["state"] == *state);
            Some(job(api, id).await).filter(over)
        });
        jobs.push(ended.await);
    }
    jobs
}

#[tokio::test]
async fn jobs_that_wait_in_a_lane_which_is_taken_back_run_in_the_base() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let api = node.api();
    set_canary(&api, 100).await;
    let mut waiting = Vec::new();
    for user in 0..10 {
        for mode in ["any", "assigned"] {
            let body =
                json!({"kind": "echo", "data": user, "user": format!("user-{user}"), "exec_mode": mode});
            waiting.push(submit(&api, body).await);
        }
        // its retry waits when the lane is taken back
        waiting.push(submit(&api, json!({"kind": "fail", "retries": 1, "exec_mode": "any"})).await);
    }
    let _stable = WorkerProcess::start(&nats, "stable").await;
    assert_eq!(job(&api, &waiting[0]).await["state"], "queued", "its lane has no worker");
    eventually("the leader has counted them", SOON, async || {
        let counted = api.get_json("/api/v1/stats").await["waiting_jobs"].clone();
        let counted = counted.as_array().into_iter().flatten().filter_map(|jobs| jobs["jobs"].as_u64());
        (counted.sum::<u64>() == 30).then_some(())
    })
    .await;
    let aborted = pagewire(&node, &["rollout", "abort", "default", "--lane", "canary"]).await;
    let said = "taken back from canary: 0 users with open pages; 30 waiting jobs, 0 of them tried before; 0 \
                jobs that run will end there; 0 left";
    assert!(aborted.out.contains(said), "{aborted:?}");
    for job in ends(&api, &waiting).await {
        assert_eq!(job["lane"], "stable", "{job}");
        assert_eq!(job["state"], if job["kind"] == "echo" { "succeeded" } else { "dead" }, "{job}");
    }
}

#[tokio::test]
async fn the_retries_of_a_bad_release_run_in_the_base_after_it_is_taken_back() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let api = node.api();
    let _stable = WorkerProcess::start(&nats, "stable").await;
    let _bad = WorkerProcess::setup(&nats, "canary").failing().start().await;
    set_canary(&api, 100).await;
    let mut jobs = Vec::new();
    for (number, mode) in [(1, "any"), (2, "assigned"), (3, "any"), (4, "assigned")] {
        let user = format!("user-{number}");
        let body = json!({"kind": "echo", "data": 1, "user": user, "exec_mode": mode, "retries": 20});
        jobs.push(submit(&api, body).await);
    }
    for id in &jobs {
        eventually("an attempt has failed in the canary", SOON, async || {
            let job = job(&api, id).await;
            (job["attempts"].as_u64() > Some(0) && job["lane"] == "canary").then_some(())
        })
        .await;
    }
    set_canary(&api, 0).await;
    for job in ends(&api, &jobs).await {
        assert_eq!((&job["state"], &job["lane"]), (&json!("succeeded"), &json!("stable")), "{job}");
    }
}

/// Users, spread over the nodes.
const USERS: usize = 100;

/// Three nodes, two workers of the base with different handlers and one of the canary, one of them five minutes ahead: the
/// canary grows to half of the users and is taken back while calls and jobs of all users run.
#[tokio::test]
async fn a_canary_that_comes_and_goes_loses_refuses_and_doubles_nothing() {
    let nats = Nats::start().await;
    let nodes = [
        Node::setup().nats(&nats).start().await,
        Node::setup().nats(&nats).start().await,
        Node::setup().nats(&nats).start().await,
    ];
    let apis: Vec<Api> = nodes.iter().map(Node::api).collect();
    let _first = WorkerProcess::setup(&nats, "stable").with("--methods", "echo").start().await;
    let second = WorkerProcess::setup(&nats, "stable").with("--methods", "echo,sum");
    let _second = second.clock_offset(300_000).start().await;
    let _canary = WorkerProcess::start(&nats, "canary").await;
    let changes = async {
        for percent in [10, 50, 0, 50, 0] {
            set_canary(&apis[0], percent).await;
            tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        }
    };
    let work = async {
        let rounds = futures_util::stream::iter((0..USERS * 4).map(|number| {
            let api = &apis[number % apis.len()];
            async move {
                let user = format!("user-{}", number % USERS);
                let called =
                    json!({"method": "sum", "params": [number, 1], "user": user, "timeout_ms": 10_000});
                let response = api.request(Method::POST, "/api/v1/calls").json(&called).send().await;
                let response = response.expect("an answer");
                let status = response.status();
                let answer: Value = response.json().await.expect("a JSON body");
                assert_eq!(status, StatusCode::OK, "call {number} of {user}: {answer}");
                assert_eq!(answer, json!(number + 1));
                let mode = if number % 3 == 0 { "any" } else { "assigned" };
                let work = json!({"kind": "echo", "data": number, "user": user, "exec_mode": mode});
                submit(api, work).await
            }
        }));
        rounds.buffer_unordered(12).collect::<Vec<String>>().await
    };
    let (ids, ()) = tokio::join!(work, changes);
    let ended = ends(&apis[1], &ids).await;
    let mut states = BTreeMap::<String, usize>::new();
    for job in &ended {
        *states.entry(format!("{} after {}", job["state"], job["attempts"])).or_default() += 1;
    }
    assert_eq!(states, BTreeMap::from([("\"succeeded\" after 1".to_owned(), USERS * 4)]));
}
