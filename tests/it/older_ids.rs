//! Ids of an older deployment that clients name in `hello`.

use futures_util::join;
use serde_json::json;

use crate::environment::{Nats, Node, Page, Refusal, SOON, Token, eventually};

const PAGE: &str = "0000000000000000000abc";
const CONNECTION: &str = "Abcdefghij_klmnopqrst1";
const SESSION: &str = "00000000-0000-0000-0000-00000000003e";

async fn node(nats: &Nats) -> Node {
    Node::setup().nats(nats).users().set("compat.adopt_ids", true).start().await
}

fn key(id: &str) -> &str {
    id.split_once('|').expect("an address").0
}

#[tokio::test]
async fn new_pages_sessions_and_connections_get_the_ids_that_their_client_names() {
    let nats = Nats::start().await;
    let node = node(&nats).await;
    let opening = || {
        let opening = Page::opening(&node).with("connection_id", CONNECTION).with("session_id", SESSION);
        opening.with("page_id", PAGE)
    };
    let page = opening().open().await;
    assert_eq!(page.id(), format!("{PAGE}|{}", node.number().await));
    assert_eq!(key(page.session()), "0000000000000000000010", "a UUID becomes its bits in base62");
    assert_eq!(key(page.connection()).len(), 22);
    // its client comes back with the token and the same ids
    let (token, connection) = (page.token().to_owned(), page.connection().to_owned());
    let resume = json!({"token": token, "seq": 0});
    let back = opening().with("resume", resume.clone()).open().await;
    assert_eq!((back.id(), back.connection()), (page.id(), connection.as_str()));
    let beside = Page::opening(&node).with("connection_id", CONNECTION).with("resume", resume).open().await;
    assert_eq!(beside.connection(), connection, "the token joins the connection by its older id");
}

#[tokio::test]
async fn new_pages_with_older_ids_count_as_new_ones_of_their_address_and_those_that_return_do_not() {
    let setup = Node::setup().users().set("compat.adopt_ids", true);
    let node = setup.set("limits.anonymous_pages_per_ip_per_minute", 2).start().await;
    let opening =
        |number: u32| Page::opening(&node).with("page_id", format!("00000000000000000000{number:02}"));
    let (page, _other) = (opening(10).open().await, opening(11).open().await);
    let resume = json!({"token": page.token(), "seq": 0});
    assert_eq!(opening(12).close_code().await, 4506);
    assert_eq!(
        opening(12).with("resume", resume.clone()).close_code().await,
        4506,
        "the token of another page"
    );
    assert_eq!(opening(10).with("resume", resume).open().await.id(), page.id());
}

#[tokio::test]
async fn what_exists_at_any_node_is_joined_with_its_token_or_its_user_only() {
    let nats = Nats::start().await;
    let (one, two) = join!(node(&nats), node(&nats));
    let (ann, bob) = (Token::of("ann").sign(), Token::of("bob").sign());
    let page =
        Page::opening(&one).token(&ann).with("connection_id", CONNECTION).with("page_id", PAGE).open().await;
    let taken = Page::opening(&two).with("page_id", PAGE).close_code().await;
    assert_eq!(taken, 4003);
    let stranger = Page::opening(&two).with("connection_id", CONNECTION).try_open().await;
    assert!(stranger.map_or(true, |stranger| stranger.connection() != page.connection()));
    let other = Page::opening(&two).token(&bob).with("connection_id", CONNECTION).try_open().await;
    assert!(other.map_or(true, |other| other.connection() != page.connection()));
    eventually("the user joins the connection at another node", SOON, async || {
        let again = Page::opening(&two).token(&ann).with("connection_id", CONNECTION).open().await;
        (again.connection() == page.connection()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_pages_that_name_the_same_new_connection_at_once_one_gets_it() {
    let nats = Nats::start().await;
    let (one, two) = join!(node(&nats), node(&nats));
    let named =
        |node| Page::opening(node).with("connection_id", CONNECTION).with("session_id", SESSION).open();
    let (a, b) = join!(named(&one), named(&two));
    assert_ne!(key(a.connection()), key(b.connection()));
    assert_ne!(key(a.session()), key(b.session()));
}

#[tokio::test]
async fn without_the_key_such_an_id_is_malformed() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    for member in ["page_id", "session_id", "connection_id"] {
        let Refusal::Closed(closed) = Page::opening(&node).with(member, PAGE).refusal().await else {
            panic!("the socket was opened and then closed");
        };
        assert_eq!(closed.code, 4000);
        assert!(closed.reason.to_string().contains("compat.adopt_ids"), "{closed:?}");
    }
}
