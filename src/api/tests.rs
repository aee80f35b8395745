use std::net::SocketAddr;

use pagewire_cluster::engine::Precondition;
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::job::{ExecutorDeath, KindEvent, MAX_DEATHS};
use pagewire_cluster::registry::PageRow;
use pagewire_worker::tls;
use serde_json::{Value, json};

use super::*;
use crate::config::{self, Secret, Sources};
use crate::roles::Node;

/// A node with its API on a port of this machine.
struct Running {
    node: Node,
    url: String,
    http: reqwest::Client,
}

impl Running {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config::load(&Sources::default()).unwrap();
        change(&mut config);
        let node = Node::start(config, Timing::TEST).await.unwrap();
        node.ready.wait().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = router(node.parts()).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        tls::install();
        Self { node, url, http: reqwest::Client::new() }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.http.post(format!("{}{path}", self.url)).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// Writes the row of a page and waits until the view contains it.
    async fn page(&self, bits: u128, session: u128, user: Option<&str>) -> Address {
        let holder = self.node.lease.holder().unwrap();
        let at = |bits| Address { key: Key::from_bits(bits), node: holder.node };
        let row = PageRow {
            node: holder.node,
            epoch: holder.epoch,
            generation: 1,
            prev: None,
            session: at(session),
            connection: at(9),
            user: user.map(str::to_owned),
            pins: Default::default(),
            resident: None,
            placed: 0,
            topics: Vec::new(),
            lane: "stable".into(),
            release: "dev".into(),
            opened: 0,
            agent: String::new(),
        };
        self.node.registry.write(Key::from_bits(bits), &row, Precondition::Absent).await.unwrap();
        while self.node.registry.view().page(Key::from_bits(bits)).is_none() {
            tokio::task::yield_now().await;
        }
        at(bits)
    }
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap()
}

#[tokio::test]
async fn the_document_is_served_and_every_path_in_it_answers() {
    let running = Running::start(|_| ()).await;
    let document = serde_json::to_value(openapi::describe()).unwrap();
    let (_, served) = running.get("/api/openapi.json").await;
    assert_eq!(document, served);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let id = if path.contains("/users/") { "nobody" } else { "0000000000000000000000" };
            let url = format!(
                "{}{}",
                running.url,
                path.replace("{id}", id)
                    .replace("{pool}", "default")
                    .replace("{level}", "pages")
                    .replace("{path}", "a")
            );
            let method = method.to_uppercase().parse().unwrap();
            let response = running.http.request(method, url).json(&json!({})).send().await.unwrap();
            let status = response.status();
            // an event stream that has begun counts as a response
            let streams =
                response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
            let text = if streams { String::new() } else { response.text().await.unwrap() };
            assert!(status != 405 && !text.contains("nothing at this path"), "{path}: {status} {text}");
        }
    }
}

#[tokio::test]
async fn every_refusal_has_the_same_shape_and_names_its_request() {
    let running = Running::start(|config| config.limits.max_body_bytes = 1024).await;
    let post = |body: &str| {
        let request = running.http.post(format!("{}/api/v1/send", running.url));
        request.header("content-type", "application/json").body(body.to_owned()).send()
    };
    let large = format!(r#"{{"to":{{"all":true}},"payload":"{}"}}"#, "x".repeat(2000));
    for (body, status, expected) in [
        ("{", 400, "malformed"),
        (r#"{"to":{"all":true}}"#, 400, "malformed"),
        (r#"{"to":{"all":true},"payload":1,"durable":true}"#, 400, "malformed"),
        (r#"{"to":{"page":"short"},"payload":1}"#, 400, "malformed"),
        (r#"{"to":{"all":false},"payload":1}"#, 400, "malformed"),
        (large.as_str(), 413, "too_large"),
    ] {
        let response = post(body).await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(response.status().as_u16(), status, "{body:.60}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(code(&body), expected);
        assert!(body["error"]["retryable"].is_boolean() && !id.is_empty());
        assert_eq!(body["error"]["request_id"], id);
    }
    for (path, status) in [
        ("/api/v1/nothing", 404),
        ("/api/v1/pages/short", 400),
        ("/api/v1/pages/0000000000000000000000%7Cp01", 404),
        ("/api/v1/users/~!", 400),
        ("/api/v1/users/%FF", 400),
        ("/api/v1/users?colour=blue", 400),
        ("/api/v1/send", 405),
    ] {
        let (found, body) = running.get(path).await;
        assert_eq!(found, status, "{path}");
        assert!(body["error"]["message"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn a_push_tells_what_it_met_and_a_batch_goes_on_after_a_refusal() {
    let running = Running::start(|_| ()).await;
    let (status, body) = running.post("/api/v1/send", json!({"to": {"user": "a.b"}, "payload": null})).await;
    assert_eq!((status, body), (200, json!({"reached": 0, "held": 0, "nodes": ["p01"], "unreachable": []})));
    let batch = json!({"items": [
        {"to": {"all": false}, "payload": 1},
        {"to": {"all": true}, "payload": 2},
    ]});
    let (status, body) = running.post("/api/v1/send/batch", batch).await;
    assert_eq!(status, 200);
    assert_eq!(body["items"][0]["error"]["code"], "malformed");
    assert_eq!(body["items"][1]["reached"], 0);
}

#[tokio::test]
async fn the_registry_is_read_by_user_session_connection_and_page() {
    let running = Running::start(|_| ()).await;
    let page = running.page(1, 100, Some("..")).await;
    running.page(2, 100, Some("..")).await;
    running.page(3, 101, Some("..")).await;
    running.page(4, 102, None).await;
    let encoded = page.to_string().replace('|', "%7C");
    let (_, found) = running.get(&format!("/api/v1/pages/{encoded}")).await;
    assert_eq!(found["page_id"], page.to_string());
    assert_eq!((&found["user"], &found["opened_at"]), (&json!(".."), &json!("1970-01-01T00:00:00Z")));
    let (_, user) = running.get("/api/v1/users/~Li4").await;
    assert_eq!(user, json!({"user": "..", "online": true, "connections": 1, "sessions": 2, "pages": 3}));
    let (_, absent) = running.get("/api/v1/users/ann").await;
    assert_eq!((&absent["online"], &absent["pages"]), (&json!(false), &json!(0)));
    let (_, users) = running.get("/api/v1/users?online=true").await;
    assert_eq!(users["items"].as_array().unwrap().len(), 1);
    let (_, sessions) = running.get("/api/v1/users/~Li4/sessions").await;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 2);
    assert_eq!(sessions["next_cursor"], Value::Null);
    let connection = Key::from_bits(9);
    let (_, connection) = running.get(&format!("/api/v1/connections/{connection}")).await;
    assert_eq!((&connection["sessions"], &connection["pages"]), (&json!(3), &json!(4)));
    let (_, stats) = running.get("/api/v1/stats").await;
    assert_eq!((&stats["users"], &stats["sessions"], &stats["pages"]), (&json!(1), &json!(3), &json!(4)));
    let counts = json!({"users": 1, "connections": 1, "sessions": 3, "pages": 4});
    for (place, mut expected) in [("lanes", json!({"nodes": 1})), ("nodes", json!({"node": "p01"}))] {
        for (name, value) in json!({"lane": "stable", "release": "dev"}).as_object().unwrap() {
            expected[name] = value.clone();
        }
        for (name, value) in counts.as_object().unwrap() {
            expected[name] = value.clone();
        }
        assert_eq!(stats[place], json!([expected]));
    }
    let (_, nodes) = running.get("/api/v1/nodes").await;
    assert_eq!((&nodes["items"][0]["node"], &nodes["items"][0]["answering"]), (&json!("p01"), &json!(true)));
}

#[tokio::test]
async fn a_list_comes_in_pieces_without_gap_or_repetition() {
    let running = Running::start(|_| ()).await;
    for bits in 0..7 {
        running.page(bits, 100, None).await;
    }
    let path = format!("/api/v1/sessions/{}/pages?limit=3", Key::from_bits(100));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, piece) = running.get(&format!("{path}{cursor}")).await;
        let items = piece["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|page| page["page_id"].as_str().unwrap().to_owned()));
        match piece["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 7);
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn a_call_answers_with_its_result_or_with_the_status_of_its_error() {
    let running = Running::start(|_| ()).await;
    let call = |body| running.post("/api/v1/calls", body);
    assert_eq!(call(json!({"method": "sum", "params": [1, 2]})).await, (200, json!(3)));
    let (status, body) = call(json!({"method": "juggle"})).await;
    assert_eq!((status, code(&body)), (503, "no_executor"));
    let (status, body) = call(json!({"method": "fail", "params": "no"})).await;
    assert_eq!((status, &body["error"]["message"]), (422, &json!("no")));
    let slow = json!({"method": "sleep", "params": {"ms": 2000}, "timeout_ms": 1});
    assert_eq!(call(slow).await.0, 504);
    let (_, executors) = running.get("/api/v1/executors").await;
    assert_eq!(executors["items"][0]["kind"], "inline");
}

#[tokio::test]
async fn beyond_this_machine_without_a_key_there_are_only_the_probes() {
    let exposed = |config: &mut Config| config.listen = "0.0.0.0:0".parse().unwrap();
    let running = Running::start(exposed).await;
    assert_eq!(running.get("/livez").await.0, 200);
    assert_eq!(running.get("/readyz").await.0, 200);
    for path in ["/metrics", "/api/v1/stats", "/api/openapi.json"] {
        let response = running.http.get(format!("{}{path}", running.url)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    let keyed = Running::start(|config| {
        exposed(config);
        config.auth.api_keys = vec![Secret::new("the-key".into())];
    })
    .await;
    assert_eq!(keyed.get("/api/v1/stats").await.0, 401);
    let with_key =
        keyed.http.get(format!("{}/metrics", keyed.url)).bearer_auth("the-key").send().await.unwrap();
    assert_eq!(with_key.status(), 200);
    assert!(with_key.text().await.unwrap().ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_node_that_is_not_ready_lives_on() {
    let running = Running::start(|_| ()).await;
    running.node.accepting.set(false);
    assert_eq!(running.get("/readyz").await.0, 503);
    assert_eq!(running.get("/livez").await.0, 200);
}

#[tokio::test]
async fn every_event_stream_ends_when_the_node_drains() {
    let running = Running::start(|_| ()).await;
    let (_, job) = running.post("/api/v1/jobs", json!({"kind": "sum", "pool": "without-workers"})).await;
    let job = format!("/api/v1/jobs/{}/events", job["id"].as_str().unwrap());
    let mut streams = Vec::new();
    for (path, first) in [("/api/v1/events", "live"), (&job, "job"), ("/api/v1/users/ann/data", "data")] {
        let request = running.http.get(format!("{}{path}", running.url));
        let mut response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.headers()["x-accel-buffering"], "no", "{path}");
        let begin = response.chunk().await.unwrap().unwrap();
        assert!(begin.starts_with(format!("event: {first}\n").as_bytes()), "{path}: {begin:?}");
        streams.push(response);
    }
    running.node.accepting.set(false);
    for mut response in streams {
        while response.chunk().await.unwrap().is_some() {}
    }
}

#[tokio::test]
async fn a_kind_that_killed_its_executors_is_shown_until_an_operator_lifts_it() {
    let running = Running::start(|_| {}).await;
    let empty = json!([]);
    assert_eq!(running.get("/api/v1/quarantine").await.1["items"], empty);
    let quarantines = running.node.context.executors.quarantines();
    let death = ExecutorDeath { alone: true, log: "out of memory".into(), release: "r".into(), at: 0 };
    for _ in 0..MAX_DEATHS {
        quarantines.apply("default", "resize.png", &KindEvent::Died(death.clone())).await.unwrap();
    }
    let (_, shown) = running.get("/api/v1/quarantine").await;
    let expected = json!([{
        "pool": "default", "kind": "resize.png", "quarantined": true, "deaths": 3, "log": "out of memory",
        "release": "r", "died_at": "1970-01-01T00:00:00Z"
    }]);
    assert_eq!(shown["items"], expected);
    let (_, kinds) = running.get("/api/v1/executors").await;
    assert_eq!(kinds["items"][1]["quarantined"], json!(["default/resize.png"]));
    let lift = async || {
        let path = format!("{}/api/v1/quarantine/default/resize.png", running.url);
        running.http.delete(path).send().await.unwrap().status().as_u16()
    };
    assert_eq!((lift().await, lift().await), (200, 404));
    assert_eq!(running.get("/api/v1/quarantine").await.1["items"], empty);
}

#[tokio::test]
async fn users_and_connections_of_a_register_are_listed_in_parts_and_created_once() {
    let running = Running::start(|_| {}).await;
    let path = "/api/v1/registers/shop/items";
    let item = |level: &str, id: &str| json!({"level": level, "id": id, "fields": {"user": "ann"}});
    let items = json!({"items": [item("user", "ann"), item("connection", "c1"), item("connection", "c2/ü")]});
    assert_eq!(running.post(path, items.clone()).await, (200, json!({"created": 3, "kept": 0})));
    assert_eq!(running.post(path, items).await, (200, json!({"created": 0, "kept": 3})));
    let (_, first) = running.get(&format!("{path}?level=connection&limit=1")).await;
    assert_eq!(first, json!({"items": [item("connection", "c1")], "next_cursor": "c1"}));
    let (_, rest) = running.get(&format!("{path}?level=connection&limit=1&cursor=c1")).await;
    assert_eq!(rest, json!({"items": [item("connection", "c2/ü")], "next_cursor": null}));
    for (path, body) in [
        (path, json!({"items": [item("page", "p1")]})),
        (path, json!({"items": [item("user", "")]})),
        ("/api/v1/registers/No!/items", json!({"items": []})),
    ] {
        let (status, body) = running.post(path, body).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("malformed")), "{body}");
    }
    assert_eq!(running.get(&format!("{path}?level=page")).await.0, 400);
    let (_, users) = running.get(&format!("{path}?level=user")).await;
    assert_eq!(users["items"], json!([item("user", "ann")]));
}
