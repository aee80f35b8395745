//! Lanes of mounts on two nodes.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::environment::children::send;
use crate::environment::releases::{Releases, Visitor, children, lane_has, rollout};
use crate::environment::{Nats, Node, SOON, Setup, Token, eventually};
use crate::mount_lanes::{USERS, in_canary, weigh, with_canary};
use crate::mount_processes::setup;

#[tokio::test]
async fn a_lane_that_is_at_another_node_only_is_served_there_and_both_nodes_decide_alike() {
    let (nats, releases) = (Nats::start().await, Releases::create());
    let internal = |setup: Setup| setup.nats(&nats).set("node.internal", "127.0.0.1:0").users();
    let without = internal(setup(&releases.mount("processes = 1\npool = \"shop\"")));
    let with = internal(with_canary(&releases, "processes = 1", "processes = 2")).on_another_port();
    let (one, two) = tokio::join!(without.start(), with.start());
    lane_has(&one, "stable", 2).await;
    eventually("the canary is ready", SOON * 3, async || {
        let ready = children(&two, "canary").await;
        (ready.len() == 2 && ready.iter().all(|child| child["state"] == "ready")).then_some(())
    })
    .await;
    eventually("the first node knows the lane of the second", SOON, async || {
        let output = rollout(&one, &["set-weight", "shop", "canary=50", "--fallback", "base"]).await;
        (output.code == 0 && output.err.is_empty()).then_some(())
    })
    .await;
    let canary = lane_has(&one, "canary", 2).await;
    assert_eq!(canary["releases"], json!(["2.0"]));
    let (at_one, at_two) = (in_canary(&one).await, in_canary(&two).await);
    assert!(at_one == at_two && !at_one.is_empty() && at_one.len() < USERS, "{at_one:?} {at_two:?}");
    assert!(one.api().metric("pagewire_mount_hops_total{mount=\"/shop\"}").await >= at_one.len() as f64);
    let counted =
        "pagewire_mount_lane_requests_total{mount=\"/shop\",lane=\"canary\",release=\"2.0\",status=\"200\"}";
    assert_eq!(one.api().metric(counted).await, at_one.len() as f64, "counted where it came from its client");
    assert_eq!(two.api().metric(counted).await, at_two.len() as f64);
    releases.set_broken("2.0", true);
    for child in children(&two, "canary").await {
        send(&child["pid"], Signal::KILL);
    }
    eventually("the base lane serves all users at both nodes", SOON, async || {
        for node in [&one, &two] {
            for user in &at_one {
                let (status, shown) = Visitor::user(*user).shown(node).await;
                if status != StatusCode::OK || shown["release"] != "1.0" {
                    return None;
                }
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn when_the_only_node_of_a_lane_is_killed_its_users_are_served_by_the_base_lane_at_once() {
    let (nats, releases) = (Nats::start().await, Releases::create());
    let internal = |setup: Setup| setup.nats(&nats).set("node.internal", "127.0.0.1:0").users();
    let without = internal(setup(&releases.mount("processes = 1\npool = \"shop\"")));
    let with = internal(with_canary(&releases, "processes = 1", "processes = 1")).on_another_port();
    let (one, mut two) = tokio::join!(without.start(), with.start());
    eventually("the first node sends users to the lane of the second", SOON * 3, async || {
        let output = rollout(&one, &["set-weight", "shop", "canary=100", "--fallback", "base"]).await;
        (output.code == 0 && output.err.is_empty()).then_some(())
    })
    .await;
    let upload = async |user: usize| {
        let Visitor::User(user) = Visitor::user(user) else { panic!("a user") };
        let request = one.api().request(Method::POST, "/shop/").bearer_auth(Token::of(&user).sign());
        let response = request.body("x".repeat(200_000)).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let shown: Value = response.json().await.expect("JSON");
        (shown["release"].clone(), shown["size"].clone())
    };
    assert_eq!(upload(0).await, (json!("2.0"), json!(200_000)));
    two.kill();
    for user in 0..8 {
        assert_eq!(upload(user).await, (json!("1.0"), json!(200_000)), "also before its lease is over");
    }
}

#[tokio::test]
async fn a_unit_has_one_process_of_its_lane_on_two_nodes() {
    let (nats, releases) = (Nats::start().await, Releases::create());
    let mount = with_canary(&releases, "processes = 2\nsticky = \"user\"", "processes = 2");
    let mount = mount.nats(&nats).set("node.internal", "127.0.0.1:0");
    let other = mount.clone().on_another_port();
    let (one, two) = tokio::join!(mount.start(), other.start());
    lane_has(&one, "stable", 4).await;
    lane_has(&two, "stable", 4).await;
    weigh(&one, "50", &["--force"]).await;
    lane_has(&one, "canary", 4).await;
    lane_has(&two, "canary", 4).await;
    let spread = async |node: &Node| {
        let mut spread = Vec::new();
        // so many that each process of a lane has some
        for number in 0..2 * USERS {
            let (status, shown) = Visitor::user(number).shown(node).await;
            assert_eq!(status, StatusCode::OK);
            spread.push((shown["release"].to_string(), shown["pid"].to_string()));
        }
        spread
    };
    let (at_one, at_two) = (spread(&one).await, spread(&two).await);
    assert_eq!(at_one, at_two, "each user has one process, wherever the request arrives");
    for release in ["\"1.0\"", "\"2.0\""] {
        let own = at_one.iter().filter(|(shown, _)| shown == release);
        let processes: BTreeSet<_> = own.map(|(_, pid)| pid).collect();
        assert_eq!(processes.len(), 4, "the processes of both nodes serve {release}");
    }
}
