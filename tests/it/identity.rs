//! Ownership of sessions: logins, page tokens and their keys, on real nodes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::environment::{Nats, Node, Page, Refusal, SOON, Token, eventually, pagewire};

async fn two_nodes(nats: &Nats) -> (Node, Node) {
    let setup = || Node::setup().users().nats(nats);
    tokio::join!(setup().start(), setup().start())
}

async fn login(page: &mut Page, user: &str) -> Value {
    page.request(json!({"type": "auth", "token": Token::of(user).sign()})).await
}

#[tokio::test]
async fn a_page_token_from_before_a_login_is_worth_nothing_after_it_at_any_node() {
    let nats = Nats::start().await;
    let setup = || Node::setup().users().nats(&nats).set("lifetime.resume_ms", 300);
    let (one, mut two) = tokio::join!(setup().start(), setup().start());
    let first = Page::open(&one).await;
    let mut second = Page::opening(&two).beside(&first).open().await;
    let (session, page) = (first.session().to_owned(), first.id().to_owned());
    let kept = first.lose_socket();
    eventually("the first page is over", SOON, async || {
        let (status, _) = one.api().get(&format!("/api/v1/pages/{}", page.replace('|', "%7C"))).await;
        (status.as_u16() == 404).then_some(())
    })
    .await;
    assert_eq!(login(&mut second, "ann").await["type"], "result");
    let bob = Token::of("bob").sign();
    for node in [&one, &two] {
        assert_eq!(kept.resuming(node).close_code().await, 4001);
        assert_eq!(kept.resuming(node).token(&bob).close_code().await, 4003);
    }
    // ann's node is killed: only the owner row is left of the login
    two.kill();
    eventually("the node is dead", SOON, async || {
        let nodes = one.api().get_json("/api/v1/nodes").await;
        (nodes["items"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    assert_eq!(kept.resuming(&one).close_code().await, 4001);
    assert_eq!(kept.resuming(&one).token(&bob).close_code().await, 4003);
    let ann = kept.resuming(&one).token(&Token::of("ann").sign()).open().await;
    assert_eq!((ann.recovered(), ann.session()[..22].to_owned()), ("reset", session[..22].to_owned()));
}

#[tokio::test]
async fn no_page_that_joins_during_a_login_stays_anonymous_in_the_session() {
    let nats = Nats::start().await;
    let (one, two) = two_nodes(&nats).await;
    let (mut labelled, mut refused) = (0, 0);
    for round in 0..60 {
        let user = format!("user {round}");
        let mut first = Page::open(&one).await;
        let joining = Page::opening(if round % 2 == 0 { &two } else { &one }).beside(&first);
        let login = async {
            // a little later each time, so that both outcomes of the race occur
            tokio::time::sleep(Duration::from_micros(700 * (round % 10))).await;
            let response = login(&mut first, &user).await;
            assert_eq!(response["type"], "result", "{response}");
        };
        let (joined, ()) = tokio::join!(joining.try_open(), login);
        match joined {
            Ok(mut second) => {
                if second.registered["user"].is_null() {
                    assert_eq!(second.expect("identity").await["user"], *user);
                }
                labelled += 1;
            }
            Err(Refusal::Closed(closed)) => {
                assert_eq!(closed.code, 4001);
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("{labelled} labelled, {refused} refused");
    // every first page belongs to its user, and rejected requests have left nothing
    eventually("the pages are those of the users", SOON, async || {
        let stats = one.api().get_json("/api/v1/stats").await;
        (stats["users"] == 60 && stats["pages"].as_u64() == Some(60 + labelled)).then_some(())
    })
    .await;
    for user in 0..60 {
        let user = one.api().get_json(&format!("/api/v1/users/user%20{user}")).await;
        assert_eq!(user["sessions"], 1, "{user}");
    }
}

#[tokio::test]
async fn a_new_key_signs_at_once_on_every_node_and_old_tokens_stay_good() {
    let nats = Nats::start().await;
    let (one, two) = two_nodes(&nats).await;
    let old = Page::open(&one).await.lose_socket();
    let rotated = pagewire(&one, &["keys", "rotate", "--json"]).await.json();
    assert_eq!(rotated["key"], 2);
    let new = Page::open(&one).await.lose_socket();
    let key =
        |registered: &Value| registered["token"].as_str().unwrap_or("").split('.').nth(1).map(str::to_owned);
    assert_eq!((key(&old.registered), key(&new.registered)), (Some("1".into()), Some("2".into())));
    assert_eq!(new.resume(&two).await.recovered(), "recovered", "signed by the new key, accepted elsewhere");
    assert_eq!(old.resume(&two).await.recovered(), "recovered", "signed by the old one");
    let page = Page::open(&two).await;
    assert_eq!(key(&page.registered).as_deref(), Some("2"), "the other node signs with it without a restart");
    let output = pagewire(&two, &["keys"]).await;
    assert!(output.out.starts_with("KEY  SIGNS"), "{output:?}");
    let keys = pagewire(&two, &["keys", "list", "--json"]).await.json();
    assert_eq!((&keys["items"][0]["signs"], &keys["items"][1]["signs"]), (&json!(false), &json!(true)));
    assert!(!keys.to_string().contains("secret") && keys["items"][0]["retired_at"].is_string(), "{keys}");
}

#[tokio::test]
async fn a_login_does_not_give_a_user_more_pages_than_allowed() {
    let nats = Nats::start().await;
    let setup = || Node::setup().users().nats(&nats).set("limits.pages_per_user", 2);
    let (one, two) = tokio::join!(setup().start(), setup().start());
    let token = Token::of("ann").sign();
    let first = Page::opening(&one).token(&token).open().await;
    let _second = Page::opening(&two).token(&token).open().await;
    eventually("the node sees both", SOON, async || {
        let user = one.api().get_json("/api/v1/users/ann").await;
        (user["pages"] == 2).then_some(())
    })
    .await;
    let mut anonymous = Page::open(&one).await;
    let response = login(&mut anonymous, "ann").await;
    assert_eq!(
        (&response["type"], &response["code"]),
        (&json!("error"), &json!("rate_limited")),
        "{response}"
    );
    let away = anonymous.lose_socket();
    assert_eq!(away.resuming(&one).token(&token).close_code().await, 4004);
    assert_eq!(away.resume(&one).await.registered["user"], Value::Null, "it still has no user");
    let first = first.lose_socket().resuming(&one).token(&token).open().await;
    assert_eq!(first.recovered(), "recovered", "a page that is counted comes back");
}

#[tokio::test]
async fn an_expired_token_ends_its_socket_without_waiting_for_a_ping() {
    // the test waits for less time than this ping interval
    let node = Node::setup().users().set("auth.leeway_s", 0).set("websocket.ping_ms", 60_000).start().await;
    let short = || Token::of("ann").valid_for(Duration::from_secs(2)).sign();
    let mut page = Page::opening(&node).token(&short()).open().await;
    assert_eq!(page.closed().await.code, 4504);
    let mut page = Page::open(&node).await;
    page.result_without_value(json!({"type": "auth", "token": short()})).await;
    assert_eq!(page.closed().await.code, 4504);
}

#[tokio::test]
async fn a_loopback_node_takes_no_socket_for_another_host() {
    let node = Node::setup().set("websocket.origins", "https://app.example").start().await;
    let port = node.address().port();
    let foreign = Refusal::Http { status: 403, retry_after: None };
    let rebound = format!("evil.example:{port}");
    let opening =
        Page::opening(&node).header("host", &rebound).header("origin", &format!("http://{rebound}"));
    assert_eq!(opening.refusal().await, foreign);
    assert_eq!(Page::opening(&node).header("host", &rebound).refusal().await, foreign);
    eventually("the log names the host", SOON, async || node.log().contains("evil.example").then_some(()))
        .await;
    let local = format!("localhost:{port}");
    Page::opening(&node).header("host", &local).header("origin", &format!("http://{local}")).open().await;
    Page::opening(&node).header("host", "app.example").header("origin", "https://app.example").open().await;
}

/// Sends a raw request and returns the status of the response.
async fn status(node: &Node, head: &str) -> String {
    let mut stream = TcpStream::connect(node.address()).await.expect("a listening node");
    stream.write_all(head.as_bytes()).await.expect("a living stream");
    let mut response = [0; 12];
    stream.read_exact(&mut response).await.expect("a status");
    String::from_utf8_lossy(&response[9..]).into_owned()
}

#[tokio::test]
async fn without_a_key_the_api_is_closed_to_a_proxy_even_to_one_that_adds_no_header() {
    let node = Node::start().await;
    let port = node.address().port();
    let request = |version: &str, more: &str| {
        format!("GET /api/v1/stats HTTP/{version}\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n")
    };
    assert_eq!(status(&node, &request("1.1", "")).await, "200");
    assert_eq!(status(&node, &request("1.1", "Connection: close\r\n")).await, "200", "as some programs ask");
    // nginx with nothing but `proxy_pass`
    assert_eq!(status(&node, &request("1.0", "Connection: close\r\n")).await, "403");
    for header in ["X-Real-IP: 192.0.2.1", "Via: 1.1 cache", "CF-Ray: 1", "X-Forwarded-For: 192.0.2.1"] {
        assert_eq!(status(&node, &request("1.1", &format!("{header}\r\n"))).await, "403", "{header}");
    }
    assert!(node.log().contains("auth.api_keys is empty"), "the log says so at the start");
    let output = pagewire(&node, &["config", "check"]).await;
    assert!(output.err.contains("warning: auth.api_keys is empty"), "{output:?}");
}
