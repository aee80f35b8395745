//! The example `examples/orders-rust` in a real Chromium, and as a worker of a cluster.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::chromium::{Browser, SECOND_WINDOW};
use super::orders::log_in;
use crate::environment::children::{begun, ended, submit};
use crate::environment::{Api, Nats, Node, Process, SECRET, SOON, Token, eventually, free_port};

/// Builds the example and returns its path. Cargo builds examples by itself only for a run of all tests.
fn program() -> String {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--workspace", "--example", "orders-rust"]);
    // with the variables of this test, crates with a build script would be built again, and all that need them
    let of_this_test = |name: &String| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_");
    for name in std::env::vars().map(|(name, _)| name).filter(of_this_test) {
        build.env_remove(name);
    }
    assert!(build.status().expect("cargo").success());
    let tests = std::env::current_exe().expect("a path");
    let target = tests.parent().and_then(|deps| deps.parent()).expect("the folder of the profile");
    target.join("examples/orders-rust").to_string_lossy().into_owned()
}

fn start(program: &str, arguments: &[&str], secret: Option<&str>, folder: &TempDir) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder.path()).env("PAGEWIRE_TIMING", "short");
    command.envs(secret.map(|secret| ("PAGEWIRE_AUTH__HS256_SECRET", secret)));
    Process::start("orders-rust", &mut command, folder.path().join("program.log"))
}

async fn ready(url: &str) -> Api {
    let api = Api::of(url.to_owned());
    eventually("the program serves", SOON, async || {
        let probe = api.request(Method::GET, "/readyz").send().await;
        probe.is_ok_and(|response| response.status().is_success()).then_some(())
    })
    .await;
    api
}

/// Waits until the program serves, and returns its API with a key of an operator.
async fn operated(url: &str) -> Api {
    ready(url).await.with_key(&Token::of("operator").with_role("admin").sign())
}

#[tokio::test]
async fn a_board_in_rust_is_one_program_and_its_report_survives_a_kill() {
    let (program, folder) = (program(), tempfile::tempdir().expect("a folder"));
    let listen = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{listen}");
    let arguments = ["serve", "--listen", &listen, "--data-dir", "data"];
    let mut node = start(&program, &arguments, Some(SECRET), &folder);
    ready(&url).await;
    let browser = Browser::start("orders-rust").await;
    browser.goto(&url).await;
    log_in(&browser).await;
    browser.fill("item", "blue teapot").await;
    browser.click("add").await;
    browser.shows("new", "#1 · 1 × blue teapot").await;
    browser.open_window(&url).await;
    log_in(&browser).await;
    browser.fill("count", "5").await;
    browser.fill("item", " ").await;
    browser.click("add").await;
    browser.shows("error", "an order has an item").await;
    browser.click("move-1").await;
    browser.shows("packed", "#1").await;
    browser.window(0).await;
    browser.shows("packed", "#1 · 1 × blue teapot").await;
    browser.shows("notes", "Order 1 is packed").await;
    browser.click("report").await;
    browser.shows("report-state", "running").await;
    browser.screenshot("orders-rust").await;
    browser.click("cancel").await;
    browser.shows("report-state", "cancelled").await;

    let api = operated(&url).await;
    let body = json!({"kind": "report", "data": {"seconds": 2}, "user": "ada"});
    let job = submit(&api, body).await;
    begun(&api, &job).await;
    node.kill();
    let _node = start(&program, &arguments, Some(SECRET), &folder);
    let api = operated(&url).await;
    let record = ended(&api, &job).await;
    assert_eq!(record["state"], "succeeded", "{record}");
    let counts = json!({"orders": 1, "attempt": 2, "new": 0, "packed": 1, "sent": 0});
    assert_eq!(record["result"], counts, "{record}");
    browser.shows("packed", "#1 · 1 × blue teapot").await;
    browser.window(SECOND_WINDOW).await;
    browser.click("move-1").await;
    browser.shows("sent", "#1 · 1 × blue teapot").await;
    browser.close().await;
}

#[tokio::test]
async fn the_same_program_is_a_worker_of_nodes_without_handlers_and_a_set_up_for_developers() {
    let (program, nats) = (program(), Nats::start().await);
    let node = Node::setup().set("welcome", false).nats(&nats).start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let _worker = start(&program, &["worker", "--nats", &nats.url()], None, &folder);
    let orders = async |api: &Api| {
        eventually("the worker serves", SOON, async || {
            let body = json!({"method": "list_orders", "user": "ann"});
            let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
        let order = json!({"order": {"item": "tea"}});
        let body = json!({"method": "add_order", "params": order, "user": "ann"});
        let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await;
        response.expect("an answer").json::<Value>().await.expect("JSON")
    };
    let added = json!({"number": 1, "item": "tea", "count": 1, "status": "new"});
    assert_eq!(orders(&node.api()).await, added);
    let folder = tempfile::tempdir().expect("a folder");
    let listen = format!("127.0.0.1:{}", free_port());
    let dev = start(&program, &["dev", "--nodes", "2", "--listen", &listen], None, &folder);
    let shown = "handlers: add_order, list_orders, move_order, report";
    eventually("it shows its handlers", SOON, async || dev.log().contains(shown).then_some(())).await;
    assert_eq!(orders(&ready(&format!("http://{listen}")).await).await, added);
    let reload = Command::new(&program).args(["dev", "--reload"]).output().expect("a process");
    assert_eq!(reload.status.code(), Some(2), "{reload:?}");
}
