//! Sessions and connections without pages: a page can join them in time; otherwise every node removes them.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::environment::{Events, Nats, Node, Page, SOON, Setup, Token, eventually};

/// Configures a cluster node whose pages are removed soon after their sockets.
fn member(nats: &Nats) -> Setup {
    Node::setup().nats(nats).users().set("lifetime.resume_ms", 200).set("lifetime.cleanup_interval_s", 1)
}

/// Configures a cluster node that also removes idle sessions and connections soon.
fn brief(nats: &Nats) -> Setup {
    member(nats).set("lifetime.session_timeout_s", 2).set("lifetime.connection_timeout_s", 1)
}

fn path(level: &str, id: &str) -> String {
    format!("/api/v1/{level}/{}", id.replace('|', "%7C"))
}

/// Waits until a node's response for a path passes the check.
async fn wait_for(node: &Node, path: &str, what: &str, check: impl Fn(StatusCode, &Value) -> bool) -> Value {
    eventually(&format!("{path}: {what}"), SOON, async || {
        let (status, body) = node.api().get(path).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        check(status, &body).then_some(body)
    })
    .await
}

async fn is_idle(node: &Node, path: &str) -> Value {
    wait_for(node, path, "idle", |_, body| body["pages"] == 0 && body["idle_until"].is_string()).await
}

async fn is_over(node: &Node, path: &str) {
    wait_for(node, path, "over", |status, _| status == StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn a_session_without_pages_is_shown_as_idle_and_can_be_joined_on_any_node() {
    let nats = Nats::start().await;
    let (one, two) = (member(&nats).start().await, member(&nats).start().await);
    let ann = Token::of("ann").sign();
    let page = Page::opening(&one).token(&ann).open().await;
    let (session, connection) = (path("sessions", page.session()), path("connections", page.connection()));
    let away = page.lose_socket();
    for node in [&one, &two] {
        is_idle(node, &session).await;
        assert_eq!(is_idle(node, &connection).await["sessions"], 1);
        let ann = node.api().get_json("/api/v1/users/ann").await;
        assert_eq!((&ann["online"], &ann["sessions"], &ann["pages"]), (&json!(false), &json!(1), &json!(0)));
        let offline = node.api().get_json("/api/v1/users?online=false").await;
        assert_eq!(offline["items"][0]["user"], "ann", "{offline}");
        let stats = node.api().get_json("/api/v1/stats").await;
        assert_eq!((&stats["sessions"], &stats["idle_sessions"]), (&json!(0), &json!(1)), "{stats}");
    }
    // another user cannot join it
    let bob = Token::of("bob").sign();
    let join = |token: &str| Page::opening(&two).with("session_id", away.session()).token(token);
    assert_eq!(join(&bob).close_code().await, 4003);
    let page = join(&ann).open().await;
    assert_eq!(page.session(), away.session());
    for node in [&one, &two] {
        let seen = wait_for(node, &session, "joined", |_, body| body["pages"] == 1).await;
        assert_eq!(seen["idle_until"], Value::Null, "{seen}");
    }
}

#[tokio::test]
async fn an_anonymous_session_without_pages_is_joined_with_the_token_of_one_of_them() {
    let nats = Nats::start().await;
    let (one, two) = (member(&nats).start().await, member(&nats).start().await);
    let page = Page::open(&one).await;
    let session = page.session().to_owned();
    let away = page.lose_socket();
    is_idle(&two, &path("sessions", &session)).await;
    let other_user = Page::opening(&two).with("session_id", session.as_str()).open().await;
    assert_ne!(other_user.session(), session, "the id alone gives nothing");
    let proof = json!({"token": away.registered["token"], "seq": 0});
    let page = Page::opening(&two).with("session_id", session.as_str()).with("resume", proof).open().await;
    assert_eq!(page.session(), session);
    assert_eq!(page.connection(), away.registered["connection_id"]);
}

#[tokio::test]
async fn a_session_that_nobody_joins_ends_everywhere_and_its_connection_after_it() {
    let nats = Nats::start().await;
    let (one, two) = (brief(&nats).start().await, brief(&nats).start().await);
    // two pages of the session leave from two nodes at the same time
    let first = Page::open(&one).await;
    let second = Page::opening(&two).beside(&first).open().await;
    let (session, connection) = (path("sessions", first.session()), path("connections", first.connection()));
    for node in [&one, &two] {
        wait_for(node, &session, "two pages", |_, body| body["pages"] == 2).await;
    }
    drop((first.lose_socket(), second.lose_socket()));
    for node in [&one, &two] {
        is_over(node, &session).await;
        is_over(node, &connection).await;
        let stats = node.api().get_json("/api/v1/stats").await;
        assert_eq!((&stats["idle_sessions"], &stats["idle_connections"]), (&json!(0), &json!(0)), "{stats}");
    }
}

#[tokio::test]
async fn the_sessions_of_a_node_that_was_killed_are_idle_and_then_over() {
    let nats = Nats::start().await;
    let mut one = brief(&nats).start().await;
    let two = brief(&nats).set("lifetime.session_timeout_s", 3).start().await;
    let page = Page::open(&one).await;
    let (session, connection) = (path("sessions", page.session()), path("connections", page.connection()));
    wait_for(&two, &session, "one page", |_, body| body["pages"] == 1).await;
    one.kill();
    is_idle(&two, &session).await;
    is_over(&two, &session).await;
    is_over(&two, &connection).await;
}

#[tokio::test]
async fn the_trees_of_what_is_over_are_gone_on_every_node_and_a_users_stays() {
    let nats = Nats::start().await;
    let write = |setup: Setup| setup.set("state.write", "page,session,connection,user");
    let (one, two) = (write(brief(&nats)).start().await, write(brief(&nats)).start().await);
    let mut page = Page::opening(&one).token(&Token::of("ann").sign()).open().await;
    for level in ["page", "session", "connection", "user"] {
        page.result(json!({"type": format!("set_{level}_data"), "path": "a", "value": level})).await;
    }
    let trees = [("pages", page.id()), ("sessions", page.session()), ("connections", page.connection())];
    let trees = trees.map(|(level, id)| format!("{}/data", path(level, id)));
    for tree in &trees {
        wait_for(&two, tree, "there", |status, body| status == StatusCode::OK && body["a"].is_string()).await;
    }
    let mut followers = Vec::new();
    for tree in &trees {
        let mut events = Events::open(&two.api(), tree, None).await;
        assert!(events.next().await.expect("a snapshot").1["snapshot"]["a"].is_string());
        followers.push(events);
    }
    drop(page);
    for mut events in followers {
        assert_eq!(events.next().await.expect("an end").1["removed"], true, "it is announced");
    }
    for tree in &trees {
        is_over(&two, tree).await;
    }
    assert_eq!(two.api().get_json("/api/v1/users/ann/data").await, json!({"a": "user"}));
}
