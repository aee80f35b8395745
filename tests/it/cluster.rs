//! Several nodes over a real nats-server, and their behaviour when parts of the cluster fail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::environment::{Nats, Node, Page, SOON, Setup, eventually};

/// Longer than any lease with the timing of production (TTL 20 s).
const REAL_LEASE: Duration = Duration::from_secs(60);

fn member(nats: &Nats) -> Setup {
    Node::setup().nats(nats)
}

/// Returns the numbers of the live nodes, as one node sees them.
async fn numbers(node: &Node) -> BTreeSet<String> {
    let nodes = node.api().get_json("/api/v1/nodes").await;
    let items = nodes["items"].as_array().unwrap_or_else(|| panic!("a list: {nodes}")).clone();
    items.iter().map(|item| item["node"].as_str().expect("a number").to_owned()).collect()
}

#[tokio::test]
async fn nodes_that_start_together_hold_different_numbers() {
    let nats = Nats::start().await;
    let mut nodes: Vec<_> = (0..4).map(|_| member(&nats).launch()).collect();
    let mut held = BTreeSet::new();
    for node in &mut nodes {
        node.ready().await;
        held.insert(node.number().await);
    }
    assert_eq!(held, ["p01", "p02", "p03", "p04"].map(str::to_owned).into());
    eventually("each sees all", SOON, async || (numbers(&nodes[3]).await == held).then_some(())).await;
}

#[tokio::test]
async fn a_fixed_number_is_waited_for() {
    let nats = Nats::start().await;
    let mut first = member(&nats).set("node.number", 5).start().await;
    assert_eq!(first.number().await, "p05");
    let mut second = member(&nats).set("node.number", 5).launch();
    eventually("the second says what it waits for", SOON, async || {
        second.log().contains("waiting until it is free").then_some(())
    })
    .await;
    assert_eq!(second.api().get("/livez").await.0, StatusCode::OK, "a waiting node is not restarted");
    for path in ["/readyz", "/", "/api/v1/stats"] {
        assert_eq!(second.api().get(path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    assert_eq!(first.number().await, "p05", "the first goes on");
    first.terminate();
    first.exit(SOON).await;
    second.ready().await;
    assert_eq!(second.number().await, "p05");
}

#[tokio::test]
async fn without_its_nats_a_node_does_not_start_and_says_why() {
    let mut nats = Nats::start().await;
    nats.kill();
    let mut node = member(&nats).launch();
    assert_eq!(node.exit(SOON).await.code(), Some(1));
    assert!(node.log().contains(&nats.url()), "{}", node.log());
}

#[tokio::test]
async fn a_named_node_takes_its_number_over_at_once_after_kill_9() {
    let nats = Nats::start().await;
    let named = |name: &str| member(&nats).set("node.name", name).real_timing();
    let mut node = named("a").start().await;
    let number = node.number().await;
    node.kill();
    let killed = Instant::now();
    node.restart().await;
    assert_eq!(node.number().await, number);
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(16), "that was the lease's end, not a take-over: {took:?}");
    let namesake = named("a").start().await;
    assert_ne!(namesake.number().await, number, "a living namesake keeps its number");
    assert_eq!(node.number().await, number);
}

#[tokio::test]
async fn clusters_of_different_names_share_one_nats_without_seeing_each_other() {
    let nats = Nats::start().await;
    let one = member(&nats).set("cluster", "one").start().await;
    let two = member(&nats).set("cluster", "two.>").start().await;
    let mut here = Page::open(&one).await;
    let mut there = Page::open(&two).await;
    assert_eq!((here.node(), there.node()), ("p01", "p01"));
    let report = one.api().send(json!({"all": true}), json!("one")).await;
    assert_eq!(report["reached"], 1, "{report}");
    assert_eq!(here.message().await, "one");
    there.has_nothing_to_read().await;
}

#[tokio::test]
async fn when_nats_dies_sockets_stay_and_cluster_effects_are_refused_until_it_is_back() {
    let mut nats = Nats::start().await;
    let node = member(&nats).start().await;
    let mut page = Page::open(&node).await;
    let to = json!({"page": page.id()});
    nats.kill();
    let api = node.api();
    eventually("the node is not ready", SOON, async || (!api.is_ready().await).then_some(())).await;
    assert_eq!(api.get("/livez").await.0, StatusCode::OK, "a restart would not help");
    let echo = json!({"type": "call", "method": "echo", "params": "no NATS needed"});
    assert_eq!(page.result(echo.clone()).await, "no NATS needed");
    assert_eq!(Page::opening(&node).close_code().await, 4505, "no new pages");
    let send = json!({"type": "send", "to": {"session": page.session()}, "payload": 1});
    let refused = page.request(send.clone()).await;
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("unavailable"), &json!(true)), "{refused}");
    let (status, body) = api.try_send(json!({"all": true}), json!(1)).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")));
    nats.restart().await;
    eventually("the node is ready again", SOON, async || api.is_ready().await.then_some(())).await;
    assert_eq!(page.result(echo).await, "no NATS needed", "the same socket");
    let report = api.send(to, json!("after the outage")).await;
    assert_eq!(report["reached"], 1, "{report}");
    while page.next().await["payload"] != "after the outage" {}
    assert_eq!(page.result(send).await["reached"], 1);
    Page::open(&node).await;
}

#[tokio::test]
async fn a_short_stall_of_nats_costs_nothing() {
    let nats = Nats::start().await;
    let node = member(&nats).start().await;
    let mut page = Page::open(&node).await;
    let number = page.node().to_owned();
    nats.pause();
    tokio::time::sleep(Duration::from_millis(700)).await;
    nats.resume();
    let api = node.api();
    let report = eventually("a push is answered", SOON, async || {
        let (status, report) = api.try_send(json!({"page": page.id()}), json!("through")).await;
        (status == StatusCode::OK).then_some(report)
    })
    .await;
    assert_eq!(report["reached"], 1);
    assert_eq!(page.message().await, "through");
    assert_eq!(node.number().await, number);
}

/// A node is stopped for longer than its lease while its page moves to another one. The stopped node must then deliver
/// nothing.
async fn a_zombie_fences_itself(profile: impl Fn(Setup) -> Setup, lease: Duration) {
    let nats = Nats::start().await;
    let zombie = profile(member(&nats)).set("node.number", 1).start().await;
    let other = profile(member(&nats)).set("node.number", 2).start().await;
    let mut stale = Page::open(&zombie).await;
    eventually("the other sees both", SOON, async || (numbers(&other).await.len() == 2).then_some(())).await;
    zombie.pause();
    let mut page = stale.memory().resume(&other).await;
    assert_eq!((page.recovered(), page.node()), ("reset", "p02"));
    eventually("the lease is over", lease, async || (numbers(&other).await.len() == 1).then_some(())).await;
    zombie.wake();
    // the zombie still holds frames; the old socket must end without a message
    let api = other.api();
    let send = async |payload: Value| api.send(json!({"page": page.id()}), payload).await;
    for n in 0..5 {
        assert_eq!(send(json!(n)).await["reached"], 1);
    }
    let ended = stale.closed_without_message().await;
    assert!([4006, 4502, 4505].contains(&ended.code), "{ended:?}");
    for n in 0..5 {
        assert_eq!(page.message().await, n);
    }
    eventually("the zombie is a node again", lease, async || zombie.api().is_ready().await.then_some(()))
        .await;
    eventually("both are seen", SOON, async || (numbers(&other).await.len() == 2).then_some(())).await;
    let report = zombie.api().send(json!({"page": page.id()}), json!("from the former zombie")).await;
    assert_eq!(report["reached"], 1, "{report}");
    assert_eq!(page.message().await, "from the former zombie");
}

#[tokio::test]
async fn a_node_that_slept_through_its_lease_delivers_nothing() {
    a_zombie_fences_itself(|setup| setup, SOON).await;
}

#[tokio::test]
async fn a_node_that_slept_through_its_lease_delivers_nothing_with_the_time_outs_of_production() {
    a_zombie_fences_itself(Setup::real_timing, REAL_LEASE).await;
}

#[tokio::test]
async fn a_page_moves_to_another_living_node_without_missing_a_frame() {
    let nats = Nats::start().await;
    let here = member(&nats).start().await;
    let there = member(&nats).start().await;
    let mut page = Page::open(&here).await;
    let old = page.id().to_owned();
    let push = async |node: &Node, to: &str, n: u32| {
        let report = node.api().send(json!({"page": to}), json!(n)).await;
        assert_eq!(pages_reached(&report), 1, "{report}");
    };
    push(&there, &old, 1).await;
    assert_eq!(page.message().await, 1);
    let away = page.lose_socket();
    for n in 2..=10 {
        push(&there, &old, n).await;
    }
    let mut page = away.resume(&there).await;
    assert_eq!(page.recovered(), "recovered");
    assert_eq!(page.id(), old.replace(away.node(), page.node()), "the same page at another node");
    assert_ne!(page.id(), old);
    for n in 2..=10 {
        assert_eq!(page.message().await, n);
    }
    // a sender that knows only the old address reaches the page too, from either node
    let new = page.id().to_owned();
    for (n, node, to) in [(11, &here, &old), (12, &there, &old), (13, &here, &new), (14, &there, &new)] {
        push(node, to, n).await;
        assert_eq!(page.message().await, n);
    }
    // the page moves back to the first node
    let mut page = page.lose_socket().resume(&here).await;
    assert_eq!((page.recovered(), page.id()), ("recovered", old.as_str()));
    push(&there, &old, 15).await;
    assert_eq!(page.message().await, 15);
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_page_returns_to_a_node_that_slept_while_it_was_away() {
    let nats = Nats::start().await;
    let here = member(&nats).start().await;
    let there = member(&nats).start().await;
    let mut stale = Page::open(&here).await;
    here.pause();
    let page = stale.memory().resume(&there).await;
    assert_eq!(page.recovered(), "reset", "no node handed it over");
    let away = page.lose_socket();
    here.wake();
    // the newest token decides, even if this node's copy is stale
    let mut page = away.resume(&here).await;
    assert_eq!(page.recovered(), "recovered");
    assert_eq!(stale.closed().await.code, 4006);
    let report = there.api().send(json!({"page": page.id()}), json!("back")).await;
    assert_eq!(report["reached"], 1, "{report}");
    assert_eq!(page.message().await, "back");
}

/// Returns the number of pages that a message reached, with a socket or in their resume window.
fn pages_reached(report: &Value) -> u64 {
    report["reached"].as_u64().expect("a count") + report["held"].as_u64().expect("a count")
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_to_the_sender() {
    let nats = Nats::start().await;
    let here = member(&nats).start().await;
    let silent = member(&nats).start().await;
    let page = Page::open(&silent).await;
    silent.pause();
    let report = here.api().send(json!({"page": page.id()}), json!("perhaps")).await;
    assert_eq!((pages_reached(&report), &report["unreachable"]), (0, &json!([page.node()])), "{report}");
    silent.wake();
}

#[tokio::test]
async fn a_drained_node_sends_its_pages_to_another_one() {
    let nats = Nats::start().await;
    let mut leaving = member(&nats).start().await;
    let staying = member(&nats).start().await;
    let mut page = Page::open(&leaving).await;
    let away = page.memory();
    leaving.terminate();
    assert_eq!(page.closed().await.code, 4500);
    let page = away.resume(&staying).await;
    assert_eq!(page.recovered(), "recovered", "the node stayed to hand it over");
    assert_eq!(page.session(), away.session());
    assert_eq!(leaving.exit(SOON).await.code(), Some(0));
    eventually("its number is given back", SOON, async || (numbers(&staying).await.len() == 1).then_some(()))
        .await;
    let report = staying.api().send(json!({"page": page.id()}), json!(1)).await;
    assert_eq!(report["reached"], 1, "{report}");
}

#[tokio::test]
async fn after_kill_9_of_a_node_its_pages_are_gone_from_every_view() {
    let nats = Nats::start().await;
    let mut dying = member(&nats).start().await;
    let staying = member(&nats).start().await;
    let page = Page::open(&dying).await;
    let pages = async || staying.api().get_json("/api/v1/stats").await["pages"].as_u64();
    eventually("the page is seen", SOON, async || (pages().await == Some(1)).then_some(())).await;
    dying.kill();
    eventually("it is gone", SOON, async || (pages().await == Some(0)).then_some(())).await;
    let report = staying.api().send(json!({"page": page.id()}), json!(1)).await;
    assert_eq!((&report["reached"], &report["held"]), (&json!(0), &json!(0)), "{report}");
}
