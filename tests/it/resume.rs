//! Losing a socket and resuming: the page receives every frame after the last one seen, or `reset`. There is no third
//! outcome.

use serde_json::{Value, json};

use crate::environment::{Node, Page, SOON, Token, eventually};

async fn push(node: &Node, to: &str, payload: Value) {
    let report = node.api().send(json!({"page": to}), payload).await;
    assert_eq!(report["reached"].as_u64().unwrap_or(0) + report["held"].as_u64().unwrap_or(0), 1, "{report}");
}

#[tokio::test]
async fn every_frame_missed_while_away_arrives_in_order() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let id = page.id().to_owned();
    push(&node, &id, json!(1)).await;
    assert_eq!(page.message().await, 1);
    let away = page.lose_socket();
    for n in 2..=20 {
        push(&node, &id, json!(n)).await;
    }
    let mut page = away.resume(&node).await;
    assert_eq!((page.recovered(), page.id()), ("recovered", id.as_str()));
    assert_eq!(page.registered["seq"], 1, "what the client has");
    for n in 2..=20 {
        assert_eq!(page.message().await, n);
    }
    assert_eq!(page.seen, 20, "seq goes on");
    push(&node, &id, json!(21)).await;
    assert_eq!(page.message().await, 21);
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn what_was_written_to_a_dead_socket_is_sent_again_and_what_arrived_is_not() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let id = page.id().to_owned();
    for n in 1..=5 {
        push(&node, &id, json!(n)).await;
    }
    for n in 1..=3 {
        assert_eq!(page.message().await, n);
    }
    // 4 and 5 were written to this socket and never read
    let mut page = page.lose_socket().resume(&node).await;
    assert_eq!(page.recovered(), "recovered");
    assert_eq!(page.message().await, 4);
    assert_eq!(page.message().await, 5);
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn acknowledged_frames_are_forgotten_and_the_rest_is_kept() {
    let node = Node::setup().set("websocket.replay_bytes", 4096).start().await;
    let mut page = Page::open(&node).await;
    let id = page.id().to_owned();
    for n in 0..40 {
        push(&node, &id, json!({"n": n, "fill": "x".repeat(500)})).await;
        assert_eq!(page.message().await["n"], n);
        page.ack().await;
    }
    page.has_nothing_to_read().await;
    let away = page.lose_socket();
    push(&node, &id, json!("after the acknowledged ones")).await;
    let mut page = away.resume(&node).await;
    assert_eq!(page.recovered(), "recovered", "20 KiB went through a ring of 4 KiB");
    assert_eq!(page.message().await, "after the acknowledged ones");
}

#[tokio::test]
async fn a_gap_that_cannot_be_filled_is_a_reset() {
    let node = Node::setup().set("websocket.replay_bytes", 1024).start().await;
    let page = Page::open(&node).await;
    let id = page.id().to_owned();
    let mut page = {
        let away = page.memory();
        for n in 0..10 {
            push(&node, &id, json!({"n": n, "fill": "x".repeat(500)})).await;
        }
        drop(page.lose_socket());
        away.resume(&node).await
    };
    assert_eq!((page.recovered(), page.id()), ("reset", id.as_str()));
    push(&node, &id, json!("from here on")).await;
    while page.message().await != json!("from here on") {}
}

#[tokio::test]
async fn frames_of_the_client_are_counted_so_that_it_resends_the_rest() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    page.result(json!({"type": "call", "method": "echo", "params": 1})).await;
    page.error(json!({"type": "no such type"})).await;
    page.send(json!({"type": "ping"})).await;
    page.expect("pong").await;
    page.ack().await;
    page.has_nothing_to_read().await;
    let page = page.lose_socket().resume(&node).await;
    assert_eq!(page.registered["received"], 2, "call and the refused one; not hello, ping, ack");
}

#[tokio::test]
async fn the_newer_socket_wins_and_the_older_is_told() {
    let node = Node::start().await;
    let mut old = Page::open(&node).await;
    let id = old.id().to_owned();
    let mut new = old.memory().resume(&node).await;
    assert_eq!(old.closed().await.code, 4006);
    push(&node, &id, json!("to the newer")).await;
    assert_eq!(new.message().await, "to the newer");
}

#[tokio::test]
async fn a_token_is_accepted_until_the_next_one_was_used() {
    let node = Node::start().await;
    let first = Page::open(&node).await.lose_socket();
    // the newer `registered` frame may be lost in transit, so the older token is still valid
    drop(first.resume(&node).await.lose_socket());
    let mut page = first.resume(&node).await;
    // a frame proves that this client knows its token
    page.send(json!({"type": "ping"})).await;
    page.expect("pong").await;
    assert_eq!(first.resuming(&node).close_code().await, 4006, "a replayed token");
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_forged_token_resumes_nothing() {
    let node = Node::start().await;
    let page = Page::open(&node).await;
    let other = Page::open(&node).await;
    let mut forged = page.memory();
    forged.registered["token"] = json!(format!("{}x", page.token()));
    assert_eq!(forged.resuming(&node).close_code().await, 4003);
    forged.registered["token"] = json!(other.token());
    assert_eq!(forged.resuming(&node).close_code().await, 4003, "another page's token");
}

#[tokio::test]
async fn a_users_page_is_resumed_by_that_user_alone() {
    let node = Node::setup().users().start().await;
    let token = Token::of("ann").sign();
    let away = Page::opening(&node).token(&token).open().await.lose_socket();
    let bob = Token::of("bob").sign();
    assert_eq!(away.resuming(&node).token(&bob).close_code().await, 4003, "another user");
    assert_eq!(away.resuming(&node).close_code().await, 4001, "nobody");
    let page = away.resuming(&node).token(&token).open().await;
    assert_eq!((page.recovered(), &page.registered["user"]), ("recovered", &json!("ann")));
}

#[tokio::test]
async fn a_page_ends_with_its_resume_window_and_comes_back_as_a_reset() {
    let node = Node::setup().set("lifetime.resume_ms", 300).start().await;
    let page = Page::open(&node).await;
    let id = page.id().to_owned();
    let away = page.lose_socket();
    let api = node.api();
    eventually("the page is gone", SOON, async || {
        let report = api.send(json!({"page": id}), json!("too late")).await;
        (report["held"] == 0 && report["reached"] == 0).then_some(())
    })
    .await;
    let mut page = away.resume(&node).await;
    assert_eq!(page.recovered(), "reset");
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_page_survives_kill_9_of_its_node_as_a_reset() {
    let nats = crate::environment::Nats::start().await;
    let mut node = Node::setup().set("node.number", 1).nats(&nats).start().await;
    let page = Page::open(&node).await;
    let (id, session) = (page.id().to_owned(), page.session().to_owned());
    let away = page.lose_socket();
    node.kill();
    node.restart().await;
    let page = away.resume(&node).await;
    assert_eq!((page.recovered(), page.id(), page.session()), ("reset", id.as_str(), session.as_str()));
}
