//! Sockets of the pages of a site that has its register here: on two nodes, with an application that uses the register as a
//! Genropy site does.

use futures_util::join;
use pagewire_cluster::timing::Timing;
use reqwest::Method;

use crate::environment::mounts::{get, served};
use crate::environment::site_socket::{CONNECTION, COOKIE, SiteSocket};
use crate::environment::{Nats, Node, SOON, eventually};
use crate::mount_processes::{SITES, mount, setup};

const PAGE: &str = "page1_bcdefghijklmnopq";
/// The answer of a site to a poll that finds nothing.
const NOTHING: &str =
    "<?xml version='1.0' encoding='UTF-8'?>\n<GenRoBag><result _T=\"NN\"></result></GenRoBag>";

async fn node(nats: &Nats) -> Node {
    let keys = "register = \"genropy\"\nserver = \"gunicorn\"\nprocesses = 1";
    let node = setup(&mount("/", "wsgi = \"pushing\"", SITES, keys)).nats(nats).start().await;
    served(&node, "/").await;
    node
}

async fn asked(node: &Node, path: &str) -> String {
    let (status, body) = get(node, path).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn open_page(node: &Node) {
    assert_eq!(asked(node, &format!("/opened?page={PAGE}&connection={CONNECTION}")).await, "opened");
}

async fn push(node: &Node, text: &str) {
    assert_eq!(asked(node, &format!("/pushed?page={PAGE}&text={text}")).await, "1", "one page is told");
}

/// Returns what a poll of the page finds.
async fn poll(node: &Node) -> String {
    let path = format!("/_ping?page_id={PAGE}");
    let response = node.api().request(Method::GET, &path).header("cookie", COOKIE).send().await;
    let response = response.expect("an answer");
    assert_eq!(response.status(), 200);
    response.text().await.expect("a body")
}

/// Returns how many polls of the page the process of a node has answered.
async fn polled(node: &Node) -> u32 {
    asked(node, &format!("/polled?page={PAGE}")).await.parse().expect("a number")
}

#[tokio::test]
async fn a_push_at_any_node_reaches_the_socket_of_its_page_once_and_what_waited_comes_with_it() {
    let nats = Nats::start().await;
    let (one, other) = join!(node(&nats), node(&nats));
    open_page(&one).await;
    push(&other, "early").await;
    let mut socket = SiteSocket::of_page(&one, PAGE, COOKIE).await;
    assert_eq!(socket.next().await.as_deref(), Ok("socket: early"));
    for (at, text) in [(&other, "a"), (&one, "b"), (&other, "c")] {
        push(at, text).await;
        assert_eq!(socket.next().await.as_deref(), Ok(format!("socket: {text}").as_str()));
    }
    assert_eq!(poll(&other).await, NOTHING, "what the socket has is not polled");
    socket.has_nothing_to_read().await;
    socket.close().await;
    push(&one, "away").await;
    assert_eq!(poll(&other).await, "poll: away");
}

#[tokio::test]
async fn what_is_pushed_while_a_page_is_silent_is_kept_until_it_answers() {
    let nats = Nats::start().await;
    let node = node(&nats).await;
    open_page(&node).await;
    let mut socket = SiteSocket::of_page(&node, PAGE, COOKIE).await;
    socket.has_nothing_to_read().await;
    // longer than a client that is seen is silent; it reads nothing meanwhile, so it answers no ping
    tokio::time::sleep(Timing::TEST.site_present).await;
    push(&node, "kept").await;
    assert_eq!(poll(&node).await, "poll: kept", "nobody has taken it for the socket");
    push(&node, "sent").await;
    assert_eq!(socket.next().await.as_deref(), Ok("socket: sent"));
}

#[tokio::test]
async fn polls_that_find_nothing_are_answered_by_the_node_until_something_is_pushed_at_any_node() {
    let nats = Nats::start().await;
    let (one, other) = join!(node(&nats), node(&nats));
    open_page(&one).await;
    for text in ["a", "b"] {
        let before = polled(&one).await;
        for _ in 0..5 {
            assert_eq!(poll(&one).await, NOTHING);
        }
        assert!(polled(&one).await < before + 5, "not all polls reach the site");
        push(&other, text).await;
        let next = async || Some(poll(&one).await).filter(|found| found != NOTHING);
        assert_eq!(eventually("the push is found", SOON, next).await, format!("poll: {text}"));
    }
    let seen = polled(&one).await;
    eventually("the site sees the page now and then", SOON, async || {
        poll(&one).await;
        (polled(&one).await > seen + 1).then_some(())
    })
    .await;
    let quiet = one.api().metric("pagewire_mount_quiet_polls_total{mount=\"/\"}").await;
    assert!(quiet >= 2.0, "{quiet}");
}

#[tokio::test]
async fn a_page_has_one_socket_and_only_its_own_browser_may_open_it() {
    let nats = Nats::start().await;
    let node = node(&nats).await;
    open_page(&node).await;
    assert_eq!(SiteSocket::open(&node, ("origin", "http://elsewhere.example")).await.err(), Some(403));
    let mut stranger = SiteSocket::of_page(&node, PAGE, "shop=c2ln?connection_id=+hZB").await;
    let mut first = SiteSocket::of_page(&node, PAGE, COOKIE).await;
    first.has_nothing_to_read().await;
    let mut second = SiteSocket::of_page(&node, PAGE, COOKIE).await;
    assert_eq!(first.next().await, Err(4006), "the newer socket has the page");
    push(&node, "own").await;
    assert_eq!(second.next().await.as_deref(), Ok("socket: own"));
    stranger.has_nothing_to_read().await;
    stranger.send(r#"{"command":"call","result_token":"wstk_1","method":"x"}"#).await;
    assert!(stranger.next().await.expect("an answer").contains("<token>wstk_1</token>"));
}

#[tokio::test]
async fn a_socket_that_names_no_page_is_closed() {
    let nats = Nats::start().await;
    let node = node(&nats).await;
    let mut socket = SiteSocket::open(&node, ("cookie", COOKIE)).await.expect("a socket");
    assert_eq!(socket.next().await, Err(4503));
    let page = SiteSocket::of_page(&node, PAGE, COOKIE);
    let mut unknown = page.await;
    unknown.has_nothing_to_read().await;
    open_page(&node).await;
    push(&node, "late").await;
    eventually("the page is found with a later ping", SOON, async || {
        unknown.send(r#"{"command":"ping"}"#).await;
        unknown.next().await.is_ok_and(|text| text == "socket: late").then_some(())
    })
    .await;
}
