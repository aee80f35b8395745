//! Topics: groups of pages that subscribe by themselves.

use std::time::Duration;

use serde_json::{Value, json};

use crate::environment::{Nats, Node, Page, SOON, Setup, Token, eventually, pagewire};

fn open(setup: Setup) -> Setup {
    setup.set("topics.open", "news,room.*").users()
}

async fn subscribe(page: &mut Page, topic: &str) {
    page.result_without_value(json!({"type": "subscribe", "topic": topic})).await;
}

/// Sends a message to a topic once a node knows that many subscribed pages.
async fn send(node: &Node, topic: &str, pages: u64, payload: Value) {
    eventually("the topic is known", SOON, async || {
        let seen = node.api().get_json(&format!("/api/v1/topics/{topic}")).await;
        (seen["pages"] == pages).then_some(())
    })
    .await;
    let report = node.api().send(json!({"topic": topic}), payload).await;
    assert_eq!((&report["reached"], &report["unreachable"]), (&json!(pages), &json!([])), "{report}");
}

#[tokio::test]
async fn a_message_for_a_topic_reaches_its_pages_on_every_node_and_nobody_else() {
    let nats = Nats::start().await;
    let (one, two) =
        (open(Node::setup()).nats(&nats).start().await, open(Node::setup()).nats(&nats).start().await);
    let mut ann = Page::opening(&one).token(&Token::of("ann").sign()).open().await;
    let (mut bob, mut eve) = (Page::open(&two).await, Page::open(&two).await);
    for page in [&mut ann, &mut bob] {
        subscribe(page, "room.7").await;
        subscribe(page, "room.7").await;
    }
    send(&one, "room.7", 2, json!("hello")).await;
    for page in [&mut ann, &mut bob] {
        let message = page.expect("message").await;
        assert_eq!((&message["payload"], &message["topic"]), (&json!("hello"), &json!("room.7")));
    }
    eve.has_nothing_to_read().await;
    let who = one.api().get_json("/api/v1/topics/room.7").await;
    assert_eq!((&who["users"], &who["anonymous"]), (&json!(["ann"]), &json!(1)));
    assert_eq!(who["nodes"].as_array().map(Vec::len), Some(2));
    let all = two.api().get_json("/api/v1/topics").await;
    assert_eq!(all["items"], json!([{"topic": "room.7", "pages": 2}]));
    bob.result_without_value(json!({"type": "unsubscribe", "topic": "room.7"})).await;
    send(&one, "room.7", 1, json!("again")).await;
    assert_eq!(ann.message().await, "again");
    bob.has_nothing_to_read().await;
    let output = pagewire(&two, &["push", "--topic", "room.7", "1"]).await;
    assert_eq!((output.code, output.out.as_str()), (0, "reached 1 page, held for 0 pages\n"));
}

#[tokio::test]
async fn a_page_that_moves_keeps_its_topics_and_is_told_each_message_once() {
    let nats = Nats::start().await;
    let (one, two) =
        (open(Node::setup()).nats(&nats).start().await, open(Node::setup()).nats(&nats).start().await);
    let mut page = Page::open(&one).await;
    subscribe(&mut page, "news").await;
    send(&two, "news", 1, json!(0)).await;
    assert_eq!(page.message().await, 0);
    let sending = async {
        for n in 1..=30 {
            two.api().send(json!({"topic": "news"}), json!(n)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let moving = async {
        let away = page.lose_socket();
        let mut page = away.resume(&two).await;
        assert_eq!(page.recovered(), "recovered");
        let mut seen = Vec::new();
        while seen.last() != Some(&json!(30)) {
            seen.push(page.message().await);
        }
        seen
    };
    let (_, seen) = tokio::join!(sending, moving);
    assert_eq!(Value::Array(seen), (1..=30).collect::<Value>(), "each once, in order");
}

#[tokio::test]
async fn a_topic_that_is_not_open_needs_a_token_of_its_own_user_that_names_it() {
    let node = open(Node::setup()).set("send.allow", "topic").start().await;
    let mut page = Page::opening(&node).token(&Token::of("ann").sign()).open().await;
    let subscription =
        |token: Option<String>| json!({"type": "subscribe", "topic": "team.7", "token": token});
    assert_eq!(page.error(subscription(None)).await, "forbidden");
    assert_eq!(page.error(subscription(Some(Token::of("ann").sign()))).await, "forbidden");
    assert_eq!(
        page.error(subscription(Some(Token::of("bob").with_topic("team.*").sign()))).await,
        "forbidden"
    );
    assert_eq!(page.error(subscription(Some("nonsense".into()))).await, "unauthenticated");
    page.result_without_value(subscription(Some(Token::of("ann").with_topic("team.*").sign()))).await;
    let to_others = json!({"type": "send", "to": {"topic": "news"}, "payload": 1});
    assert_eq!(page.error(to_others).await, "forbidden", "a page sends to topics that it has subscribed to");
    let report = page.result(json!({"type": "send", "to": {"topic": "team.7"}, "payload": 1})).await;
    assert_eq!(report["reached"], 1);
    assert_eq!(page.message().await, 1);
    for bad in ["", &"x".repeat(101)] {
        assert_ne!(page.error(json!({"type": "subscribe", "topic": bad})).await, "internal");
    }
    for n in 0..15 {
        subscribe(&mut page, &format!("room.{n}")).await;
    }
    assert_eq!(page.error(json!({"type": "subscribe", "topic": "room.99"})).await, "too_large");
}
