//! The handlers of an application on the welcome page.

use reqwest::StatusCode;
use serde_json::json;

use super::chromium::Browser;
use crate::environment::children::{first_call, pool};
use crate::environment::{Dev, Node};

#[tokio::test]
async fn the_welcome_page_calls_the_handlers_of_an_application_and_shows_why_a_program_does_not_start() {
    let works = pool(&["--only", "who", "echo", "fail", "sleep"], "free = 1\nassigned = 1");
    let broken = pool(&["--exit-at-start"], "free = 1\nassigned = 0").replace("\"default\"", "\"reports\"");
    let node = Node::setup().file(&works).file(&broken).launch();
    let answer = first_call(&node.api(), "echo", json!(1)).await;
    assert_eq!(answer, (StatusCode::OK, json!(1)));
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

#[tokio::test]
async fn the_welcome_page_follows_the_changes_of_an_application_on_several_nodes() {
    let application = |name: &str| {
        let head = "from pagewire import App, Context\n\napp = App()\n\n\n@app.handler\n";
        format!("{head}def {name}(ctx: Context, name: str) -> str:\n    return f'{name} {{name}}'\n")
    };
    let dev = Dev::setup();
    dev.write("app.py", &application("greet"));
    let mut dev = dev.launch(&["app:app", "--nodes", "2", "--reload"]);
    dev.shows("handlers: greet").await;
    let browser = Browser::start("dev").await;
    browser.goto(&format!("http://{}", dev.address())).await;
    browser.shows("state", "open").await;
    browser.shows("own-list", "greet").await;
    browser.fill("own-params", r#"{"name": "Ann"}"#).await;
    browser.click("own-call").await;
    browser.shows("own-result", "greet Ann").await;
    dev.write("app.py", "def main(:\n");
    browser
        .shows("own-problems", "is the one before the last change, because the new one does not start")
        .await;
    browser.shows("own-problems", "SyntaxError").await;
    browser.click("own-call").await;
    browser.shows("own-result", "greet Ann").await;
    browser.screenshot("handlers-outdated").await;
    dev.write("app.py", &application("welcome"));
    browser.shows("own-list", "welcome").await;
    browser.click("handler-welcome").await;
    browser.click("own-call").await;
    browser.shows("own-result", "welcome Ann").await;
    browser.close().await;
    assert!(dev.interrupt().await.success());
    dev.is_gone().await;
}
