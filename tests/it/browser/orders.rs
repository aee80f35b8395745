//! The examples `examples/orders-python` and `examples/orders-node` in a real Chromium.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::chromium::{Browser, SECOND_WINDOW};
use crate::environment::children::{send, status};
use crate::environment::python::PACKAGE;
use crate::environment::{Node, Process, SECRET, SOON, eventually, free_port};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
const JAVASCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/js");

/// One of the two examples, which have the same page.
struct Example {
    folder: PathBuf,
    /// The line of the configuration for what its handlers need.
    pool: String,
    site: [&'static str; 2],
    _copy: Option<TempDir>,
}

impl Example {
    fn in_python() -> Self {
        let pool = format!("env = {{ PYTHONPATH = {} }}", json!(PACKAGE));
        let folder = PathBuf::from(EXAMPLES).join("orders-python");
        Self { folder, pool, site: ["python3", "site.py"], _copy: None }
    }

    /// A copy of the example, with the package where `npm install` would put it.
    fn in_node() -> Self {
        let copy = tempfile::tempdir().expect("a folder");
        let folder = copy.path().to_owned();
        for entry in std::fs::read_dir(PathBuf::from(EXAMPLES).join("orders-node")).expect("the example") {
            let file = entry.expect("a file").path();
            if file.is_file() {
                std::fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("a copy");
            }
        }
        std::fs::create_dir(folder.join("node_modules")).expect("a folder");
        std::os::unix::fs::symlink(JAVASCRIPT, folder.join("node_modules/pagewire")).expect("a link");
        Self { folder, pool: String::new(), site: ["node", "site.js"], _copy: Some(copy) }
    }

    /// Starts the node of the example, whose pages come from a site at that port.
    async fn node(&self, port: u16) -> Node {
        let file = std::fs::read_to_string(self.folder.join("pagewire.toml")).expect("the configuration");
        let place = format!("directory = {}\n{}\ncommand =", json!(self.folder), self.pool);
        let setup = Node::setup().file(&file.replace("command =", &place)).users();
        setup.set("websocket.origins", format!("http://127.0.0.1:{port}")).start().await
    }

    /// Starts the site of the example.
    async fn site(&self, port: u16, node: &Node, folder: &TempDir) -> Process {
        let [program, script] = self.site;
        let mut command = Command::new(program);
        command.arg(self.folder.join(script)).arg(port.to_string());
        command.env("PAGEWIRE_URL", node.url()).env("PAGEWIRE_AUTH__HS256_SECRET", SECRET);
        let site = Process::start("the site", &mut command, folder.path().join("site.log"));
        eventually("the site listens", SOON, async || site.log().contains("http://").then_some(())).await;
        site
    }
}

pub(super) async fn log_in(browser: &Browser) {
    browser.fill("login-name", "ada").await;
    browser.click("login").await;
    browser.shows("state", "connected").await;
}

#[tokio::test]
async fn two_pages_of_a_user_share_the_board_and_a_report_survives_its_child() {
    share_the_board(&Example::in_python(), "orders").await;
}

#[tokio::test]
async fn two_pages_share_the_board_of_handlers_in_node_and_a_report_survives_its_child() {
    share_the_board(&Example::in_node(), "orders-node").await;
}

#[test]
fn the_examples_have_the_same_page() {
    for file in ["board.html", "board.js", "board.css"] {
        let [python, node] = ["orders-python", "orders-node"]
            .map(|example| std::fs::read_to_string(format!("{EXAMPLES}/{example}/{file}")).expect("a file"));
        assert_eq!(python, node, "{file}");
    }
}

async fn share_the_board(example: &Example, name: &str) {
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
    let node = example.node(port).await;
    let _site = example.site(port, &node, &folder).await;
    let url = format!("http://127.0.0.1:{port}");
    let browser = Browser::start(name).await;
    browser.goto(&url).await;
    browser.screenshot(&format!("{name}-login")).await;
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
    browser.screenshot(name).await;
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
    browser.screenshot(&format!("{name}-second")).await;
    browser.close().await;
}
