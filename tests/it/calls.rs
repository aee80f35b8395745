//! Calls of the built-in handlers.

use reqwest::Method;
use serde_json::json;

use crate::environment::{Node, Page};

#[tokio::test]
async fn a_call_gets_exactly_one_answer() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let params = json!({"nested": [1, {"a": null}], "text": "ü"});
    let echo = json!({"type": "call", "method": "echo", "params": params});
    assert_eq!(page.result(echo).await, params);
    assert_eq!(page.result(json!({"type": "call", "method": "sum", "params": [1, 2, 39]})).await, 42);
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_call_that_fails_says_why_by_its_code() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let call = |method: &str, params| json!({"type": "call", "method": method, "params": params});
    let failed = page.request(call("fail", json!("out of paper"))).await;
    assert_eq!((&failed["code"], &failed["message"]), (&json!("failed"), &json!("out of paper")));
    assert_eq!(failed["retryable"], true, "another try may succeed");
    assert_eq!(page.error(call("sum", json!("no numbers"))).await, "malformed");
    let refused = page.request(call("no-such-method", json!(null))).await;
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("no_executor"), &json!(true)));
}

#[tokio::test]
async fn a_call_ends_with_its_time_and_later_ones_go_on() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let sleep = json!({"type": "call", "method": "sleep", "params": {"ms": 60000}, "timeout_ms": 100});
    assert_eq!(page.error(sleep).await, "timeout");
    assert_eq!(page.result(json!({"type": "call", "method": "echo", "params": 1})).await, 1);
}

#[tokio::test]
async fn the_api_calls_the_same_handlers() {
    let node = Node::start().await;
    let api = node.api();
    let call = async |method: &str, params| {
        let body = json!({"method": method, "params": params});
        let response =
            api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
        (response.status().as_u16(), response.json::<serde_json::Value>().await.expect("JSON"))
    };
    assert_eq!(call("sum", json!([40, 2])).await, (200, json!(42)));
    let (status, body) = call("fail", json!("on purpose")).await;
    assert!((400..600).contains(&status), "{status}");
    assert_eq!(body["error"]["code"], "failed", "{body}");
    assert_eq!(body["error"]["message"], "on purpose");
    assert_eq!(call("no-such-method", json!(null)).await.1["error"]["code"], "no_executor");
}
