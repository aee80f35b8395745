//! Rollouts that follow each other while pages call and jobs run, with a checker of what must hold for each of them.
//!
//! `PAGEWIRE_ROLLOUT_RUNS` is the number of rollouts; 50 of them are the long run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::{Api, Nats, Node, Page, SOON, Token, WorkerProcess, eventually, pagewire};

/// Users whose lanes are looked at after each step.
const USERS: usize = 60;
/// Pages that stay open.
const PAGES: usize = 12;

fn runs() -> usize {
    std::env::var("PAGEWIRE_ROLLOUT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

async fn rollout(node: &Node, arguments: &[&str]) {
    let output = pagewire(node, &[&["rollout"], arguments].concat()).await;
    assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
}

/// Returns whether each user is in the canary, as both nodes say.
async fn in_canary(nodes: [&Node; 2]) -> Vec<bool> {
    let lane = async |api: Api, user: usize| {
        let explained = api.get_json(&format!("/api/v1/rollouts/default/explain?user=user-{user}")).await;
        explained["lane"].as_str().expect("a lane").to_owned()
    };
    let mut lanes = Vec::with_capacity(USERS);
    for user in 0..USERS {
        let (one, two) = (lane(nodes[0].api(), user).await, lane(nodes[1].api(), user).await);
        assert_eq!(one, two, "both nodes have applied the step");
        lanes.push(one == "canary");
    }
    lanes
}

/// Returns the lane that each page keeps.
async fn pins(node: &Node, pages: &[String]) -> Vec<Value> {
    let mut kept = Vec::new();
    for page in pages {
        let page = page.replace('|', "%7C");
        let explained = node.api().get_json(&format!("/api/v1/rollouts/default/explain?page={page}")).await;
        kept.push(explained["pin"].clone());
    }
    kept
}

/// Calls as each page and submits jobs until the rollouts are over. Returns the jobs.
async fn load(node: &Node, pages: &mut [Page], over: &AtomicBool, calls: &AtomicUsize) -> Vec<String> {
    let mut jobs = Vec::new();
    while !over.load(Ordering::Relaxed) {
        for (number, page) in pages.iter_mut().enumerate() {
            let ended = page.request(json!({"type": "call", "method": "echo", "params": number})).await;
            assert_eq!(ended["type"], "result", "the call of a page on its first socket: {ended}");
            calls.fetch_add(1, Ordering::Relaxed);
        }
        let user = format!("user-{}", jobs.len() % USERS);
        let mode = if jobs.len() % 2 == 0 { "any" } else { "assigned" };
        let body = json!({"kind": "echo", "data": 1, "user": user, "exec_mode": mode});
        let response = node.api().request(Method::POST, "/api/v1/jobs").json(&body).send().await;
        let job: Value = response.expect("an answer").json().await.expect("a JSON body");
        jobs.push(job["id"].as_str().expect("an id").to_owned());
    }
    jobs
}

/// One rollout: it grows by steps, and is then taken back or becomes the base and makes place for the next one.
async fn roll(nodes: [&Node; 2], pages: &[String], number: usize) {
    let node = nodes[0];
    let salt = json!({"salt": format!("salt-{number}"), "lanes": [], "base": "stable"});
    let fresh = node.api().request(Method::PUT, "/api/v1/rollouts/default").header("if-match", "*");
    assert_eq!(fresh.json(&salt).send().await.expect("an answer").status(), StatusCode::OK);
    rollout(node, &["start", "default", "--lane", "canary", "--steps", "10,30,60,100"]).await;
    let (mut before, mut kept) = (in_canary(nodes).await, pins(node, pages).await);
    for _ in 0..3 {
        rollout(node, &["promote", "default"]).await;
        let (after, keeps) = (in_canary(nodes).await, pins(node, pages).await);
        let back = before.iter().zip(&after).filter(|(was, is)| **was && !**is).count();
        assert_eq!(back, 0, "users who came back while the weight rose");
        for (was, is) in kept.iter().zip(&keeps).filter(|(was, _)| !was.is_null()) {
            assert_eq!(was, is, "a page keeps its lane while the weight rises");
        }
        (before, kept) = (after, keeps);
    }
    assert!(before.iter().all(|is_canary| *is_canary), "the last step has everybody");
    if number.is_multiple_of(2) {
        rollout(node, &["abort", "default"]).await;
        assert!(in_canary(nodes).await.iter().all(|is_canary| !is_canary), "an abort takes everybody back");
    } else {
        rollout(node, &["undo", "default"]).await;
        rollout(node, &["set-weight", "default", "canary=0"]).await;
    }
}

#[tokio::test]
async fn rollouts_under_load_flip_no_user_move_no_page_lose_no_socket_and_strand_no_job() {
    let nats = Nats::start().await;
    let setup = || Node::setup().users().nats(&nats).set("limits.frames_per_second", 100_000);
    let (one, two) = (setup().start().await, setup().start().await);
    let _stable = WorkerProcess::setup(&nats, "stable").with("--slots", "32").start().await;
    let _canary = WorkerProcess::setup(&nats, "canary").with("--slots", "32").start().await;
    let mut pages = join_all((0..PAGES).map(|user| {
        let (node, token) =
            (if user % 2 == 0 { &one } else { &two }, Token::of(&format!("user-{user}")).sign());
        async move { Page::opening(node).token(&token).open().await }
    }))
    .await;
    let ids: Vec<String> = pages.iter().map(|page| page.id().to_owned()).collect();
    let (over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let rollouts = async {
        for number in 0..runs() {
            roll([&one, &two], &ids, number).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (jobs, ()) = tokio::join!(load(&two, &mut pages, &over, &calls), rollouts);
    assert!(calls.load(Ordering::Relaxed) > PAGES && !jobs.is_empty());
    for job in &jobs {
        eventually("the job has succeeded", SOON, async || {
            let record = one.api().get_json(&format!("/api/v1/jobs/{job}")).await;
            (record["state"] == "succeeded").then_some(())
        })
        .await;
    }
}
