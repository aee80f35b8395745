//! Clients that misbehave: each is closed with its own code, and other clients do not notice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::environment::{Node, Page, SOON, Token, eventually};

#[tokio::test]
async fn a_frame_over_the_limit_is_closed_with_4009() {
    let node = Node::setup().set("websocket.max_frame", 2048).start().await;
    let mut page = Page::open(&node).await;
    assert_eq!(page.registered["limits"]["max_frame"], 2048);
    let fits = "x".repeat(1500);
    assert_eq!(page.result(json!({"type": "call", "method": "echo", "params": fits})).await, json!(fits));
    page.send(json!({"type": "call", "id": 1, "method": "echo", "params": "x".repeat(3000)})).await;
    assert_eq!(page.closed().await.code, 4009);
}

#[tokio::test]
async fn too_many_frames_per_second_are_closed_with_4506() {
    let node = Node::setup().set("limits.frames_per_second", 20).start().await;
    let mut page = Page::open(&node).await;
    for n in 0..200 {
        page.send(json!({"type": "call", "id": n, "method": "echo"})).await;
    }
    let closed = page.closed().await;
    assert_eq!(closed.code, 4506, "{closed:?}");
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_with_4503() {
    let node =
        Node::setup().set("websocket.ping_ms", 300).set("websocket.ping_timeout_ms", 300).start().await;
    let silent = Page::open(&node).await.fall_silent();
    let mut lively = Page::open(&node).await;
    let (code, ()) = tokio::join!(silent.close_code(), async {
        // reading replies to pings: three rounds of them pass without harm
        let longer = json!({"type": "call", "method": "sleep", "params": {"ms": 2000}});
        assert_eq!(lively.result(longer).await, Value::Null);
    });
    assert_eq!(code, Some(4503));
}

#[tokio::test]
async fn a_socket_without_hello_is_closed() {
    let node = Node::start().await;
    let mut socket = Page::opening(&node).upgrade().await.expect("an upgrade");
    assert_eq!(socket.closed().await.code, 4503);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_with_4501_and_costs_a_bounded_memory() {
    let node = Node::setup().set("websocket.outbox_bytes", 262_144).start().await;
    let slow = Page::opening(&node).narrow().open().await;
    let mut lively = Page::open(&node).await;
    let before = node.rss();
    let payload = json!({"fill": "x".repeat(32 * 1024)});
    let to = json!({"page": slow.id()});
    let api = node.api();
    // far more than the sockets' buffers hold
    eventually("the slow page is closed", SOON, async || {
        for _ in 0..50 {
            api.send(to.clone(), payload.clone()).await;
        }
        (api.metric("pagewire_ws_closed_total{code=\"4501\"}").await == 1.0).then_some(())
    })
    .await;
    let grown = node.rss().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "the node grew by {grown} bytes");
    lively.has_nothing_to_read().await;
    drop(slow);
}

#[tokio::test]
async fn a_malformed_frame_is_answered_and_nothing_is_lost() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    for (text, code) in [
        ("no json", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        (r#"{"type":"send","to":{"page":"x"},"payload":1}"#, "malformed"),
        (r#"{"type":"jump"}"#, "unsupported"),
    ] {
        page.send_text(text).await;
        let error = page.expect("error").await;
        assert_eq!(error["code"], code, "{text}: {error}");
        assert!(error["id"].is_null(), "{error}");
    }
    page.send_text(r#"{"type":"send","id":"mine"}"#).await;
    assert_eq!(page.expect("error").await["id"], "mine");
    assert_eq!(
        page.result(json!({"type": "call", "method": "echo", "params": "still here"})).await,
        "still here"
    );
}

#[tokio::test]
async fn a_page_is_closed_when_its_token_expires_and_a_fresh_one_in_time_keeps_it() {
    // tokens are checked as often as sockets are pinged
    let node = Node::setup().users().set("auth.leeway_s", 0).set("websocket.ping_ms", 1000).start().await;
    let brief = Token::of("ann").valid_for(Duration::from_secs(3)).sign();
    let mut expiring = Page::opening(&node).token(&brief).open().await;
    let mut kept = Page::opening(&node).token(&brief).open().await;
    let renewed = kept.request(json!({"type": "auth", "token": Token::of("ann").sign()})).await;
    assert_eq!(renewed["type"], "result", "{renewed}");
    assert_eq!(expiring.closed().await.code, 4504);
    assert_eq!(kept.result(json!({"type": "call", "method": "echo", "params": 1})).await, 1);
}
