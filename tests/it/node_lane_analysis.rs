//! Lanes of nodes that are taken back and promoted by the evidence: the sockets of their pages.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::releases::rollout;
use crate::environment::{MovingPage, Nats, Node, SOON, Setup, Token, Wires, eventually};

fn setup(nats: &Nats, lane: &str, release: &str) -> Setup {
    let setup = Node::setup().nats(nats).users().set("node.lane", lane).set("node.release", release);
    setup.set("websocket.ping_ms", 200).set("websocket.ping_timeout_ms", 1000)
}

async fn begin(nodes: &[&Node], steps: &str) {
    for node in nodes {
        eventually("the nodes see each other", SOON, async || {
            let seen = node.api().get_json("/api/v1/nodes").await;
            (seen["items"].as_array()?.len() == nodes.len()).then_some(())
        })
        .await;
    }
    let base = nodes[0].api().request(Method::PUT, "/api/v1/rollouts/edge").header("if-match", "*");
    let answer = base.json(&json!({"base": "blue"})).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let auto = ["--auto", "--hold", "0", "--margin", "20"];
    let start = [&["start", "edge", "--lane", "green", "--steps", steps], &auto[..]].concat();
    let started = rollout(nodes[0], &start).await;
    assert_eq!(started.code, 0, "{started:?}");
}

/// Waits until the last change is one of the analysis with this plan, and returns it.
async fn decided(node: &Node, state: &str) -> Value {
    eventually(&format!("the plan is {state}"), SOON, async || {
        let status = node.api().get_json("/api/v1/rollouts/edge").await;
        (status["plan"]["state"] == state && status["updated_by"] == "analysis").then_some(status)
    })
    .await
}

async fn open(node: &Node, user: usize) -> MovingPage {
    MovingPage::open(node, Some(&Token::of(&format!("user-{user}")).sign())).await
}

/// Answers the pings of a page until the test ends.
fn keep_open(mut page: MovingPage) {
    tokio::spawn(async move { while page.next().await.is_ok() {} });
}

/// Reads until the page has moved.
async fn until_in_blue(mut page: MovingPage) -> MovingPage {
    while page.lane() != "blue" {
        page.next().await.expect("a frame");
    }
    page
}

#[tokio::test]
async fn a_lane_of_nodes_whose_sockets_break_is_taken_back_by_itself_and_its_pages_move_without_a_lost_frame()
{
    let nats = Nats::start().await;
    let green = setup(&nats, "green", "2.0");
    let wires = Wires::to(&[green.address()]).await;
    let behind_wires = wires.urls().replace("nats://", "http://");
    let green = green.set("node.advertise", behind_wires).start().await;
    let blue = setup(&nats, "blue", "1.0").start().await;
    begin(&[&blue, &green], "40,100").await;
    let (mut broken, mut users) = (Vec::new(), Vec::new());
    for user in 0..30 {
        let page = open(&blue, user).await;
        match page.lane() {
            "green" => {
                users.push(user);
                broken.push(page);
            }
            _ => keep_open(page),
        }
    }
    assert!(users.len() >= 3, "{users:?}");
    // their clients reach the node itself
    let mut whole = Vec::new();
    for user in users {
        let page = open(&green, user).await;
        whole.push((page.id().to_owned(), tokio::spawn(until_in_blue(page))));
    }
    wires.cut();
    for page in &mut broken {
        while page.next().await.is_ok() {}
    }
    wires.mend();
    let status = decided(&blue, "aborted").await;
    let comment = status["comment"].as_str().expect("a comment");
    let why = format!("lane green is worse: {0} of {0} with a socket that broke, 0 of ", broken.len());
    assert!(comment.starts_with(&why), "{comment}");
    let evidence = &status["evidence"];
    assert_eq!((&evidence["lane"], &evidence["release"]), (&json!("green"), &json!("2.0")), "{evidence}");
    assert_eq!(evidence["metrics"][0]["metric"], "abnormal_closes", "{evidence}");
    for (address, page) in whole {
        eventually("the page has moved", SOON, async || {
            blue.api().send(json!({"page": address}), json!(1)).await;
            page.is_finished().then_some(())
        })
        .await;
        assert_eq!(page.await.expect("no panic").recovered, ["recovered"]);
    }
    assert_eq!(open(&green, 1).await.lane(), "blue", "a new page");
}

#[tokio::test]
async fn a_good_lane_of_nodes_is_promoted_by_the_pages_that_live_and_those_that_left() {
    let nats = Nats::start().await;
    let blue = setup(&nats, "blue", "1.0").start().await;
    let green = setup(&nats, "green", "2.0").start().await;
    begin(&[&blue, &green], "40,60").await;
    for user in 0..30 {
        open(&blue, user).await.leave().await;
    }
    let status = eventually("the lanes are compared", SOON, async || {
        let status = rollout(&blue, &["status", "edge"]).await.out;
        status.contains("green, release 2.0: 0 of ").then_some(status)
    })
    .await;
    assert!(status.contains("more green pages, each of another user"), "{status}");
    for user in 30..200 {
        keep_open(open(&green, user).await);
    }
    let status = decided(&green, "completed").await;
    assert_eq!(
        (&status["evidence"]["failed"], &status["evidence"]["needs"]),
        (&json!(0), &json!(0)),
        "{status}"
    );
    assert_eq!(status["lanes"], json!([{"name": "green", "weight": 60, "on_regression": "abort"}]));
}
