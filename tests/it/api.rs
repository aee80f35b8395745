//! The server API from outside: its authorization, its OpenAPI document, probes and metrics.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::environment::{Node, Page, Token};

#[tokio::test]
async fn without_a_key_no_web_page_gets_in_through_a_browser_of_this_machine() {
    let node = Node::start().await;
    let api = node.api();
    let send = || {
        let body = json!({"to": {"all": true}, "payload": 1});
        api.request(Method::POST, "/api/v1/send").json(&body)
    };
    let form = api.request(Method::POST, "/api/v1/send").body(r#"{"to":{"all":true},"payload":1}"#);
    let table = [
        (StatusCode::OK, send(), "a program on this machine"),
        (StatusCode::OK, send().header("origin", node.url()), "the node's own page"),
        (StatusCode::FORBIDDEN, send().header("origin", "https://evil.example"), "another origin"),
        (
            StatusCode::FORBIDDEN,
            send().header("host", "evil.example"),
            "a name that resolves to this machine",
        ),
        (StatusCode::FORBIDDEN, send().header("x-forwarded-for", "1.2.3.4"), "through a proxy"),
        (StatusCode::FORBIDDEN, send().header("forwarded", "for=1.2.3.4"), "through another proxy"),
        (StatusCode::FORBIDDEN, form.header("content-type", "text/plain"), "what a form can send"),
    ];
    for (status, request, who) in table {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{who}: {:?}", response.text().await);
    }
}

#[tokio::test]
async fn with_a_key_everybody_needs_one() {
    let key = "a-key-of-the-tests";
    let node = Node::setup().users().set("auth.api_keys", key).start().await;
    let send = async |api: crate::environment::Api| api.try_send(json!({"all": true}), json!(1)).await;
    let (status, body) = send(node.api()).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (StatusCode::UNAUTHORIZED, &json!("unauthenticated")),
        "{body}"
    );
    assert!(body["error"]["request_id"].is_string(), "{body}");
    assert_eq!(send(node.api().with_key("another-key-a-wrong-one")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(send(node.api().with_key(key)).await.0, StatusCode::OK);
    let role = |role: &str| Token::of("ann").with_role(role).sign();
    assert_eq!(send(node.api().with_key(&role("push"))).await.0, StatusCode::OK);
    assert_eq!(send(node.api().with_key(&role("editor"))).await.0, StatusCode::FORBIDDEN);
    let stats = async |key: &str| node.api().with_key(key).get("/api/v1/stats").await.0;
    assert_eq!(stats(&role("push")).await, StatusCode::FORBIDDEN);
    assert_eq!(stats(&role("admin")).await, StatusCode::OK);
}

#[tokio::test]
async fn beyond_this_machine_there_is_no_api_without_a_key() {
    let node = Node::setup().everywhere().start().await;
    let (status, _) = node.api().get("/api/v1/stats").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(node.api().get("/livez").await.0, StatusCode::OK);
    let lines = node.log().lines().filter(|line| line.contains("the server API is off")).count();
    assert_eq!(lines, 1, "in one line of the log");
    Page::open(&node).await.has_nothing_to_read().await;
}

#[tokio::test]
async fn the_registry_shows_who_is_here() {
    let node = Node::setup().users().start().await;
    let page = Page::opening(&node).token(&Token::of("..").sign()).open().await;
    let api = node.api();
    let stats = api.get_json("/api/v1/stats").await;
    assert_eq!((&stats["users"], &stats["pages"]), (&json!(1), &json!(1)), "{stats}");
    let users = api.get_json("/api/v1/users?online=true").await;
    assert_eq!(users["items"].as_array().map(Vec::len), Some(1), "{users}");
    // a user that a path cannot carry is written ~base64url
    api.get_json("/api/v1/users/~Li4").await;
    let seen = api.get_json(&format!("/api/v1/pages/{}", page.id().replace('|', "%7C"))).await;
    assert!(seen.to_string().contains(page.session()), "{seen}");
    let pages = api.get_json(&format!("/api/v1/sessions/{}/pages", page.session().replace('|', "%7C"))).await;
    assert_eq!(pages["items"].as_array().map(Vec::len), Some(1), "{pages}");
    let unknown = api.get(&format!("/api/v1/pages/{}%7Cp01", "0".repeat(22))).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND, "{}", unknown.1);
    let nodes = api.get_json("/api/v1/nodes").await;
    assert!(nodes.to_string().contains("\"p01\""), "{nodes}");
}

#[tokio::test]
async fn the_document_describes_every_path_that_answers() {
    let node = Node::start().await;
    let document = node.api().get_json("/api/openapi.json").await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    for path in ["/api/v1/send", "/api/v1/send/batch", "/api/v1/stats", "/api/v1/calls", "/api/v1/pages/{id}"]
    {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn probes_and_metrics_tell_an_operator_what_goes_on() {
    let node = Node::start().await;
    let api = node.api();
    assert_eq!(api.get("/livez").await.0, StatusCode::OK);
    assert_eq!(api.get("/readyz").await.0, StatusCode::OK);
    let mut page = Page::open(&node).await;
    page.result(json!({"type": "call", "method": "echo"})).await;
    api.send(json!({"page": page.id()}), json!(1)).await;
    page.message().await;
    assert_eq!(api.metric("pagewire_pages{lane=\"stable\",release=\"dev\"}").await, 1.0);
    assert_eq!(api.metric("pagewire_recovered_total{outcome=\"new\"}").await, 1.0);
    assert_eq!(api.metric("pagewire_calls_total{kind=\"echo\",exec=\"inline\",outcome=\"ok\"}").await, 1.0);
    assert_eq!(api.metric("pagewire_push_seconds_count").await, 1.0);
    let (_, everything) = api.get("/metrics").await;
    assert!(!everything.contains(&page.id()[..22]), "no id in a label");
}

#[tokio::test]
async fn a_response_of_the_api_is_not_stored_and_not_shown_as_a_document() {
    let key = "a-key-of-the-tests";
    let node = Node::setup().set("auth.api_keys", key).start().await;
    let get = |path: &str, key: &str| node.api().with_key(key).request(Method::GET, path);
    let table = [
        (StatusCode::OK, get("/livez", "")),
        (StatusCode::OK, get("/readyz", "")),
        (StatusCode::OK, get("/metrics", key)),
        (StatusCode::OK, get("/api/openapi.json", key)),
        (StatusCode::OK, get("/api/v1/stats", key)),
        (StatusCode::OK, get("/api/v1/users/ann/data", key)),
        (StatusCode::UNAUTHORIZED, get("/api/v1/stats", "another-key-a-wrong-one")),
        (StatusCode::NOT_FOUND, get("/api/v1/nothing", key)),
        (StatusCode::METHOD_NOT_ALLOWED, get("/api/v1/send", key)),
    ];
    for (status, request) in table {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{}", response.url());
        for (header, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            let found = response.headers().get(header).and_then(|value| value.to_str().ok());
            assert_eq!(found, Some(value), "{header} of {}", response.url());
        }
    }
}

#[tokio::test]
async fn the_welcome_page_can_be_switched_off() {
    let node = Node::setup().set("welcome", false).start().await;
    for (path, status) in [("/", 404), ("/_pagewire/start.js", 404), ("/pagewire.js", 200), ("/livez", 200)] {
        assert_eq!(node.api().get(path).await.0.as_u16(), status, "{path}");
    }
    Page::open(&node).await.has_nothing_to_read().await;
}

#[tokio::test]
async fn the_demo_handlers_come_with_the_welcome_page_or_by_a_key() {
    for (welcome, demo, expected) in [(true, false, 200), (false, true, 200), (false, false, 503)] {
        let node = Node::setup().set("welcome", welcome).set("demo", demo).start().await;
        let call = node.api().request(Method::POST, "/api/v1/calls").json(&json!({"method": "echo"}));
        let response = call.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "welcome {welcome}, demo {demo}");
        let job = json!({"kind": "echo", "wait_ms": if expected == 200 { 10_000 } else { 0 }});
        let response = node.api().request(Method::POST, "/api/v1/jobs").json(&job).send().await;
        let job: serde_json::Value = response.expect("an answer").json().await.expect("JSON");
        let waiting = &job["waiting"]["code"];
        assert_eq!(waiting == "no_worker", expected == 503, "a job waits while nothing can run it: {job}");
    }
}

#[tokio::test]
async fn the_welcome_page_is_served_without_anything_else() {
    let node = Node::start().await;
    let response = node.api().request(Method::GET, "/").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let kind = response.headers()["content-type"].to_str().expect("ASCII").to_owned();
    assert!(kind.starts_with("text/html"), "{kind}");
    assert!(response.text().await.expect("a body").contains("<script"));
}
