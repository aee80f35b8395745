//! The example `examples/orders-python` in a real Chromium.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::chromium::{Browser, SECOND_WINDOW};
use crate::environment::children::{send, status};
use crate::environment::python::PACKAGE;
use crate::environment::{Node, Process, SECRET, SOON, eventually, free_port};

fn example() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders-python"))
}

/// Starts the node of the example, whose pages come from a site at that port.
async fn node(port: u16) -> Node {
    let file = std::fs::read_to_string(example().join("pagewire.toml")).expect("the configuration");
    let place =
        format!("directory = {}\nenv = {{ PYTHONPATH = {} }}\ncommand =", json!(example()), json!(PACKAGE));
    let setup = Node::setup().file(&file.replace("command =", &place)).users();
    setup.set("websocket.origins", format!("http://127.0.0.1:{port}")).start().await
}

/// Starts the site of the example.
async fn site(port: u16, node: &Node, folder: &TempDir) -> Process {
    let mut command = Command::new("python3");
    command.arg(example().join("site.py")).arg(port.to_string());
    command.env("PAGEWIRE_URL", node.url()).env("PAGEWIRE_AUTH__HS256_SECRET", SECRET);
    let site = Process::start("the site", &mut command, folder.path().join("site.log"));
    eventually("the site listens", SOON, async || site.log().contains("http://").then_some(())).await;
    site
}

pub(super) async fn log_in(browser: &Browser) {
    browser.fill("login-name", "ada").await;
    browser.click("login").await;
    browser.shows("state", "connected").await;
}

#[tokio::test]
async fn two_pages_of_a_user_share_the_board_and_a_report_survives_its_child() {
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
    let node = node(port).await;
    let _site = site(port, &node, &folder).await;
    let url = format!("http://127.0.0.1:{port}");
    let browser = Browser::start("orders").await;
    browser.goto(&url).await;
    browser.screenshot("orders-login").await;
    log_in(&browser).await;
    browser.shows("user", "ada").await;
    browser.fill("item", "blue teapot").await;
    browser.click("add").await;
    browser.shows("new", "#1 · 1 × blue teapot").await;

    browser.open_window(&url).await;
    log_in(&browser).await;
    browser.shows("new", "#1 · 1 × blue teapot").await;
    browser.fill("item", "<b>cups</b> & saucers").await;
    browser.fill("count", "6").await;
    browser.click("add").await;
    browser.shows("new", "#2 · 6 × <b>cups</b> & saucers").await;
    browser.click("move-1").await;
    browser.shows("packed", "#1").await;
    browser.shows("notes", "Order 1 is packed").await;
    browser.fill("count", "5").await;
    browser.fill("item", " ").await;
    browser.click("add").await;
    browser.shows("error", "an order has an item").await;

    browser.window(0).await;
    browser.shows("packed", "#1 · 1 × blue teapot").await;
    browser.shows("new", "#2 · 6 × <b>cups</b> & saucers").await;
    browser.shows("notes", "Order 1 is packed").await;
    browser.click("report").await;
    browser.shows("report-state", "running").await;
    browser.screenshot("orders").await;
    let pid = eventually("a child runs it", SOON, async || {
        let pool = status(&node.api()).await;
        let children = pool["children"].as_array()?;
        children.iter().find(|child| child["running"] == 1).map(|child| child["pid"].clone())
    })
    .await;
    send(&pid, Signal::KILL);
    browser.shows("report-state", "finished at attempt 2: 2 orders, 0 sent").await;
    browser.shows("percent", "100 %").await;

    browser.click("report").await;
    browser.shows("report-state", "running").await;
    browser.click("cancel").await;
    browser.shows("report-state", "cancelled").await;
    browser.window(SECOND_WINDOW).await;
    browser.click("move-1").await;
    browser.shows("sent", "#1 · 1 × blue teapot").await;
    browser.screenshot("orders-second").await;
    browser.close().await;
}
