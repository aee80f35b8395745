//! Calls over HTTP: `POST /_call/{method}`.

use reqwest::header::{CONTENT_TYPE, COOKIE, ORIGIN, RETRY_AFTER};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::environment::{Node, Token};

/// Sends a request and returns the status and the body.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    assert!(response.headers().contains_key("x-request-id"));
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

fn post(node: &Node, path: &str) -> RequestBuilder {
    node.api().request(Method::POST, path)
}

async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, body) = answer(request).await;
    let error = &body["error"];
    assert!(error["message"].is_string() && error["retryable"].is_boolean(), "{body}");
    assert!(error["request_id"].is_string(), "{body}");
    (status, error["code"].as_str().expect("a code").to_owned())
}

#[tokio::test]
async fn a_call_over_http_has_the_result_or_the_error_of_its_handler() {
    let node = Node::start().await;
    let params = json!({"nested": [1, {"a": null}], "text": "ü"});
    assert_eq!(answer(post(&node, "/_call/echo").json(&params)).await, (200, params));
    assert_eq!(
        answer(post(&node, "/_call/sum?exec_mode=inline&timeout_ms=5000").json(&[40, 2])).await,
        (200, json!(42))
    );
    assert_eq!(answer(post(&node, "/_call/echo")).await, (200, Value::Null), "an empty body is null");
    let (status, body) = answer(post(&node, "/_call/fail").json("out of paper")).await;
    assert_eq!(
        (&body["error"]["code"], &body["error"]["message"]),
        (&json!("failed"), &json!("out of paper"))
    );
    assert!((400..600).contains(&status), "{status}");
    assert_eq!(refused(post(&node, "/_call/sum").json("x")).await.1, "malformed");
    assert_eq!(refused(post(&node, "/_call/ecko").json(&1)).await, (503, "no_executor".to_owned()));
    let slow = post(&node, "/_call/sleep?timeout_ms=50").json(&json!({"ms": 60_000}));
    assert_eq!(refused(slow).await.1, "timeout");
}

#[tokio::test]
async fn a_call_over_http_has_the_identity_of_its_token_or_of_a_checked_cookie() {
    let node = Node::setup().users().set("auth.cookie", "sid").start().await;
    let (ann, own) = (Token::of("ann").sign(), node.url());
    let remember = |user: Option<&str>| {
        let call =
            post(&node, "/_call/remember?exec_mode=assigned").json(&json!({"path": "seen", "value": 1}));
        match user {
            Some(token) => call.bearer_auth(token),
            None => call,
        }
    };
    assert_eq!(answer(remember(Some(&ann))).await.0, 200, "the user has a worker");
    assert_eq!(
        refused(remember(None)).await,
        (400, "malformed".to_owned()),
        "a caller without user and page"
    );
    let with_cookie = |origin: Option<&str>| {
        let call = remember(None).header(COOKIE, format!("sid={ann}"));
        match origin {
            Some(origin) => call.header(ORIGIN, origin),
            None => call,
        }
    };
    assert_eq!(answer(with_cookie(Some(&own))).await.0, 200);
    for foreign in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
        assert_eq!(refused(with_cookie(Some(foreign))).await, (403, "forbidden".to_owned()), "{foreign}");
    }
    assert_eq!(
        refused(with_cookie(None)).await.1,
        "malformed",
        "without an origin the cookie counts for nothing"
    );
    let simple = post(&node, "/_call/echo").header(ORIGIN, "https://evil.example").body("1");
    assert_eq!(refused(simple).await.0, 403, "an anonymous call of another page, too");
    for token in [Token::of("ann").expired().sign(), "no token".to_owned()] {
        assert_eq!(refused(remember(Some(&token))).await, (401, "unauthenticated".to_owned()));
    }
    let closed = Node::setup().users().set("auth.anonymous", false).start().await;
    assert_eq!(refused(post(&closed, "/_call/echo").json(&1)).await.0, 401);
    assert_eq!(answer(post(&closed, "/_call/echo").json(&1).bearer_auth(&ann)).await.0, 200);
}

#[tokio::test]
async fn what_is_no_call_is_refused_with_its_reason() {
    let node = Node::setup().set("limits.max_body_bytes", 4096).start().await;
    let json_body =
        |text: String| post(&node, "/_call/echo").header(CONTENT_TYPE, "application/json").body(text);
    for text in ["{", "{\"a\":1,}", "1 2", "\u{0}", "nul"] {
        assert_eq!(refused(json_body(text.to_owned())).await, (400, "malformed".to_owned()), "{text:?}");
    }
    assert_eq!(refused(json_body("[".repeat(1000) + &"]".repeat(1000))).await.1, "malformed", "too deep");
    assert_eq!(refused(json_body(format!("\"{}\"", "x".repeat(5000)))).await, (413, "too_large".to_owned()));
    assert_eq!(refused(post(&node, "/_call/echo").body("1")).await, (415, "malformed".to_owned()));
    for path in [
        format!("/_call/{}", "x".repeat(201)),
        format!("/_call/{}", "x".repeat(8000)),
        "/_call/%FF".to_owned(),
        "/_call/echo?exec_mode=everywhere".to_owned(),
        "/_call/echo?timeout_ms=-1".to_owned(),
        "/_call/echo?timeout_ms=soon".to_owned(),
        "/_call/echo?user=ann".to_owned(),
        "/_call/echo?pool=a%20b".to_owned(),
    ] {
        assert_eq!(refused(post(&node, &path).json(&1)).await, (400, "malformed".to_owned()), "{path:.60}");
    }
    for name in ["*", ">", "a.b", "%2F%2F", "%00", "%E2%80%AE"] {
        assert_eq!(refused(post(&node, &format!("/_call/{name}")).json(&1)).await.1, "no_executor", "{name}");
    }
    let get = node.api().request(Method::GET, "/_call/echo").send().await.expect("an answer");
    assert_eq!(get.status().as_u16(), 405);
}

#[tokio::test]
async fn calls_without_a_user_are_limited_per_address_and_a_users_by_number() {
    let node = Node::setup()
        .users()
        .set("limits.anonymous_pages_per_ip_per_minute", 3)
        .set("limits.calls_per_user", 1)
        .start()
        .await;
    let echo = || post(&node, "/_call/echo").json(&1);
    for _ in 0..3 {
        assert_eq!(answer(echo()).await.0, 200);
    }
    let response = echo().send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 429);
    assert!(response.headers().contains_key(RETRY_AFTER));
    let ann = Token::of("ann").sign();
    assert_eq!(answer(echo().bearer_auth(&ann)).await.0, 200, "the limit is for others");
    let slow = async || post(&node, "/_call/sleep").json(&json!({"ms": 700})).bearer_auth(&ann).send().await;
    let (one, two) = tokio::join!(slow(), slow());
    let mut statuses = [one, two].map(|response| response.expect("an answer").status().as_u16());
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
}
