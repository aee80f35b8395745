//! Lanes of nodes: where pages are opened, and how they leave a node or a lane.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::{Api, MovingPage, Nats, Node, Page, SOON, Token, eventually, pagewire};

/// Changes the rollout of the nodes.
async fn change(api: &Api, body: Value) {
    let request = api.request(Method::PUT, "/api/v1/rollouts/edge").header("if-match", "*");
    let response = request.json(&body).send().await.expect("an answer");
    let (status, body) = (response.status(), response.text().await.expect("a body"));
    assert_eq!(status, StatusCode::OK, "{body}");
}

async fn node(nats: &Nats, lane: &str) -> Node {
    let setup = Node::setup().nats(nats).users().set("node.lane", lane);
    // a slow machine makes up for frames that are late
    setup.set("limits.frames_per_second", 1000).start().await
}

/// Waits until each node sees that many.
async fn see(nodes: &[&Node], count: usize) {
    for node in nodes {
        eventually("the nodes see each other", SOON, async || {
            let nodes = node.api().get_json("/api/v1/nodes").await;
            (nodes["items"].as_array()?.len() == count).then_some(())
        })
        .await;
    }
}

fn percent(green: u32) -> Value {
    json!({"base": "blue", "lanes": [{"name": "green", "weight": green}]})
}

#[tokio::test]
async fn a_page_is_opened_at_a_node_of_the_lane_that_the_rollout_gives_it() {
    let nats = Nats::start().await;
    let (blue, green) = (node(&nats, "blue").await, node(&nats, "green").await);
    see(&[&blue, &green], 2).await;
    let opened = MovingPage::open(&green, None).await;
    assert_eq!(opened.lane(), "green", "without a rollout, where it arrives");
    change(&blue.api(), percent(40)).await;
    let mut lanes = BTreeSet::new();
    for user in 0..30 {
        let token = Token::of(&format!("user-{user}")).sign();
        let user = format!("/api/v1/rollouts/edge/explain?user=user-{user}");
        let expected = blue.api().get_json(&user).await["lane"].as_str().expect("a lane").to_owned();
        for arrives in [&blue, &green] {
            assert_eq!(MovingPage::open(arrives, Some(&token)).await.lane(), expected, "{user}");
        }
        // a client that does not know `move` is served where it arrives
        let old = Page::opening(&green).token(&token).open().await;
        assert_eq!(old.registered["lane"], "green");
        lanes.insert(expected);
    }
    assert_eq!(lanes.len(), 2, "both lanes have users");
    for _ in 0..30 {
        let anonymous = MovingPage::open(&blue, None).await;
        let connection = anonymous.registered["connection_id"].as_str().expect("an id");
        let unit = connection.split('|').next().expect("22 characters");
        let explained =
            blue.api().get_json(&format!("/api/v1/rollouts/edge/explain?connection={unit}")).await;
        assert_eq!(explained["lane"], anonymous.lane(), "{explained}");
    }
}

/// Numbered frames in both directions, until `stop` is done and everything has arrived.
async fn exchange(mut page: MovingPage, api: &Api, stop: impl Future<Output = ()>) -> MovingPage {
    let (mut asked, mut pushed, mut answered) = (0_u64, 0_u64, 0_u64);
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    let address = page.id().to_owned();
    tokio::pin!(stop);
    let mut stopped = false;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while !stopped || answered < asked || own.len() as u64 != asked || foreign.len() as u64 != pushed {
        tokio::select! {
            frame = page.next() => {
                let frame = frame.unwrap_or_else(|closed| panic!("{address} was closed: {closed:?}"));
                match (&frame["type"], frame["payload"]["own"].as_u64()) {
                    (kind, _) if kind == "result" => answered += 1,
                    (_, Some(number)) => own.push(number),
                    _ => foreign.push(frame["payload"].as_u64().unwrap_or_else(|| panic!("{frame}"))),
                }
            }
            _ = ticks.tick(), if !stopped => {
                asked += 1;
                page.send(json!({"type": "broadcast_session", "id": asked, "payload": {"own": asked}})).await;
                if asked % 3 == 0 {
                    pushed += 1;
                    let report = api.send(json!({"page": page.id()}), json!(pushed)).await;
                    assert_eq!(report["reached"].as_u64().unwrap_or(0) + report["held"].as_u64().unwrap_or(0), 1, "{report}");
                }
            }
            () = &mut stop, if !stopped => stopped = true,
        }
    }
    assert_eq!(own, (1..=asked).collect::<Vec<_>>(), "from the page");
    assert_eq!(foreign, (1..=pushed).collect::<Vec<_>>(), "to the page");
    page
}

#[tokio::test]
async fn a_lane_of_nodes_that_drains_under_load_loses_doubles_and_reorders_nothing() {
    let nats = Nats::start().await;
    let (mut first, mut second) = (node(&nats, "blue").await, node(&nats, "blue").await);
    let green = node(&nats, "green").await;
    see(&[&first, &second, &green], 3).await;
    change(&green.api(), json!({"base": "green", "lanes": [{"name": "blue", "weight": 100}]})).await;
    let mut pages = Vec::new();
    for number in 0..24 {
        let arrives = if number % 2 == 0 { &first } else { &second };
        pages.push(MovingPage::open(arrives, None).await);
    }
    assert!(pages.iter().all(|page| page.lane() == "blue"));
    let api = green.api();
    let (done, wait) = tokio::sync::watch::channel(false);
    let exchanges = pages.into_iter().map(|page| {
        let mut wait = wait.clone();
        exchange(page, &api, async move { drop(wait.wait_for(|done| *done).await) })
    });
    let drains = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        first.terminate();
        first.exit(SOON).await;
        second.terminate();
        second.exit(SOON).await;
        done.send_replace(true);
    };
    let (pages, ()) = tokio::join!(join_all(exchanges), drains);
    for page in &pages {
        assert_eq!(page.lane(), "green", "the base, when its lane has no other node");
        assert!(page.recovered.iter().all(|outcome| outcome == "recovered"), "{:?}", page.recovered);
    }
    assert!(pages.iter().any(|page| page.sockets == 3), "some went to the other node of their lane first");
}

#[tokio::test]
async fn a_node_is_drained_by_a_command_at_any_node() {
    let nats = Nats::start().await;
    let (mut first, second) = (node(&nats, "blue").await, node(&nats, "blue").await);
    see(&[&first, &second], 2).await;
    let mut page = MovingPage::open(&first, None).await;
    let refused = pagewire(&second, &["node", "drain", "p77"]).await;
    assert!(refused.code == 1 && refused.err.contains("no living node"), "{refused:?}");
    let number = first.number().await;
    let output = pagewire(&second, &["node", "drain", &number]).await;
    assert_eq!(output.code, 0, "{output:?}");
    while page.sockets == 1 {
        let page_is_here = json!({"type": "call", "id": 1, "method": "echo", "params": 1});
        page.send(page_is_here).await;
        page.next().await.expect("a frame");
    }
    assert_eq!(page.recovered, ["recovered"]);
    assert_eq!(first.exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_does_not_know_move_comes_back_from_a_drained_node_by_itself() {
    let nats = Nats::start().await;
    let (mut first, second) = (node(&nats, "blue").await, node(&nats, "blue").await);
    see(&[&first, &second], 2).await;
    let mut page = Page::open(&first).await;
    let away = page.memory();
    first.terminate();
    let closed = page.closed().await;
    assert_eq!(closed.code, 4500, "{closed:?}");
    assert!(closed.reason["retry_after_ms"].is_u64(), "{closed:?}");
    assert_eq!(away.resume(&second).await.recovered(), "recovered");
    assert_eq!(first.exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_page_keeps_its_lane_until_the_lane_is_taken_back() {
    let nats = Nats::start().await;
    let (blue, green) = (node(&nats, "blue").await, node(&nats, "green").await);
    see(&[&blue, &green], 2).await;
    let api = blue.api();
    change(&api, percent(50)).await;
    let user = |number: u32| format!("user-{number}");
    let token = |number: u32| Token::of(&user(number)).sign();
    let mut pages = Vec::new();
    for number in 0..16 {
        pages.push(MovingPage::open(&blue, Some(&token(number))).await);
    }
    let lanes: Vec<_> = pages.iter().map(|page| page.lane().to_owned()).collect();
    assert!(lanes.contains(&"blue".to_owned()) && lanes.contains(&"green".to_owned()));
    let at = |lane: &str| lanes.iter().position(|known| known == lane).expect("a page") as u32;
    let mut old = Page::opening(&green).token(&token(at("green"))).open().await;
    let (stays, own) = (at("blue"), at("green"));
    for weight in [100, 1] {
        change(&api, percent(weight)).await;
        for page in &mut pages {
            page.send(json!({"type": "call", "id": weight, "method": "echo", "params": 1})).await;
            assert_eq!(page.next().await.expect("a frame")["type"], "result");
            assert_eq!(page.sockets, 1, "a weight above 0 moves no page");
        }
    }
    let mut again = MovingPage::open(&green, Some(&token(stays))).await;
    assert_eq!(again.lane(), "blue", "a page of the base");
    let assigned = json!({"lane": "green", "users": [user(own)]});
    let request = api.request(Method::POST, "/api/v1/rollouts/edge/users").header("if-match", "*");
    let response = request.json(&assigned).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.expect("a body"));
    change(&api, percent(0)).await;
    for (number, page) in pages.iter_mut().enumerate() {
        let expected = if number as u32 == own { "green" } else { "blue" };
        let address = page.id().to_owned();
        while page.lane() != expected {
            api.send(json!({"page": address}), json!(1)).await;
            page.next().await.expect("a frame");
        }
        assert_eq!(page.sockets == 2, lanes[number] == "green" && number as u32 != own);
    }
    again.send(json!({"type": "call", "id": 1, "method": "echo", "params": 1})).await;
    assert_eq!((&again.next().await.expect("a frame")["type"], again.sockets), (&json!("result"), 1));
    old.result(json!({"type": "call", "method": "echo", "params": 1})).await;
}

#[tokio::test]
async fn a_switch_leaves_pages_where_they_are_and_an_abort_of_the_old_colour_moves_them() {
    let nats = Nats::start().await;
    let (blue, green) = (node(&nats, "blue").await, node(&nats, "green").await);
    see(&[&blue, &green], 2).await;
    let api = green.api();
    change(&api, percent(0)).await;
    let mut page = MovingPage::open(&green, None).await;
    let mut old = Page::open(&blue).await;
    assert_eq!(page.lane(), "blue");
    change(&api, json!({"step": {"action": "switch", "lane": "green"}})).await;
    assert_eq!(MovingPage::open(&blue, None).await.lane(), "green", "a new page");
    page.send(json!({"type": "call", "id": 1, "method": "echo", "params": 1})).await;
    assert_eq!((&page.next().await.expect("a frame")["type"], page.lane()), (&json!("result"), "blue"));
    old.result(json!({"type": "call", "method": "echo", "params": 1})).await;
    change(&api, json!({"step": {"action": "abort", "lane": "blue"}})).await;
    let address = page.id().to_owned();
    while page.lane() != "green" {
        api.send(json!({"page": address}), json!(1)).await;
        page.next().await.expect("a frame");
    }
    assert_eq!(page.recovered, ["recovered"]);
    assert_eq!(old.closed().await.code, 4500, "a client that does not know `move` is advised to come back");
}
