//! Pages that keep their lane while a rollout changes.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::{Nats, Node, Page, SOON, Token, WorkerProcess, eventually, pagewire};

/// Sets the weight of the canary. The salt is always the same, so that the bucket of ann is, too.
async fn set_canary(node: &Node, percent: f64) {
    let body = json!({"lanes": [{"name": "canary", "weight": percent}], "salt": "s"});
    let request = node.api().request(Method::PUT, "/api/v1/rollouts/default").header("if-match", "*");
    let response = request.json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
}

/// Starts a worker of each lane. Handlers fail in the canary, which shows where a call ran.
async fn workers(nats: &Nats, nodes: &[&Node]) -> [WorkerProcess; 2] {
    let workers = [
        WorkerProcess::setup(nats, "stable").with("--slots", "64").start().await,
        WorkerProcess::setup(nats, "canary").with("--slots", "64").failing().start().await,
    ];
    for node in nodes {
        node.api().sees_workers(2).await;
    }
    workers
}

async fn open(node: &Node, user: &str) -> Page {
    Page::opening(node).token(&Token::of(user).sign()).open().await
}

/// Makes a call as a page and returns the lane in which it ran.
async fn call(page: &mut Page) -> &'static str {
    let ended = page.request(json!({"type": "call", "method": "echo", "params": 1})).await;
    match ended["type"].as_str() {
        Some("result") => "stable",
        _ => {
            assert_eq!(ended["code"], "failed", "{ended}");
            "canary"
        }
    }
}

async fn explain(node: &Node, page: &str) -> Value {
    let page = page.replace('|', "%7C");
    node.api().get_json(&format!("/api/v1/rollouts/default/explain?page={page}")).await
}

#[tokio::test]
async fn a_page_keeps_its_lane_while_the_weight_changes_and_leaves_it_at_an_abort() {
    let nats = Nats::start().await;
    let node = Node::setup().users().nats(&nats).start().await;
    let _workers = workers(&nats, &[&node]).await;
    set_canary(&node, 100.0).await;
    let mut page = open(&node, "ann").await;
    assert_eq!(call(&mut page).await, "canary");
    set_canary(&node, 0.01).await;
    let mut later = open(&node, "ann").await;
    assert_eq!((call(&mut page).await, call(&mut later).await), ("canary", "stable"));

    let explained = explain(&node, page.id()).await;
    for (member, value) in [("lane", "canary"), ("reason", "pin"), ("pin", "canary"), ("user", "ann")] {
        assert_eq!(explained[member], value, "{explained}");
    }
    let told = pagewire(&node, &["rollout", "explain", "default", "--page", page.id()]).await;
    assert!(
        told.out.contains("of user ann is in lane canary") && told.out.ends_with("pin: canary\n"),
        "{told:?}"
    );
    let of_user = node.api().get_json("/api/v1/rollouts/default/explain?user=ann").await;
    assert_eq!((&of_user["lane"], of_user.get("pin")), (&json!("stable"), None), "{of_user}");
    let unknown = node.api().get("/api/v1/rollouts/default/explain?page=0000000000000000000001").await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);

    let job = page.request(json!({"type": "job", "kind": "echo", "data": 1})).await;
    assert_eq!(job["type"], "accepted", "{job}");
    let jobs = eventually("the job is over", SOON, async || {
        let jobs = node.api().get_json("/api/v1/jobs?kind=echo&state=succeeded").await;
        jobs["items"].as_array().filter(|items| !items.is_empty()).cloned()
    })
    .await;
    assert_eq!(jobs[0]["lane"], "stable", "a job follows its user and no page");

    set_canary(&node, 100.0).await;
    assert_eq!((call(&mut page).await, call(&mut later).await), ("canary", "stable"), "neither page moves");
    let aborted = pagewire(&node, &["rollout", "abort", "default", "--lane", "canary"]).await;
    assert_eq!(aborted.code, 0, "{aborted:?}");
    assert_eq!(call(&mut page).await, "stable");
    let counted = r#"pagewire_lane_assignments_total{pool="default",lane="canary",reason="pin"}"#;
    assert_eq!(node.api().metric(counted).await, 2.0);
}

#[tokio::test]
async fn a_page_that_resumes_at_another_node_keeps_its_lane_even_when_its_node_was_killed() {
    let nats = Nats::start().await;
    let mut one = Node::setup().users().nats(&nats).start().await;
    let two = Node::setup().users().nats(&nats).start().await;
    let _workers = workers(&nats, &[&one, &two]).await;
    set_canary(&one, 100.0).await;
    let (mut moving, mut staying) = (open(&one, "ann").await, open(&one, "ann").await);
    assert_eq!((call(&mut moving).await, call(&mut staying).await), ("canary", "canary"));
    set_canary(&one, 0.01).await;
    let token = Token::of("ann").sign();
    let mut moved = moving.lose_socket().resuming(&two).token(&token).open().await;
    assert_eq!(moved.recovered(), "recovered");
    assert_eq!(call(&mut moved).await, "canary");

    eventually("the pin is in the row", SOON, async || {
        (explain(&two, staying.id()).await["pin"] == "canary").then_some(())
    })
    .await;
    let away = staying.lose_socket();
    one.kill();
    let mut back = away.resuming(&two).token(&token).open().await;
    assert_eq!(back.recovered(), "reset");
    assert_eq!(call(&mut back).await, "canary");
    assert_eq!(call(&mut open(&two, "ann").await).await, "stable");
}

/// Pages of twenty users, half of them at each node, call all the time; some move to the other node meanwhile.
#[tokio::test]
async fn no_page_meets_two_lanes_while_a_weight_rises_and_falls_under_load() {
    let nats = Nats::start().await;
    let setup = || Node::setup().users().nats(&nats).set("limits.frames_per_second", 100_000);
    let nodes = [setup().start().await, setup().start().await];
    let _workers = workers(&nats, &[&nodes[0], &nodes[1]]).await;
    set_canary(&nodes[0], 50.0).await;
    let changed = AtomicBool::new(false);
    let live = async |number: usize| {
        let user = format!("user-{number}");
        let mut page = open(&nodes[number % 2], &user).await;
        let mut lanes = vec![call(&mut page).await];
        while !changed.load(Ordering::Relaxed) {
            lanes.push(call(&mut page).await);
            if lanes.len() == 20 && number.is_multiple_of(3) {
                let other = page.lose_socket().resuming(&nodes[(number + 1) % 2]);
                page = other.token(&Token::of(&user).sign()).open().await;
                assert_eq!(page.recovered(), "recovered");
            }
        }
        lanes.push(call(&mut page).await);
        lanes.dedup();
        (page, lanes)
    };
    let changes = async {
        for percent in [100.0, 1.0, 80.0, 0.01, 100.0, 20.0] {
            set_canary(&nodes[0], percent).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        changed.store(true, Ordering::Relaxed);
    };
    let (pages, ()) = tokio::join!(join_all((0..20).map(live)), changes);
    for (page, lanes) in &pages {
        assert_eq!(lanes.len(), 1, "{} met {lanes:?}", page.id());
    }
    let in_canary = pages.iter().filter(|(_, lanes)| lanes[0] == "canary").count();
    assert!((1..20).contains(&in_canary), "{in_canary} of 20 users at 50 %");
    let aborted = pagewire(&nodes[1], &["rollout", "abort", "default", "--lane", "canary"]).await;
    assert_eq!(aborted.code, 0, "{aborted:?}");
    let back = join_all(pages.into_iter().map(async |(mut page, _)| call(&mut page).await)).await;
    assert_eq!(back, ["stable"; 20]);
}
