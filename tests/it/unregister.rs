//! Closing users, connections, sessions and pages through the server API, on any node.

use reqwest::StatusCode;
use serde_json::json;

use crate::environment::{Nats, Node, Page, SOON, Setup, Token, eventually};

/// Configures a node whose pages outlive their sockets for a long time.
fn member(nats: &Nats) -> Setup {
    Node::setup().nats(nats).users().set("lifetime.resume_ms", 60_000).set("lifetime.cleanup_interval_s", 1)
}

fn path(level: &str, id: &str) -> String {
    format!("/api/v1/{level}/{}", id.replace('|', "%7C"))
}

async fn sees(node: &Node, pages: u64) {
    eventually("the view is complete", SOON, async || {
        (node.api().get_json("/api/v1/stats").await["pages"] == pages).then_some(())
    })
    .await;
}

async fn is_gone(node: &Node, path: &str) {
    eventually(&format!("{path} is gone"), SOON, async || {
        (node.api().get(path).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_is_unregistered_on_every_node_with_all_pages_and_may_come_back() {
    let nats = Nats::start().await;
    let (one, two) = (member(&nats).start().await, member(&nats).start().await);
    let (ann, bob) = (Token::of("ann").sign(), Token::of("bob").sign());
    let mut here = Page::opening(&one).token(&ann).open().await;
    let mut there = Page::opening(&two).token(&ann).open().await;
    let away = Page::opening(&one).token(&ann).open().await.lose_socket();
    let mut other = Page::opening(&one).token(&bob).open().await;
    sees(&two, 4).await;
    let (status, outcome) = two.api().delete("/api/v1/users/ann").await;
    assert_eq!(
        (status, &outcome),
        (StatusCode::OK, &json!({"closed": 3, "nodes": ["p01", "p02"], "unreachable": []}))
    );
    assert_eq!(here.closed().await.code, 4007);
    assert_eq!(there.closed().await.code, 4007);
    other.has_nothing_to_read().await;
    for node in [&one, &two] {
        // a page in its resume window is closed too
        assert_eq!(away.resuming(node).token(&ann).close_code().await, 4007);
        is_gone(node, &path("sessions", here.session())).await;
        is_gone(node, &path("connections", there.connection())).await;
        sees(node, 1).await;
        assert_eq!(node.api().get_json("/api/v1/users/ann").await["sessions"], 0);
    }
    let again = Page::opening(&two).token(&ann).with("session_id", here.session()).open().await;
    assert_ne!(again.session(), here.session(), "what was there is over");
    let (_, outcome) = one.api().delete("/api/v1/users/nobody").await;
    assert_eq!(outcome["closed"], 0, "{outcome}");
}

#[tokio::test]
async fn a_session_a_connection_and_a_page_are_unregistered_with_what_is_below_them_only() {
    let nats = Nats::start().await;
    let (one, two) = (member(&nats).start().await, member(&nats).start().await);
    let mut first = Page::open(&one).await;
    let mut second = Page::opening(&two).beside(&first).open().await;
    let mut third = Page::opening(&two).same_browser(&first).open().await;
    let mut other_page = Page::open(&two).await;
    sees(&one, 4).await;
    let (_, outcome) = one.api().delete(&path("pages", second.id())).await;
    assert_eq!(outcome, json!({"closed": 1, "nodes": ["p02"], "unreachable": []}));
    assert_eq!(second.closed().await.code, 4007);
    assert_eq!(second.memory().resuming(&one).close_code().await, 4007);
    first.has_nothing_to_read().await;
    let fourth = Page::opening(&two).beside(&first).open().await;
    assert_eq!(fourth.session(), first.session(), "its session is as it was");
    sees(&one, 4).await;
    let (_, outcome) = two.api().delete(&path("sessions", first.session())).await;
    assert_eq!((&outcome["closed"], &outcome["unreachable"]), (&json!(2), &json!([])), "{outcome}");
    assert_eq!(first.closed().await.code, 4007);
    third.has_nothing_to_read().await;
    for node in [&one, &two] {
        is_gone(node, &path("sessions", first.session())).await;
    }
    let (_, outcome) = one.api().delete(&path("connections", third.connection())).await;
    assert_eq!(outcome["closed"], 1, "{outcome}");
    assert_eq!(third.closed().await.code, 4007);
    other_page.has_nothing_to_read().await;
    for gone in [
        path("pages", first.id()),
        path("sessions", third.session()),
        path("connections", third.connection()),
    ] {
        is_gone(&one, &gone).await;
        assert_eq!(one.api().delete(&path("sessions", "0000000000000000000000|p01")).await.0, 404, "{gone}");
    }
}

#[tokio::test]
async fn an_idle_session_is_unregistered_and_joined_no_more() {
    let nats = Nats::start().await;
    let node = member(&nats).set("lifetime.resume_ms", 100).start().await;
    let ann = Token::of("ann").sign();
    let page = Page::opening(&node).token(&ann).open().await;
    let session = path("sessions", page.session());
    let away = page.lose_socket();
    eventually("the session is idle", SOON, async || {
        (node.api().get_json(&session).await["pages"] == 0).then_some(())
    })
    .await;
    let (status, outcome) = node.api().delete(&session).await;
    assert_eq!((status, &outcome["closed"]), (StatusCode::OK, &json!(0)), "{outcome}");
    is_gone(&node, &session).await;
    let page = Page::opening(&node).token(&ann).with("session_id", away.session()).open().await;
    assert_ne!(page.session(), away.session());
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_to_whoever_unregisters() {
    let nats = Nats::start().await;
    let (one, two) = (member(&nats).start().await, member(&nats).start().await);
    let ann = Token::of("ann").sign();
    let mut here = Page::opening(&one).token(&ann).open().await;
    let mut there = Page::opening(&two).token(&ann).open().await;
    sees(&one, 2).await;
    two.pause();
    let (status, outcome) = one.api().delete("/api/v1/users/ann").await;
    two.wake();
    assert_eq!(
        (status, &outcome),
        (StatusCode::OK, &json!({"closed": 1, "nodes": ["p01"], "unreachable": ["p02"]}))
    );
    assert_eq!(here.closed().await.code, 4007);
    // the node learns of the removal when it is back, and does not restore its page
    let closed = there.closed().await;
    assert!([4007, 4502].contains(&closed.code), "{closed:?}");
    for node in [&one, &two] {
        sees(node, 0).await;
        // a node that stood still for longer than its lease asks pages to come again until it has a new one
        let code = eventually("the node answers for its pages", SOON, async || {
            let code = there.memory().resuming(node).token(&ann).close_code().await;
            (code != 4505).then_some(code)
        })
        .await;
        assert_eq!(code, 4007);
    }
}
