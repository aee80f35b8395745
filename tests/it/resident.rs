//! Resident pages: one object per page, in Python, at nodes and workers.

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::environment::children::send;
use crate::environment::python::{PATH, python_program};
use crate::environment::{Nats, Node, Page, SOON, Token, WorkerProcess, eventually, pagewire};

/// Returns a pool whose children have the class `Counter`, with more keys.
fn pool(keys: &str) -> String {
    format!(
        "[[pool]]\nname = \"default\"\ncommand = {}\nenv = {{ PYTHONPATH = {} }}\n{keys}\n",
        json!(python_program("counters:app")),
        json!(PATH)
    )
}

/// Starts a node without handlers, and a worker whose children have the class.
async fn worker(nats: &Nats, lane: &str, keys: &[(&str, &str)]) -> WorkerProcess {
    let program = python_program("counters:app");
    let setup = WorkerProcess::running(nats, lane, &program).variable("PYTHONPATH", PATH);
    keys.iter().fold(setup, |setup, (name, value)| setup.with(name, value)).start().await
}

async fn open(node: &Node, user: &str) -> Page {
    let resident = json!({"class": "Counter"});
    Page::opening(node).token(&Token::of(user).sign()).with("resident", resident).open().await
}

/// Waits for what the page is told about its object.
async fn told(page: &mut Page) -> (String, Option<String>) {
    let frame = loop {
        let frame = page.next().await;
        if frame["type"] == "resident" {
            break frame;
        }
    };
    assert_eq!(frame["class"], "Counter");
    (frame["state"].as_str().expect("a state").to_owned(), frame["why"].as_str().map(str::to_owned))
}

fn state(state: &str, why: &str) -> (String, Option<String>) {
    (state.to_owned(), Some(why.to_owned()).filter(|why| !why.is_empty()))
}

/// Calls a method of the object of a page over its socket.
async fn rpc(page: &mut Page, method: &str, params: Value) -> Value {
    page.result(json!({"type": "call", "method": format!("Counter.{method}"), "params": params})).await
}

/// Calls a method over HTTP and returns the status and the body.
async fn post(
    node: &Node,
    page: &str,
    method: &str,
    user: Option<&str>,
    params: Value,
) -> (StatusCode, Value) {
    let page = page.replace('|', "%7C");
    let request = node.api().request(Method::POST, &format!("/_page/{page}/{method}")).json(&params);
    let request = match user {
        Some(user) => request.bearer_auth(Token::of(user).sign()),
        None => request,
    };
    let response = request.send().await.expect("an answer");
    (response.status(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_page_and_http_at_two_nodes_meet_the_same_object_from_its_opening_to_its_end() {
    let nats = Nats::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let closed = folder.path().join("closed");
    let program = python_program("counters:app");
    let _worker = WorkerProcess::running(&nats, "stable", &program)
        .variable("PYTHONPATH", PATH)
        .variable("CLOSED", closed.to_str().expect("a path"))
        .start()
        .await;
    let node = async || {
        Node::setup().set("welcome", false).set("lifetime.resume_ms", 1500).nats(&nats).users().start().await
    };
    let (one, two) = (node().await, node().await);
    let mut page = open(&one, "ann").await;
    assert_eq!(told(&mut page).await, state("open", ""));
    let seen = rpc(&mut page, "add", json!({"by": 2})).await;
    assert_eq!((&seen["n"], &seen["user"], &seen["events"]), (&json!(2), &json!("ann"), &json!(["open"])));
    for (node, n) in [(&two, 3), (&one, 4)] {
        let (status, value) = post(node, page.id(), "add", Some("ann"), Value::Null).await;
        assert_eq!(
            (status, &value["n"], &value["pid"]),
            (StatusCode::OK, &json!(n), &seen["pid"]),
            "{value}"
        );
    }
    let (status, error) = post(&two, page.id(), "add", Some("bob"), Value::Null).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::NOT_FOUND, &json!("unknown")));
    let (_, error) = post(&two, page.id(), "add", Some("ann"), json!({"by": "two"})).await;
    assert_eq!(error["error"]["code"], "malformed", "{error}");
    let away = page.lose_socket();
    eventually("the object knows that its page is away", SOON, async || {
        let (_, value) = post(&two, away.id(), "peek", Some("ann"), Value::Null).await;
        (value["events"] == json!(["open", "away"])).then_some(())
    })
    .await;
    let mut page = away.resuming(&two).token(&Token::of("ann").sign()).open().await;
    let seen = eventually("the object knows that its page is back", SOON, async || {
        let (_, value) = post(&one, page.id(), "peek", Some("ann"), Value::Null).await;
        (value["events"] == json!(["open", "away", "back"])).then_some(value)
    })
    .await;
    assert_eq!(seen["n"], 4);
    assert_eq!(rpc(&mut page, "add", json!(null)).await["n"], 5);
    let id = page.id().to_owned();
    drop(page.lose_socket());
    let line = eventually("the object ends with its page", SOON, async || {
        let text = std::fs::read_to_string(&closed).ok()?;
        text.ends_with('\n').then_some(text)
    })
    .await;
    assert_eq!(line.split('|').next(), id.split('|').next());
    assert!(line.ends_with(" 5\n"), "{line}");
}

#[tokio::test]
async fn a_page_without_a_user_is_called_with_its_token_and_one_without_a_class_has_no_object() {
    let node = Node::setup().set("welcome", false).file(&pool("free = 1\nassigned = 1")).start().await;
    let mut page = Page::opening(&node).with("resident", json!({"class": "Counter"})).open().await;
    told(&mut page).await;
    let (status, _) = post(&node, page.id(), "add", None, Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let path = format!("/_page/{}/add", page.id().replace('|', "%7C"));
    let with = async |token: &str| {
        let request = node.api().request(Method::POST, &path).header("pagewire-page-token", token);
        request.send().await.expect("an answer").status()
    };
    assert_eq!(with(page.token()).await, StatusCode::OK);
    let other = Page::open(&node).await;
    assert_eq!(with(other.token()).await, StatusCode::FORBIDDEN);
    let refused = page.error(json!({"type": "call", "method": "Counter.add", "exec_mode": "any"})).await;
    assert_eq!(refused, "malformed");
    let job = page.request(json!({"type": "job", "kind": "Counter.add"})).await;
    assert_eq!(job["type"], "accepted", "{job}");
    assert_eq!(page.expect("result").await["error"]["code"], "malformed", "a method is no job");
}

#[tokio::test]
async fn messages_of_a_page_run_one_after_the_other_and_concurrent_ones_beside_them() {
    let node = Node::setup()
        .set("welcome", false)
        .file(&pool("free = 0\nassigned = 1\nslots = 8"))
        .users()
        .start()
        .await;
    let mut page = open(&node, "ann").await;
    told(&mut page).await;
    for id in 1..=5 {
        page.send(json!({"type": "call", "id": id, "method": "Counter.slow", "params": {"ms": 60}})).await;
    }
    page.send(json!({"type": "call", "id": 6, "method": "Counter.peek"})).await;
    let mut order = Vec::new();
    while order.len() < 6 {
        let frame = page.expect("result").await;
        order.push((frame["id"].as_u64().expect("an id"), frame["value"]["n"].clone()));
    }
    let slow: Vec<_> = order.iter().filter(|(id, _)| *id < 6).cloned().collect();
    assert_eq!(slow, (1..=5).map(|id| (id, json!(id))).collect::<Vec<_>>());
    assert_ne!(order.last().map(|(id, _)| *id), Some(6), "it does not wait for the others");
}

#[tokio::test]
async fn a_child_that_is_killed_loses_what_is_in_memory_and_a_reload_and_a_drain_lose_nothing() {
    let nats = Nats::start().await;
    let node = Node::setup().set("welcome", false).nats(&nats).users().start().await;
    let first = worker(&nats, "stable", &[("--children", "1")]).await;
    let mut page = open(&node, "ann").await;
    assert_eq!(told(&mut page).await, state("open", ""));
    rpc(&mut page, "add", json!({"by": 7})).await;
    let seen = rpc(&mut page, "keep", json!(null)).await;
    assert_eq!(rpc(&mut page, "add", json!(null)).await["n"], 8);
    send(&seen["pid"], Signal::KILL);
    assert_eq!(told(&mut page).await, state("rebuilt", "lost"), "told without a call");
    let seen = rpc(&mut page, "peek", json!(null)).await;
    assert_eq!((&seen["n"], &seen["events"]), (&json!(7), &json!(["rebuilt lost"])), "from its state tree");
    assert_eq!(rpc(&mut page, "add", json!(null)).await["n"], 8);
    first.hang_up();
    assert_eq!(told(&mut page).await, state("restored", "recycle"));
    let reloaded = rpc(&mut page, "peek", json!(null)).await;
    assert_eq!(reloaded["n"], 8);
    assert_ne!(reloaded["pid"], seen["pid"]);
    let second = worker(&nats, "stable", &[("--children", "1")]).await;
    first.terminate();
    let (state, why) = told(&mut page).await;
    // the user may be assigned to the second one from its start on
    assert!(["drain", "moved"].contains(&why.as_deref().expect("a reason")), "{why:?}");
    assert_eq!(state, "restored", "moved without a call");
    let moved = rpc(&mut page, "add", json!(null)).await;
    assert_eq!(moved["n"], 9);
    assert_ne!(moved["pid"], reloaded["pid"]);
    drop(second);
}

#[tokio::test]
async fn a_worker_that_was_paused_and_replaced_has_no_effect_on_the_page_any_more() {
    let nats = Nats::start().await;
    let node = Node::setup().set("welcome", false).nats(&nats).users().start().await;
    let first = worker(&nats, "stable", &[("--children", "1")]).await;
    let mut page = open(&node, "ann").await;
    told(&mut page).await;
    rpc(&mut page, "add", json!({"by": 5})).await;
    rpc(&mut page, "keep", json!(null)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("go").to_str().expect("a path").to_owned();
    let late = json!({"file": file, "name": "n", "value": 666});
    page.send(json!({"type": "call", "id": 50, "method": "Counter.late", "params": late})).await;
    let begun = format!("{file}.begun");
    eventually("the method runs", SOON, async || std::fs::exists(&begun).expect("a folder").then_some(()))
        .await;
    first.pause();
    let _second = worker(&nats, "stable", &[("--children", "1")]).await;
    let seen = eventually("another worker has the object", SOON * 3, async || {
        let (status, value) = post(&node, page.id(), "peek", Some("ann"), Value::Null).await;
        status.is_success().then_some(value)
    })
    .await;
    assert_eq!((&seen["n"], &seen["events"]), (&json!(5), &json!(["rebuilt lost"])));
    first.wake();
    std::fs::write(&file, "").expect("a file");
    let outcome = eventually("the late write has an outcome", SOON, async || {
        std::fs::read_to_string(format!("{file}.outcome")).ok().filter(|outcome| !outcome.is_empty())
    })
    .await;
    assert_ne!(outcome, "written");
    let read = page.result(json!({"type": "get_data", "level": "page", "path": "n"})).await;
    assert_eq!(read["value"], 5, "the late write is refused");
}

#[tokio::test]
async fn objects_are_put_aside_by_the_limits_of_their_pool_and_come_back() {
    let keys = "free = 0\nassigned = 1\n[pool.pages]\nmax = 2\n";
    let node = Node::setup().set("welcome", false).file(&pool(keys)).users().start().await;
    let mut pages = Vec::new();
    for _ in 0..3 {
        let mut page = open(&node, "ann").await;
        told(&mut page).await;
        rpc(&mut page, "add", json!(null)).await;
        pages.push(page);
    }
    assert_eq!(rpc(&mut pages[0], "add", json!(null)).await["n"], 2);
    assert_eq!(told(&mut pages[0]).await, state("restored", "full"));
    let metrics = node.api().get("/metrics").await.1;
    for line in [
        "pagewire_resident_pages{class=\"Counter\"} 2",
        "pagewire_resident_page_changes_total{class=\"Counter\",change=\"opened\"} 3",
        "pagewire_resident_page_changes_total{class=\"Counter\",change=\"evicted\"} 2",
        "pagewire_resident_page_changes_total{class=\"Counter\",change=\"restored\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing");
    }
}

#[tokio::test]
async fn objects_of_a_child_that_needs_too_much_memory_are_put_aside() {
    let keys = "free = 0\nassigned = 1\n[pool.pages]\nmax_rss = \"1M\"\n";
    let node = Node::setup().set("welcome", false).file(&pool(keys)).users().start().await;
    let mut page = open(&node, "ann").await;
    told(&mut page).await;
    rpc(&mut page, "add", json!({"by": 4})).await;
    let evicted = "pagewire_resident_page_changes_total{class=\"Counter\",change=\"evicted\"}";
    eventually("it is put aside", SOON, async || (node.api().metric(evicted).await >= 1.0).then_some(()))
        .await;
    assert_eq!(rpc(&mut page, "add", json!(null)).await["n"], 5);
    assert_eq!(told(&mut page).await, state("restored", "memory"));
}

#[tokio::test]
async fn a_login_moves_the_object_to_its_user() {
    let node =
        Node::setup().set("welcome", false).file(&pool("free = 0\nassigned = 2")).users().start().await;
    let mut page = Page::opening(&node).with("resident", json!({"class": "Counter"})).open().await;
    told(&mut page).await;
    let before = rpc(&mut page, "add", json!({"by": 3})).await;
    assert_eq!(before["user"], Value::Null);
    page.send(json!({"type": "auth", "id": 77, "token": Token::of("ann").sign()})).await;
    assert_eq!(told(&mut page).await, state("restored", "user"));
    let after = rpc(&mut page, "add", json!(null)).await;
    assert_eq!((&after["n"], &after["user"]), (&json!(4), &json!("ann")));
}

/// Sets the weight of the canary. The salt is always the same, so that the bucket of ann is, too.
async fn set_canary(node: &Node, percent: f64) {
    let body = json!({"lanes": [{"name": "canary", "weight": percent}], "salt": "s"});
    let request = node.api().request(Method::PUT, "/api/v1/rollouts/default").header("if-match", "*");
    let response = request.json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
}

/// Starts a worker of a lane, whose children know their release.
async fn release(nats: &Nats, lane: &str, release: &str) -> WorkerProcess {
    let program = python_program("counters:app");
    let setup = WorkerProcess::running(nats, lane, &program).variable("PYTHONPATH", PATH);
    setup.variable("RELEASE", release).with("--release", release).with("--children", "1").start().await
}

#[tokio::test]
async fn old_pages_end_on_the_old_release_new_ones_begin_on_the_new_one_and_an_abort_moves_these() {
    let nats = Nats::start().await;
    let node = Node::setup().set("welcome", false).nats(&nats).users().start().await;
    let _workers = [release(&nats, "stable", "1").await, release(&nats, "canary", "2").await];
    node.api().sees_workers(2).await;
    set_canary(&node, 0.01).await;
    let mut old = open(&node, "ann").await;
    told(&mut old).await;
    let seen = rpc(&mut old, "add", json!({"by": 3})).await;
    assert_eq!((&seen["release"], &seen["n"]), (&json!("1"), &json!(3)));
    set_canary(&node, 100.0).await;
    let mut new = open(&node, "ann").await;
    told(&mut new).await;
    assert_eq!(rpc(&mut new, "add", json!({"by": 5})).await["release"], "2");
    let seen = rpc(&mut old, "add", json!(null)).await;
    assert_eq!((&seen["release"], &seen["n"]), (&json!("1"), &json!(4)), "the old page stays");
    let aborted = pagewire(&node, &["rollout", "abort", "default", "--lane", "canary"]).await;
    assert_eq!(aborted.code, 0, "{aborted:?}");
    assert_eq!(told(&mut new).await, state("restored", "lane"), "moved without a call");
    let seen = rpc(&mut new, "add", json!(null)).await;
    assert_eq!((&seen["release"], &seen["n"]), (&json!("1"), &json!(6)));
    let (status, seen) = post(&node, old.id(), "add", Some("ann"), Value::Null).await;
    assert_eq!((status, &seen["n"]), (StatusCode::OK, &json!(5)));
}
