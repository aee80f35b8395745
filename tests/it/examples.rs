//! The programs in `examples`, run as their READMEs say.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::{FLASK_FOLDER, FlaskBackend, Node, Page, pagewire};

#[tokio::test]
async fn a_flask_application_runs_calls_and_jobs() {
    let flask = FlaskBackend::start().await;
    let file = std::fs::read_to_string(format!("{FLASK_FOLDER}/pagewire.toml")).expect("a configuration");
    let url = format!("http://{}/", flask.address());
    assert!(file.contains("http://127.0.0.1:5000/"), "{file}");
    let node = Node::setup().file(&file.replace("http://127.0.0.1:5000/", &url)).start().await;
    let body = json!({"method": "total", "params": ["tea", "cake"], "user": "ann"});
    let call = node.api().request(Method::POST, "/api/v1/calls").json(&body).send().await;
    let value: Value = call.expect("an answer").json().await.expect("JSON");
    assert_eq!(value, json!({"total": 7, "for": "ann"}));
    let mut page = Page::open(&node).await;
    let wine = json!({"type": "call", "method": "total", "params": ["wine"]});
    assert_eq!(page.error(wine).await, "unknown_article");
    page.send(json!({"type": "job", "id": "r", "kind": "report"})).await;
    page.expect("accepted").await;
    assert!(page.expect("progress").await["message"].as_str().is_some_and(|text| text.ends_with("of 3")));
    let end = loop {
        let frame = page.next().await;
        if frame["type"] == "result" {
            break frame;
        }
    };
    assert_eq!(end["value"], json!({"pages": 3, "attempt": 1}));
    let watched = pagewire(&node, &["job", "submit", "report", "--watch"]).await;
    assert_eq!(watched.code, 0, "{watched:?}");
    let unsigned = reqwest::Client::new().post(format!("{url}pagewire")).json(&body).send().await;
    assert_eq!(unsigned.expect("an answer").status(), StatusCode::FORBIDDEN);
}
