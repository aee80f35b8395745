//! The handlers of an application on the welcome page.

use super::chromium::Browser;
use crate::environment::Node;
use crate::environment::children::pool;

#[tokio::test]
async fn the_welcome_page_calls_the_handlers_of_an_application_and_shows_why_a_program_does_not_start() {
    let works = pool(&["--only", "who", "echo", "fail", "sleep"], "free = 1\nassigned = 1");
    let broken = pool(&["--exit-at-start"], "free = 1\nassigned = 0").replace("\"default\"", "\"reports\"");
    let node = Node::setup().file(&works).file(&broken).start().await;
    let browser = Browser::start("handlers").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    browser.shows("own-list", "echo").await;
    assert!(
        !browser.text("own-list").await.contains("sum"),
        "that of the welcome page is none of the application"
    );
    browser.shows("own-problems", "pool reports does not start").await;
    browser.shows("own-problems", "Traceback: the application does not import").await;
    browser.click("handler-echo").await;
    browser.fill("own-params", r#"{"hello": "own code"}"#).await;
    browser.click("own-call").await;
    browser.shows("own-result", r#"{"hello":"own code"}"#).await;
    browser.screenshot("handlers").await;
    browser.click("handler-fail").await;
    browser.click("own-call").await;
    browser.shows("own-result", "broken: it is broken").await;
    browser.fill("own-params", "{").await;
    browser.click("own-call").await;
    browser.shows("own-result", "not JSON").await;
    browser.click("handler-sleep").await;
    browser.fill("own-params", r#"{"ms": 1000}"#).await;
    browser.click("own-job").await;
    browser.shows("own-result", "submitted").await;
    browser.shows("job-state", "succeeded").await;
    browser.screenshot("handlers-job").await;
    browser.close().await;
}

#[tokio::test]
async fn the_welcome_page_has_no_list_of_handlers_without_an_application() {
    let node = Node::start().await;
    let browser = Browser::start("no-handlers").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    browser.click("call-send").await;
    browser.shows("call-result", "6").await;
    assert_eq!(browser.text("own").await, "");
    browser.close().await;
}
