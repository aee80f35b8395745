//! Requests of programs beside an application over HTTP: real servers, from the Python that `WSGI_PYTHON` names.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::environment::mounts::served;
use crate::environment::{Api, Nats, Node, SOON, Token, eventually};
use crate::mount_processes::{SITES, mount, setup};

const KEY: &str = "a-key-of-the-tests";

async fn ask(api: &Api, method: &str, params: &Value) -> (StatusCode, Value) {
    let request = api.request(Method::POST, &format!("/api/v1/requests/{method}")).json(params);
    let response = request.send().await.expect("an answer");
    (response.status(), response.json().await.expect("a JSON body"))
}

/// Makes a request and returns its value.
async fn value(api: &Api, method: &str, params: Value) -> Value {
    let (status, mut body) = ask(api, method, &params).await;
    assert_eq!(status, StatusCode::OK, "{method}: {body}");
    body["value"].take()
}

#[tokio::test]
async fn a_program_and_the_processes_of_a_mount_at_other_nodes_use_one_register() {
    let nats = Nats::start().await;
    let site = mount("/", "wsgi = \"stores\"", SITES, "processes = 1\nserver = \"gunicorn\"");
    let serving = setup(&site).nats(&nats).real_timing().start().await;
    let other = Node::setup().nats(&nats).real_timing().start().await;
    served(&serving, "/store").await;
    let (site, api) = (serving.api(), other.api());

    let ops = json!({"ops": [{"level": "user", "id": "ann", "create": "new", "data": {"visits": 4}}]});
    let written = value(&api, "register.write", ops).await;
    assert!(written["results"][0]["revision"].is_u64(), "{written}");
    assert_eq!(site.get_json("/visit?user=ann").await["visits"], 5);
    let read = json!({"items": [{"level": "user", "id": "ann"}]});
    assert_eq!(value(&api, "register.read", read).await["items"][0]["data"], json!({"visits": 5}));

    site.get_json("/opened?page=p1&user=bob").await;
    let entry = json!({"to": {"table": "orders"}, "changes": [{"pkey": 7}], "reason": "task"});
    eventually("the node of the program knows the page", SOON, async || {
        let published = value(&api, "register.publish", json!({"entries": [entry.clone()]})).await;
        (published["pages"] == json!([1])).then_some(())
    })
    .await;
    let polled = site.get_json("/poll?page=p1").await;
    assert_eq!(polled, json!({"changes": [{"pkey": 7}], "reset": false}));
}

#[tokio::test]
async fn requests_of_programs_are_refused_with_the_codes_of_the_child_wire() {
    let node = Node::setup().users().set("auth.api_keys", KEY).start().await;
    let lock = json!({"name": "stock", "ttl_ms": 60_000});
    let role = |role: &str| Token::of("ann").with_role(role).sign();
    for (api, status) in [
        (node.api(), StatusCode::UNAUTHORIZED),
        (node.api().with_key(&role("push")), StatusCode::FORBIDDEN),
        (node.api().with_key(&role("admin")), StatusCode::OK),
        (node.api().with_key(KEY), StatusCode::LOCKED),
    ] {
        assert_eq!(ask(&api, "lock.acquire", &lock).await.0, status);
    }
    let api = node.api().with_key(KEY);
    let table = [
        ("lock.acquire", lock, 423, "locked", true),
        ("lock.forget", json!({}), 400, "unsupported", false),
        ("lock.acquire", json!({"name": "stock"}), 400, "malformed", false),
        ("lock.acquire", json!(["stock"]), 400, "malformed", false),
        ("state.get", json!({"level": "user"}), 400, "malformed", false),
        ("register.withdraw", json!({"page": "p"}), 400, "malformed", false),
        ("page.get", json!({"page": "0000000000000000000000"}), 404, "unknown", false),
        ("call", json!({"method": "nobody.has.it"}), 503, "no_executor", true),
    ];
    for (method, params, status, code, retryable) in table {
        let (answered, body) = ask(&api, method, &params).await;
        let error = &body["error"];
        assert_eq!((answered.as_u16(), error["code"].as_str()), (status, Some(code)), "{method}: {body}");
        assert_eq!((&error["retryable"], error["message"].is_string()), (&json!(retryable), true), "{body}");
    }
}

#[tokio::test]
async fn programs_have_256_requests_at_a_time_and_a_wait_ends_with_its_caller() {
    let node = Node::setup().real_timing().set("limits.connections_per_ip", "1024").start().await;
    let api = node.api();
    let lock = |wait: u64| json!({"name": "stock", "ttl_ms": 60_000, "wait_ms": wait});
    let held = value(&api, "lock.acquire", lock(0)).await;
    let waits = lock(30_000).to_string();
    let mut crowd = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(node.address()).await.expect("a connection");
        let head = format!("host: {}\r\ncontent-type: application/json\r\n", node.address());
        let request = format!(
            "POST /api/v1/requests/lock.acquire HTTP/1.1\r\n{head}content-length: {}\r\n\r\n{waits}",
            waits.len()
        );
        stream.write_all(request.as_bytes()).await.expect("a server that reads");
        crowd.push(stream);
    }
    let other = json!({"name": "other", "token": 1});
    let refused = eventually("there are too many", SOON, async || {
        let (status, body) = ask(&api, "lock.release", &other).await;
        (status == StatusCode::TOO_MANY_REQUESTS).then_some(body)
    })
    .await;
    assert_eq!(refused["error"]["code"], "rate_limited");
    drop(crowd);
    let released = json!({"name": "stock", "token": held["token"]});
    eventually("those who waited are gone", SOON, async || {
        (ask(&api, "lock.release", &released).await.0 == StatusCode::OK).then_some(())
    })
    .await;
    value(&api, "lock.acquire", lock(0)).await;
}
