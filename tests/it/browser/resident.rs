//! A resident page in a real Chromium: its object, the process that has it, and what the page shows of both.

use rustix::process::Signal;
use serde_json::json;

use super::chromium::Browser;
use crate::environment::Node;
use crate::environment::children::send;
use crate::environment::python::{PATH, python_program};

const SITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sites/counter");

/// Returns a node with the site and a pool whose children have the class `Counter`.
async fn node() -> Node {
    let (command, path, site) = (json!(python_program("counters:app")), json!(PATH), json!(SITE));
    let file = format!(
        "welcome = false\n[[mount]]\nstatic = {site}\nfallback = \"index.html\"\n\
         [[pool]]\nname = \"counters\"\ncommand = {command}\nenv = {{ PYTHONPATH = {path} }}\nfree = 0\nassigned = 1\n"
    );
    Node::setup().file(&file).start().await
}

#[tokio::test]
async fn a_page_in_a_browser_raises_its_object_and_shows_that_it_was_made_again_after_its_process_was_killed()
{
    let node = node().await;
    let browser = Browser::start("resident").await;
    browser.goto(&node.url()).await;
    browser.shows("news", "Counter: open").await;
    browser.shows("n", "0").await;
    browser.click("raise").await;
    browser.shows("n", "2").await;
    browser.click("keep").await;
    browser.shows("kept", "kept 2").await;
    browser.click("raise").await;
    browser.shows("n", "4").await;

    browser.reload().await;
    browser.shows("n", "4").await;
    assert_eq!(browser.text("news").await, "", "the page has the same object after a reload");
    browser.click("raise").await;
    browser.shows("n", "6").await;

    let process = browser.text("pid").await;
    send(&json!(process.parse::<u32>().expect("a process")), Signal::KILL);
    browser.shows("news", "Counter: rebuilt (lost)").await;
    browser.shows("n", "2").await;
    assert_ne!(browser.text("pid").await, process);
    assert_eq!(browser.text("state").await, "open", "only its object was away");
    browser.screenshot("resident").await;
    browser.click("raise").await;
    browser.shows("n", "4").await;
    browser.close().await;
}
