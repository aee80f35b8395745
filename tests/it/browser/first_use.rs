//! The first minutes of a new user: two tabs and a restarted server, the features of the start page, and an own page on
//! another address.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use pagewire_cluster::timing::Timing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::chromium::{Browser, SECOND_WINDOW};
use crate::environment::{Node, SOON, Token, eventually};

#[tokio::test]
async fn two_tabs_find_each_other_again_after_a_restart_of_the_server() {
    let mut node = Node::start().await;
    let browser = Browser::start("restart").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    let before = browser.ids().await;
    browser.click("open-page").await;
    browser.window(SECOND_WINDOW).await;
    browser.shows("peers", "…").await;
    node.terminate();
    node.exit(SOON).await;
    browser.shows("state", "waiting").await;
    node.restart().await;
    let mut tabs = Vec::new();
    for window in [0, SECOND_WINDOW] {
        browser.window(window).await;
        browser.shows("state", "open").await;
        tabs.push(browser.ids().await);
    }
    let [first, second] = &tabs[..] else { unreachable!("there are two windows") };
    assert_ne!(first[0], before[0], "the server knows nothing of what was");
    assert_eq!(first[..2], second[..2], "one connection, one session");
    for (window, peer) in [(0, second), (SECOND_WINDOW, first)] {
        browser.window(window).await;
        let chosen = async || (browser.value("push-id").await == peer[2]).then_some(());
        eventually("the living page is selected", SOON, chosen).await;
        browser.click("push-send").await;
        browser.shows("push-result", "reached 1 page").await;
    }
    browser.close().await;
}

#[tokio::test]
async fn a_page_that_has_gone_is_selected_no_more() {
    let node = Node::start().await;
    let browser = Browser::start("gone").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    browser.click("open-page").await;
    browser.window(SECOND_WINDOW).await;
    browser.shows("peers", "…").await;
    let [_, _, gone] = browser.ids().await;
    browser.window(0).await;
    eventually("it is selected", SOON, async || (browser.value("push-id").await == gone).then_some(())).await;
    let (_, ended) = node.api().delete(&format!("/api/v1/pages/{}", gone.replace('|', "%7C"))).await;
    assert_eq!(ended["closed"], 1, "{ended}");
    browser.click("push-send").await;
    browser.shows("push-result", "that page has gone").await;
    let [_, _, own] = browser.ids().await;
    assert_eq!(browser.value("push-id").await, own);
    browser.shows("peers", "Open a second page").await;
    browser.close().await;
}

#[tokio::test]
async fn the_start_page_offers_what_the_server_allows_and_says_what_is_missing() {
    let node = Node::setup().users().set("auth.cookie", "token").start().await;
    let browser = Browser::start("offers").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    browser.shows("form-missing", "connection (state.write does not list it)").await;
    assert_eq!(browser.offered("form-tree").await, ["session", "page"]);
    assert_eq!(browser.offered("push-level").await, ["page", "session", "connection"], "nobody is logged in");
    browser.shows("push-missing", "user (nobody is logged in: that takes a token)").await;
    browser.screenshot("offers").await;
    let token = Token::of("ann").sign();
    browser.cookie(&node.url(), "token", &token).await;
    browser.goto(&node.url()).await;
    browser.shows("user-id", "ann").await;
    eventually("the user may be addressed", SOON, async || {
        (browser.offered("push-level").await.len() == 4).then_some(())
    })
    .await;
    assert_eq!(browser.offered("form-tree").await, ["session", "page"]);
    browser.close().await;

    let closed = Node::setup().set("state.write", "page").set("send.allow", "connection").start().await;
    let browser = Browser::start("offers-less").await;
    browser.goto(&closed.url()).await;
    browser.shows("form-missing", "session (state.write does not list it)").await;
    browser.write("form-title", "mine").await;
    browser.shows("form-author", "written by this page").await;
    assert_eq!(browser.offered("form-tree").await, ["page"]);
    assert_eq!(browser.offered("push-level").await, ["page", "connection"]);
    browser.close().await;
}

/// A user's own page. Its title shows the result of connecting to the server that its address names.
const PAGE: &str = "<!doctype html><script type=module>\
    import { Pagewire } from '/pagewire.js';\
    const page = new Pagewire({ url: new URL(location.hash.slice(1)) });\
    page.connect().then(() => 'open', (error) => `${error.code}: ${error.message}`)\
        .then((said) => (document.querySelector('p').textContent = said));\
    </script><p data-testid=said></p>";

/// Serves that page and the client on a separate address.
async fn website() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(page(stream));
        }
    });
    address
}

async fn page(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let (kind, body) = match head.starts_with(b"GET /pagewire.js") {
        true => ("text/javascript", include_str!("../../../clients/js/dist/pagewire.js")),
        false => ("text/html", PAGE),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_is_told_so_and_the_log_names_it_and_the_key() {
    let website = website().await;
    let node = Node::start().await;
    let browser = Browser::start("foreign").await;
    let at = |node: &Node| format!("http://{website}/#ws://{}/_ws", node.address());
    let begin = Instant::now();
    browser.goto(&at(&node)).await;
    browser.shows("said", "origin: the server accepts no pages of").await;
    browser.shows("said", &format!("http://{website}: its configuration key websocket.origins")).await;
    let lines = |node: &Node| {
        let log = node.log();
        log.lines().filter(|line| line.contains("websocket.origins")).map(str::to_owned).collect::<Vec<_>>()
    };
    let line = eventually("the log has it", SOON, async || lines(&node).pop()).await;
    assert!(line.contains(&format!("http://{website}")), "{line}");
    for _ in 0..5 {
        browser.reload().await;
        browser.shows("said", "origin: ").await;
    }
    // a browser on a busy machine may take longer for this than the pause
    let pauses = begin.elapsed().as_secs() / Timing::TEST.log_pause.as_secs();
    assert!(lines(&node).len() as u64 <= 1 + pauses, "one line, however often");
    let listed = Node::setup().set("websocket.origins", format!("http://{website}")).start().await;
    browser.goto("about:blank").await;
    browser.goto(&at(&listed)).await;
    browser.shows("said", "open").await;
    browser.close().await;
}
