//! Limits of one page, one user, one anonymous browser and one address on a node.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::environment::{Api, Nats, Node, Page, SOON, Token, WorkerProcess, eventually};

fn sleep() -> Value {
    json!({"type": "call", "method": "sleep", "params": {"ms": 60_000}, "timeout_ms": 300_000})
}

/// Returns the number of calls that the node runs inline now.
async fn running(api: &Api) -> u64 {
    let kinds = api.get_json("/api/v1/executors").await;
    let inline = kinds["items"].as_array().expect("a list").iter().find(|kind| kind["kind"] == "inline");
    inline.and_then(|kind| kind["running"].as_u64()).expect("a number")
}

async fn begin(page: &mut Page, calls: usize) {
    for n in 0..calls {
        let mut call = sleep();
        call["id"] = json!(format!("sleep-{n}"));
        page.send(call).await;
    }
}

/// Checks that an error is a retryable rejection that names the configuration key.
fn is_limited(error: &Value, key: &str) {
    assert_eq!((&error["code"], &error["retryable"]), (&json!("rate_limited"), &json!(true)), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains(key)), "{error}");
}

#[tokio::test]
async fn a_page_has_a_bounded_number_of_calls_in_flight_and_others_are_served() {
    let node = Node::start().await;
    let (mut greedy, mut other) = (Page::open(&node).await, Page::open(&node).await);
    begin(&mut greedy, 32).await;
    is_limited(&greedy.request(sleep()).await, "limits.calls_per_page");
    assert_eq!(running(&node.api()).await, 32);
    assert_eq!(other.result(json!({"type": "call", "method": "echo", "params": 1})).await, 1);
    greedy.send(json!({"type": "cancel", "id": "sleep-0"})).await;
    assert_eq!(greedy.expect("error").await["code"], "cancelled");
    assert_eq!(greedy.result(json!({"type": "call", "method": "echo", "params": 2})).await, 2);
}

#[tokio::test]
async fn calls_of_all_pages_of_a_user_and_of_programs_for_it_are_counted_together() {
    let node = Node::setup().users().set("limits.calls_per_user", 5).start().await;
    let token = Token::of("ann").sign();
    let mut pages = Vec::new();
    for _ in 0..2 {
        let mut page = Page::opening(&node).token(&token).open().await;
        begin(&mut page, 2).await;
        page.has_nothing_to_read().await;
        pages.push(page);
    }
    begin(&mut pages[0], 1).await;
    pages[0].has_nothing_to_read().await;
    is_limited(&pages[1].request(sleep()).await, "limits.calls_per_user");
    let call = |user: &str| {
        let body = json!({"method": "echo", "params": 1, "user": user});
        node.api().request(Method::POST, "/api/v1/calls").json(&body)
    };
    let refused = call("ann").send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    is_limited(&refused.json::<Value>().await.expect("JSON")["error"], "limits.calls_per_user");
    assert_eq!(call("bob").send().await.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn calls_go_on_while_a_page_can_come_back_and_end_with_it() {
    let node = Node::setup().set("lifetime.resume_ms", 1500).start().await;
    let api = node.api();
    let mut page = Page::open(&node).await;
    let soon = json!({"type": "call", "id": "soon", "method": "sleep", "params": {"ms": 300}});
    page.send(soon).await;
    begin(&mut page, 10).await;
    page.has_nothing_to_read().await;
    let away = page.lose_socket();
    let mut back = away.resume(&node).await;
    assert_eq!(back.expect("result").await["id"], "soon", "the call went on without its socket");
    assert_eq!(running(&api).await, 10);
    drop(back.lose_socket());
    eventually("the calls have ended with their page", SOON, async || {
        (running(&api).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_page_that_is_unregistered_takes_its_calls_at_a_worker_along() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let worker = WorkerProcess::setup(&nats, "stable").with("--slots", "4").start().await;
    let api = node.api();
    let mut page = Page::open(&node).await;
    let mut other = Page::open(&node).await;
    let echo = json!({"type": "call", "method": "echo", "params": 1});
    eventually("the worker is there", SOON, async || {
        let kinds = api.get_json("/api/v1/executors").await;
        kinds["items"].as_array()?.iter().any(|kind| kind["workers"] == 1).then_some(())
    })
    .await;
    begin(&mut page, 4).await;
    eventually("the worker has no slot left", SOON, async || {
        (other.request(echo.clone()).await["code"] == "rate_limited").then_some(())
    })
    .await;
    api.delete(&format!("/api/v1/pages/{}", page.id().replace('|', "%7C"))).await;
    eventually("the slots are free again", SOON, async || {
        (other.request(echo.clone()).await["type"] == "result").then_some(())
    })
    .await;
    drop(worker);
}

#[tokio::test]
async fn open_jobs_are_bounded_per_page_and_per_anonymous_browser_over_a_restart() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::setup()
        .set("data_dir", data.path().display())
        .set("limits.jobs_per_page", 3)
        .set("limits.jobs_per_anonymous", 5)
        .start()
        .await;
    // far enough ahead that none of them runs: the page receives nothing but the end of each
    let later = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    let later = later.format(&time::format_description::well_known::Rfc3339).expect("a date");
    let job = || json!({"type": "job", "kind": "echo", "run_at": later});
    let accepted = async |page: &mut Page| {
        let frame = page.request(job()).await;
        assert_eq!(frame["type"], "accepted", "{frame}");
        frame["job"].as_str().expect("an id").to_owned()
    };
    let mut page = Page::open(&node).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(accepted(&mut page).await);
    }
    is_limited(&page.request(job()).await, "limits.jobs_per_page");
    let join = Page::opening(&node)
        .with("session_id", page.registered["session_id"].clone())
        .with("resume", json!({"token": page.token(), "seq": 0}));
    let mut joined = join.open().await;
    assert_eq!(joined.connection(), page.connection());
    accepted(&mut joined).await;
    accepted(&mut joined).await;
    is_limited(&joined.request(job()).await, "limits.jobs_per_anonymous");
    let mut other = Page::open(&node).await;
    accepted(&mut other).await;
    let away = page.memory();
    node.kill();
    node.exit(SOON).await;
    node.restart().await;
    let mut back = away.resume(&node).await;
    is_limited(&back.request(job()).await, "limits.jobs_per_page");
    let api = node.api();
    let cancel = api.request(Method::POST, &format!("/api/v1/jobs/{}/cancel", jobs[0]));
    let cancelled = cancel.json(&json!({})).send().await;
    assert_eq!(cancelled.expect("an answer").status(), StatusCode::OK);
    eventually("the end of a job makes room", SOON, async || {
        (back.request(job()).await["type"] == "accepted").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_page_cannot_leave_work_in_a_pool_that_nobody_has_ever_served() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let mut page = Page::open(&node).await;
    let job = |pool: &str| json!({"type": "job", "kind": "echo", "pool": pool});
    let refused = page.request(job("defualt")).await;
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("unknown"), &json!(false)), "{refused}");
    assert!(
        refused["message"].as_str().is_some_and(|message| message.ends_with("one is default")),
        "{refused}"
    );
    let mut worker = WorkerProcess::setup(&nats, "stable").with("--pool", "mail").start().await;
    eventually("the pool is known", SOON, async || {
        (page.request(job("mail")).await["type"] == "accepted").then_some(())
    })
    .await;
    worker.kill();
    eventually("the pool has no worker", Duration::from_secs(60), async || {
        let workers = node.api().get_json("/api/v1/workers").await;
        workers["items"].as_array()?.is_empty().then_some(())
    })
    .await;
    assert_eq!(page.request(job("mail")).await["type"], "accepted", "it has had a worker");
    let body = json!({"kind": "echo", "pool": "later"});
    let program = node.api().request(Method::POST, "/api/v1/jobs").json(&body).send().await;
    assert_eq!(program.expect("an answer").status(), StatusCode::CREATED, "a program may be early");
}

#[tokio::test]
async fn a_job_that_no_worker_takes_ends_and_its_page_is_told() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).set("lifetime.unclaimed_job_s", 1).start().await;
    let mut page = Page::open(&node).await;
    let accepted = page.request(json!({"type": "job", "kind": "echo"})).await;
    assert_eq!(accepted["type"], "accepted");
    let end = page.expect("result").await;
    assert_eq!((&end["id"], &end["state"]), (&accepted["id"], &json!("dead")), "{end}");
    assert_eq!(end["error"]["code"], "expired", "{end}");
}

#[tokio::test]
async fn an_address_opens_a_bounded_number_of_anonymous_pages_and_its_users_are_not_held_up() {
    let node = Node::setup().users().set("limits.anonymous_pages_per_ip_per_minute", 3).start().await;
    let mut pages = Vec::new();
    for _ in 0..3 {
        pages.push(Page::open(&node).await);
    }
    let mut refused = Page::opening(&node).upgrade().await.expect("an upgrade");
    refused.send_raw(tokio_tungstenite::tungstenite::Message::text("{}")).await;
    let closed = refused.closed().await;
    assert_eq!(closed.code, 4506);
    let wait = closed.reason["retry_after_ms"].as_u64().expect("a delay");
    assert!((1..=20_000).contains(&wait), "{wait}");
    let back = pages.pop().expect("a page").lose_socket().resume(&node).await;
    assert_eq!(back.recovered(), "recovered", "one that comes back is not new");
    Page::opening(&node).token(&Token::of("ann").sign()).open().await;
}

#[tokio::test]
async fn a_tree_that_anonymous_pages_write_is_smaller_and_goes_with_its_session() {
    let node = Node::setup()
        .users()
        .set("lifetime.resume_ms", 100)
        .set("lifetime.session_timeout_s", 1)
        .set("lifetime.connection_timeout_s", 1)
        .set("lifetime.cleanup_interval_s", 1)
        .set("limits.anonymous_tree_bytes", 30_000)
        .start()
        .await;
    let mut page = Page::open(&node).await;
    let set = |path: &str, bytes: usize| json!({"type": "set_session_data", "path": path, "value": "x".repeat(bytes)});
    assert_eq!(page.request(set("a", 20_000)).await["type"], "result");
    let refused = page.request(set("b", 20_000)).await;
    assert_eq!(refused["code"], "too_large", "{refused}");
    assert!(
        refused["message"].as_str().is_some_and(|message| message.contains("limits.anonymous_tree_bytes"))
    );
    let mut user = Page::opening(&node).token(&Token::of("ann").sign()).open().await;
    assert_eq!(user.request(set("a", 40_000)).await["type"], "result");
    let path = format!("/api/v1/sessions/{}/data/a", page.session().replace('|', "%7C"));
    assert_eq!(node.api().get(&path).await.0, StatusCode::OK);
    drop(page);
    eventually("the tree has gone with its session", SOON, async || {
        (node.api().get(&path).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_nested_too_deep_is_refused_with_its_reason_and_the_socket_goes_on() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let frame =
        |levels| format!(r#"{{"type":"broadcast_session","id":"deep","payload":{}}}"#, nested(levels));
    page.send_text(&frame(10_000)).await;
    let refused = page.expect("error").await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!("deep"), &json!("malformed")), "{refused}");
    assert!(
        refused["message"].as_str().is_some_and(|message| message.contains("nested deeper")),
        "{refused}"
    );
    page.send_text(&frame(60)).await;
    let kinds = [page.next().await["type"].clone(), page.next().await["type"].clone()];
    assert!(kinds.contains(&json!("message")) && kinds.contains(&json!("result")), "{kinds:?}");
    let body = format!(r#"{{"to":"all","payload":{}}}"#, nested(200));
    let request = node.api().request(Method::POST, "/api/v1/send").header("content-type", "application/json");
    let refused = request.body(body).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let error = refused.json::<Value>().await.expect("JSON")["error"].clone();
    assert_eq!(error["code"], "malformed");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("nested deeper")), "{error}");
}

#[tokio::test]
async fn who_may_not_write_is_told_so_before_the_body_and_a_body_over_the_limit_is_refused_in_the_apis_shape()
{
    let key = "a-key-of-24-characters-x";
    let node = Node::setup().set("auth.api_keys", key).set("limits.max_body_bytes", 2000).start().await;
    let post = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        )
    };
    let mut begun = TcpStream::connect(node.address()).await.expect("a connection");
    begun.write_all(format!("{}\r\n", post("/api/v1/send", 1999)).as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    tokio::time::timeout(SOON, begun.read_exact(&mut status)).await.expect("an answer").expect("bytes");
    assert_eq!(&status, b"HTTP/1.1 401", "no byte of the body was sent");
    let api = node.api().with_key(key);
    let large = json!({"to": "all", "payload": "x".repeat(3000)});
    let refused = api.request(Method::POST, "/api/v1/send").json(&large).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(refused.json::<Value>().await.expect("JSON")["error"]["code"], "too_large");
    let mut late = TcpStream::connect(node.address()).await.expect("a connection");
    let head = format!("{}Authorization: Bearer {key}\r\n\r\n{{", post("/api/v1/send", 100));
    late.write_all(head.as_bytes()).await.expect("sent");
    tokio::time::timeout(SOON, late.read_exact(&mut status)).await.expect("an answer").expect("bytes");
    assert_eq!(&status, b"HTTP/1.1 408");
}
