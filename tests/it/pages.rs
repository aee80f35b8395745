//! Opening pages: ids, levels, admission.

use serde_json::json;

use crate::environment::{Node, Page, SOON, Token, eventually};

fn node_of(id: &str) -> &str {
    id.split_once('|').expect("<22 characters>|pNN").1
}

#[tokio::test]
async fn a_page_gets_its_ids_and_they_end_in_the_number_of_the_node() {
    let node = Node::setup().set("node.number", 7).start().await;
    let page = Page::open(&node).await;
    for id in [page.id(), page.session(), page.connection()] {
        assert_eq!(node_of(id), "p07", "{id}");
        assert_eq!(id.len(), 26, "{id}");
        assert!(id[..22].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    }
    assert_eq!((page.node(), page.recovered()), ("p07", "new"));
    let registered = &page.registered;
    assert!(registered["user"].is_null(), "anonymous");
    assert_eq!((registered["lane"].as_str(), registered["release"].as_str()), (Some("stable"), Some("dev")));
    assert_eq!((registered["seq"].as_u64(), registered["received"].as_u64()), (Some(0), Some(0)));
    assert_eq!(registered["limits"]["max_frame"], 65536);
}

#[tokio::test]
async fn a_second_page_joins_the_session_or_only_the_browser() {
    let node = Node::start().await;
    let first = Page::open(&node).await;
    let iframe = Page::opening(&node).beside(&first).open().await;
    assert_eq!((iframe.session(), iframe.connection()), (first.session(), first.connection()));
    assert_ne!(iframe.id(), first.id());
    let tab = Page::opening(&node).same_browser(&first).open().await;
    assert_ne!(tab.session(), first.session());
    assert_eq!(tab.connection(), first.connection());
}

#[tokio::test]
async fn knowing_an_id_gives_no_rights() {
    let node = Node::start().await;
    let first = Page::open(&node).await;
    let other_page = Page::opening(&node).with("session_id", first.session()).open().await;
    assert_ne!(other_page.session(), first.session());
    let thief = Page::opening(&node).with("page_id", first.id());
    assert_eq!(thief.close_code().await, 4003);
}

#[tokio::test]
async fn a_token_makes_the_user_wherever_it_comes_from() {
    let node = Node::setup().users().set("auth.cookie", "sid").start().await;
    let token = Token::of("ann").sign();
    let openings = [
        Page::opening(&node).token(&token),
        Page::opening(&node).header("authorization", &format!("Bearer {token}")),
        Page::opening(&node).header("sec-websocket-protocol", &format!("pagewire.v1, bearer.{token}")),
        Page::opening(&node).header("cookie", &format!("a=1; sid={token}")).header("origin", &node.url()),
    ];
    for opening in openings {
        assert_eq!(opening.open().await.registered["user"], "ann");
    }
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why_by_a_code() {
    let node = Node::setup().users().set("auth.anonymous", false).start().await;
    assert_eq!(Page::opening(&node).close_code().await, 4001, "no token");
    assert_eq!(Page::opening(&node).token("no.token.at-all").close_code().await, 4001, "not a token");
    let expired = Token::of("ann").expired().sign();
    assert_eq!(Page::opening(&node).token(&expired).close_code().await, 4504, "expired");
    let valid = Token::of("ann").sign();
    assert_eq!(Page::opening(&node).token(&valid).open().await.registered["user"], "ann");
}

#[tokio::test]
async fn a_malformed_hello_is_closed_with_4000() {
    let node = Node::start().await;
    let malformed =
        [("page_id", "short|p01"), ("page_id", "no bar"), ("session_id", "x|p1"), ("type", "send")];
    for (member, value) in malformed {
        assert_eq!(Page::opening(&node).with(member, value).close_code().await, 4000, "{member}: {value}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_closed_with_4003_before_anything_is_read() {
    let node = Node::setup().set("websocket.origins", "https://app.example").start().await;
    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(Page::opening(&node).header("origin", foreign).close_code().await, 4003, "{foreign}");
    }
    for known in ["https://app.example", &node.url()] {
        Page::opening(&node).header("origin", known).open().await;
    }
}

#[tokio::test]
async fn one_address_gets_as_many_connections_as_configured() {
    let node = Node::setup().set("limits.connections_per_ip", 3).start().await;
    let mut pages = vec![Page::open(&node).await, Page::open(&node).await, Page::open(&node).await];
    let one_more = tokio::net::TcpStream::connect(node.address()).await.expect("the listener's backlog");
    let mut response = String::new();
    let mut one_more = tokio::io::BufReader::new(one_more);
    tokio::io::AsyncReadExt::read_to_string(&mut one_more, &mut response)
        .await
        .expect("an answer, then the end");
    assert!(response.starts_with("HTTP/1.1 429"), "{response:?}");
    assert!(response.to_lowercase().contains("\r\nretry-after: "), "{response:?}");
    pages.pop().expect("three").lose_socket();
    eventually("there is room again", SOON, async || node.api().is_ready().await.then_some(())).await;
    assert_eq!(pages[0].result(json!({"type": "call", "method": "echo", "params": 1})).await, 1);
}

#[tokio::test]
async fn a_user_gets_as_many_pages_as_configured() {
    let node = Node::setup().users().set("limits.pages_per_user", 2).start().await;
    let token = Token::of("ann").sign();
    let _pages =
        [Page::opening(&node).token(&token).open().await, Page::opening(&node).token(&token).open().await];
    assert_eq!(Page::opening(&node).token(&token).close_code().await, 4004);
    Page::opening(&node).token(&Token::of("bob").sign()).open().await;
}

#[tokio::test]
async fn logging_in_relabels_the_page_and_another_user_is_refused() {
    let node = Node::setup().users().start().await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "auth", "id": 1, "token": Token::of("ann").sign()})).await;
    let (mut identified, mut has_result) = (false, false);
    while !(identified && has_result) {
        let frame = page.next().await;
        match frame["type"].as_str() {
            Some("identity") => identified = frame["user"] == "ann",
            Some("result") => has_result = frame["id"] == 1,
            _ => panic!("{frame}"),
        }
    }
    let sent = node.api().send(json!({"user": "ann"}), json!("hello, ann")).await;
    assert_eq!(sent["reached"], 1);
    assert_eq!(page.message().await, "hello, ann");
    page.send(json!({"type": "auth", "id": 2, "token": Token::of("bob").sign()})).await;
    assert_eq!(page.closed().await.code, 4003);
}
