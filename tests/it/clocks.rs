//! Processes whose wall clocks differ by minutes: work is on time, and operators see the difference.

use std::time::{Duration, SystemTime};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::environment::{Api, Nats, Node, SOON, WorkerProcess, eventually, pagewire};

const OFFSETS: [i64; 2] = [300_000, -300_000];
const AHEAD: Duration = Duration::from_secs(3);

/// Two nodes and two workers. The clock of the second of each is wrong.
struct Place {
    nodes: [Node; 2],
    workers: [WorkerProcess; 2],
    _nats: Nats,
}

impl Place {
    async fn with_offset(offset: i64) -> Self {
        let nats = Nats::start().await;
        let right = Node::setup().nats(&nats).start().await;
        let wrong = Node::setup().nats(&nats).set("clock_offset_ms", offset).start().await;
        let punctual = WorkerProcess::start(&nats, "stable").await;
        let other = WorkerProcess::setup(&nats, "stable").clock_offset(offset).start().await;
        let place = Self { nodes: [right, wrong], workers: [punctual, other], _nats: nats };
        for node in &place.nodes {
            eventually("the node knows both workers", SOON, async || {
                let list = node.api().get_json("/api/v1/workers").await;
                (list["items"].as_array()?.len() == 2).then_some(())
            })
            .await;
        }
        place
    }
}

async fn submit(api: &Api, body: Value) -> String {
    let response = api.request(Method::POST, "/api/v1/jobs").json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    let job: Value = response.json().await.expect("a job");
    job["id"].as_str().expect("an id").to_owned()
}

async fn state(api: &Api, job: &str) -> String {
    let job = api.get_json(&format!("/api/v1/jobs/{job}")).await;
    job["state"].as_str().expect("a state").to_owned()
}

async fn succeed(api: &Api, jobs: &[String]) {
    for job in jobs {
        eventually("the job has succeeded", SOON, async || {
            (state(api, job).await == "succeeded").then_some(())
        })
        .await;
    }
}

/// Bodies of jobs for any worker, and for the workers of several users.
fn bodies() -> impl Iterator<Item = Value> {
    (0..40).map(|number| {
        let mode = if number % 2 == 0 { "any" } else { "assigned" };
        json!({"kind": "echo", "data": number, "user": format!("user-{}", number % 16), "exec_mode": mode})
    })
}

#[tokio::test]
async fn no_job_is_put_off_because_a_clock_is_wrong() {
    for offset in OFFSETS {
        let place = Place::with_offset(offset).await;
        for node in &place.nodes {
            let api = node.api();
            let mut jobs = Vec::new();
            for body in bodies() {
                jobs.push(submit(&api, body).await);
            }
            succeed(&api, &jobs).await;
        }
    }
}

#[tokio::test]
async fn a_retry_is_due_on_time_although_a_clock_is_wrong() {
    for offset in OFFSETS {
        let place = Place::with_offset(offset).await;
        for node in &place.nodes {
            let api = node.api();
            let mut jobs = Vec::new();
            for body in bodies().take(16) {
                let mut body = body;
                body["kind"] = json!("fail");
                body["data"] = json!("no");
                body["retries"] = json!(2);
                jobs.push(submit(&api, body).await);
            }
            for job in &jobs {
                eventually("the job has used its retries", SOON, async || {
                    (state(&api, job).await == "dead").then_some(())
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn a_job_with_a_start_time_is_neither_early_nor_late_because_a_clock_is_wrong() {
    for offset in OFFSETS {
        let place = Place::with_offset(offset).await;
        for node in &place.nodes {
            let (api, run_at) = (node.api(), SystemTime::now() + AHEAD);
            let text = OffsetDateTime::from(run_at).format(&Rfc3339).expect("a time");
            let mut jobs = Vec::new();
            for body in bodies().take(16) {
                let mut body = body;
                body["run_at"] = json!(text);
                jobs.push(submit(&api, body).await);
            }
            while SystemTime::now() < run_at {
                for job in &jobs {
                    let seen = state(&api, job).await;
                    // the answer may come after the time
                    assert!(seen == "scheduled" || SystemTime::now() >= run_at, "{seen} with {offset}");
                }
            }
            succeed(&api, &jobs).await;
        }
    }
}

#[tokio::test]
async fn no_call_is_dropped_because_a_clock_is_wrong() {
    for offset in OFFSETS {
        let place = Place::with_offset(offset).await;
        for node in &place.nodes {
            let api = node.api();
            for number in 0..20 {
                for mode in ["any", "assigned"] {
                    let user = format!("user-{number}");
                    let body = json!({"method": "echo", "params": number, "user": user, "exec_mode": mode});
                    let request = api.request(Method::POST, "/api/v1/calls").json(&body);
                    let response = request.send().await.expect("an answer");
                    assert_eq!(response.status(), StatusCode::OK, "{mode} with {offset}");
                }
            }
        }
    }
}

/// Returns the offset in a list, rounded to seconds, of the item that satisfies the condition.
fn seconds(items: &Value, is_wanted: impl Fn(&Value) -> bool) -> Option<i64> {
    let item = items.as_array()?.iter().find(|item| is_wanted(item))?;
    Some((item["offset_ms"].as_i64()? as f64 / 1000.0).round() as i64)
}

#[tokio::test]
async fn operators_see_a_wrong_clock_in_the_lists_and_in_the_log() {
    let place = Place::with_offset(300_000).await;
    let node = &place.nodes[0];
    let process = u64::from(place.workers[1].pid());
    eventually("the offsets are known", SOON, async || {
        let workers = pagewire(node, &["workers", "--json"]).await.json();
        let status = pagewire(node, &["status", "--json"]).await.json();
        let of_worker = |wrong: bool| move |item: &Value| (item["process"] == process) == wrong;
        let of_node = |name: &'static str| move |item: &Value| item["node"] == name;
        let workers = [false, true].map(|wrong| seconds(&workers["items"], of_worker(wrong)));
        let nodes = ["p01", "p02"].map(|name| seconds(&status["nodes"], of_node(name)));
        let expected = [Some(0), Some(300)];
        (workers == expected && nodes == expected).then_some(())
    })
    .await;
    let (workers, status) = (pagewire(node, &["workers"]).await.out, pagewire(node, &["status"]).await.out);
    let lines = |text: &str| text.lines().filter(|line| line.starts_with("warning: ")).count();
    assert_eq!((lines(&workers), lines(&status)), (1, 1), "{workers}{status}");
    assert!(
        status.contains("the clock of node p02 is 300.0 s ahead of the clock of the cluster"),
        "{status}"
    );
    let warning = "the clock of this machine differs from the clock of the cluster";
    assert!(place.workers[1].log().contains(warning) && place.nodes[1].log().contains(warning));
    assert!(!place.workers[0].log().contains(warning) && !place.nodes[0].log().contains(warning));
}
