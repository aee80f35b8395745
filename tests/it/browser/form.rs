//! The shared form: every page shows the fields that any page writes.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::chromium::{Browser, SECOND_WINDOW};
use super::proxy::Proxy;
use crate::environment::{Nats, Node, SOON, Token, eventually};

const FORM: &str = "/api/v1/users/ann/data/start.form";

const FIELDS: [&str; 3] = ["form-title", "form-status", "form-note"];

async fn fields(browser: &Browser) -> Vec<String> {
    let mut values = Vec::new();
    for name in FIELDS {
        values.push(browser.value(name).await);
    }
    values
}

/// Waits until this browser shows the values in the tree, and returns them.
async fn shows_the_tree(browser: &Browser, node: &Node) -> Vec<String> {
    let api = node.api();
    eventually("the form shows what is in the tree", SOON, async || {
        let form = api.get_json(FORM).await;
        let stands = ["title", "status", "note"].map(|key| form[key].as_str().unwrap_or_default().to_owned());
        (fields(browser).await == stands).then(|| stands.to_vec())
    })
    .await
}

/// Writes a field through the server API.
async fn put(node: &Node, field: &str, value: &str) {
    let request = node.api().request(Method::PUT, &format!("{FORM}.{field}")).json(&json!(value));
    let status = request.send().await.expect("an answer").status();
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn two_pages_of_a_session_write_one_form() {
    let node = Node::start().await;
    let browser = Browser::start("form").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    browser.shows("form-revision", "nothing written yet").await;
    browser.write("form-title", "Ship it").await;
    browser.shows("form-author", "written by this page").await;
    browser.click("open-page").await;
    browser.window(SECOND_WINDOW).await;
    browser.shows("form-revision", "revision").await;
    assert_eq!(fields(&browser).await, ["Ship it", "", ""], "what stood there before this page");
    browser.write("form-note", "on Thursday").await;
    browser.choose("form-status", "waiting").await;
    browser.shows("form-author", "written by this page").await;
    let [_, _, page] = browser.ids().await;
    browser.window(0).await;
    browser.shows("form-author", &format!("written by {}", &page[..6])).await;
    eventually("the first page shows it too", SOON, async || {
        (fields(&browser).await == ["Ship it", "waiting", "on Thursday"]).then_some(())
    })
    .await;
    browser.screenshot("form").await;
    browser.reload().await;
    browser.shows("recovered", "recovered").await;
    browser.shows("form-revision", "revision").await;
    assert_eq!(fields(&browser).await, ["Ship it", "waiting", "on Thursday"], "also after a reload");
    browser.choose("form-tree", "page").await;
    browser.shows("form-revision", "nothing written yet").await;
    assert_eq!(fields(&browser).await, ["", "", ""], "the page's own tree");
    browser.choose("form-tree", "session").await;
    browser.shows("form-revision", "revision").await;
    assert_eq!(fields(&browser).await, ["Ship it", "waiting", "on Thursday"]);
    browser.close().await;
}

#[tokio::test]
async fn two_browsers_of_a_user_on_two_nodes_write_one_form_and_agree() {
    let nats = Nats::start().await;
    let member = || Node::setup().nats(&nats).users().set("auth.cookie", "token").set("state.write", "user");
    let (mut first, second) = (member().start().await, member().start().await);
    let proxy = Proxy::start([first.address(), second.address()]).await;
    let token = Token::of("ann").sign();
    let (one, other) = tokio::join!(Browser::start("one"), Browser::start("other"));
    for (browser, url) in [(&one, proxy.url()), (&other, second.url())] {
        browser.cookie(&url, "token", &token).await;
        browser.goto(&url).await;
        browser.shows("user-id", "ann").await;
        browser.choose("form-tree", "user").await;
        browser.shows("form-revision", "nothing written yet").await;
    }
    assert_ne!(one.text("node").await, other.text("node").await);

    let statuses = async {
        for n in 0..30 {
            put(&second, "status", ["open", "waiting", "done"][n % 3]).await;
        }
    };
    let (title, note) = ("A title, letter by letter", "and a note from the other node");
    tokio::join!(one.write("form-title", title), other.write("form-note", note), statuses);
    for browser in [&one, &other] {
        assert_eq!(shows_the_tree(browser, &second).await, [title, "done", note], "nothing is lost");
    }

    let titles = async {
        for n in 0..30 {
            put(&second, "title", &n.to_string()).await;
        }
    };
    tokio::join!(one.write("form-title", " one"), other.write("form-title", " other"), titles);
    let agreed = shows_the_tree(&one, &second).await;
    assert_eq!(shows_the_tree(&other, &second).await, agreed);
    put(&second, "status", "open").await;
    for browser in [&one, &other] {
        assert_eq!(shows_the_tree(browser, &second).await, [agreed[0].as_str(), "open", note]);
        browser.shows("form-author", "written by a program").await;
    }

    first.kill();
    one.shows("recovered", "reset").await;
    other.write("form-note", ", still").await;
    assert_eq!(shows_the_tree(&one, &second).await[2], format!("{note}, still"));
    one.write("form-note", " here").await;
    assert_eq!(shows_the_tree(&other, &second).await[2], format!("{note}, still here"));
    one.close().await;
    other.close().await;
}
