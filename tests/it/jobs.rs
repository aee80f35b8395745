//! Jobs of pages: durable from `accepted` on, with exactly one end, which reaches its page.

use serde_json::{Value, json};

use crate::environment::{Away, Nats, Node, Page, SOON, WorkerProcess, eventually};

fn job(id: &str, kind: &str, data: Value) -> Value {
    json!({"type": "job", "id": id, "kind": kind, "data": data})
}

/// Reads until the terminal frame of a job. Returns all frames about it, in order.
async fn until_end(page: &mut Page, id: &str) -> Vec<Value> {
    let mut frames = Vec::new();
    loop {
        let frame = page.next().await;
        if frame["id"] != json!(id) {
            continue;
        }
        let kind = frame["type"].as_str().expect("a type").to_owned();
        frames.push(frame);
        if matches!(kind.as_str(), "result" | "error") {
            return frames;
        }
    }
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["type"].as_str()).collect()
}

/// Resumes a page, with the jobs that it waits for.
async fn come_back(away: &Away, node: &Node, pending: &[&str]) -> Page {
    away.resuming(node).with("pending", json!(pending)).open().await
}

#[tokio::test]
async fn a_node_alone_runs_the_jobs_of_its_pages() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    page.send(job("a", "sum", json!([40, 2]))).await;
    let frames = until_end(&mut page, "a").await;
    assert_eq!(kinds(&frames), ["accepted", "result"]);
    let end = &frames[1];
    assert_eq!(
        (&end["state"], &end["value"], &end["job"]),
        (&json!("succeeded"), &json!(42), &frames[0]["job"])
    );
    page.send(job("b", "fail", json!("out of paper"))).await;
    let frames = until_end(&mut page, "b").await;
    let end = &frames[1];
    assert_eq!((&end["state"], &end["error"]["message"]), (&json!("failed"), &json!("out of paper")));
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_page_sees_how_far_its_job_has_come_and_can_cancel_it() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    page.send(job("slow", "sleep", json!({"ms": 60_000}))).await;
    page.expect("accepted").await;
    assert!(page.expect("progress").await["progress"].as_f64().is_some_and(|progress| progress < 0.5));
    page.send(json!({"type": "cancel", "id": "slow"})).await;
    let frames = until_end(&mut page, "slow").await;
    let end = frames.last().expect("an end");
    assert_eq!((&end["type"], &end["state"]), (&json!("result"), &json!("cancelled")));
    page.send(json!({"type": "cancel", "id": "slow"})).await;
    page.send(json!({"type": "cancel", "id": "never heard of"})).await;
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_page_can_take_a_call_back() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "call", "id": 7, "method": "sleep", "params": {"ms": 60_000}})).await;
    page.send(json!({"type": "cancel", "id": 7})).await;
    let error = page.expect("error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!(7), &json!("cancelled")));
}

#[tokio::test]
async fn a_job_that_is_not_allowed_is_refused_before_it_is_accepted() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    for (bad, code) in [
        (json!({"type": "job", "kind": ""}), "malformed"),
        (json!({"type": "job", "kind": "echo", "exec_mode": "inline"}), "malformed"),
        (json!({"type": "job", "kind": "echo", "run_at": "tomorrow"}), "malformed"),
        (json!({"type": "job", "kind": "echo", "retries": -1}), "malformed"),
        (json!({"type": "job", "kind": "echo", "pool": "*"}), "malformed"),
    ] {
        assert_eq!(page.error(bad).await, code);
    }
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn the_same_idempotency_key_of_one_user_is_one_job_and_every_page_hears_of_it() {
    let node = Node::start().await;
    let mut first = Page::open(&node).await;
    let mut second = Page::opening(&node).same_browser(&first).open().await;
    let keyed = |id: &str| {
        let mut frame = job(id, "sleep", json!({"ms": 400}));
        frame["idempotency_key"] = json!("once");
        frame
    };
    first.send(keyed("a")).await;
    let job = first.expect("accepted").await["job"].clone();
    second.send(keyed("b")).await;
    assert_eq!(second.expect("accepted").await["job"], job);
    for (page, id) in [(&mut first, "a"), (&mut second, "b")] {
        assert_eq!(until_end(page, id).await.last().expect("an end")["state"], "succeeded");
    }
    second.send(keyed("c")).await;
    assert_eq!(kinds(&until_end(&mut second, "c").await), ["accepted", "result"], "even after its end");
    let mut other = keyed("d");
    other["data"] = json!({"ms": 1});
    second.send(other).await;
    assert_eq!(second.expect("error").await["code"], "conflict");
}

#[tokio::test]
async fn a_page_that_was_away_is_told_the_end_once() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    page.send(job("a", "sleep", json!({"ms": 300}))).await;
    let id = page.expect("accepted").await["job"].clone();
    let away = page.lose_socket();
    let api = node.api();
    eventually("the job has ended", SOON, async || {
        let count = r#"pagewire_jobs_total{kind="sleep",exec="local_free",outcome="succeeded"} 1"#;
        api.get("/metrics").await.1.contains(count).then_some(())
    })
    .await;
    let mut page = come_back(&away, &node, &["a", "never heard of"]).await;
    assert_eq!(page.recovered(), "recovered");
    let mut ends = 0;
    loop {
        let frame = page.next().await;
        match frame["type"].as_str() {
            Some("result") => {
                assert_eq!(frame["job"], id);
                ends += 1;
            }
            // the page named this id last
            Some("error") => {
                assert_eq!((&frame["id"], &frame["code"]), (&json!("never heard of"), &json!("uncertain")));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(ends, 1);
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_job_survives_kill_9_of_its_worker() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let mut worker = WorkerProcess::start(&nats, "stable").await;
    let mut page = Page::open(&node).await;
    page.send(job("a", "sleep", json!({"ms": 2000}))).await;
    page.expect("accepted").await;
    page.expect("progress").await;
    worker.kill();
    let _next = WorkerProcess::start(&nats, "stable").await;
    let frames = until_end(&mut page, "a").await;
    assert_eq!(frames.last().expect("an end")["state"], "succeeded");
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn the_end_of_a_job_finds_its_page_at_another_node() {
    let nats = Nats::start().await;
    let (first, second) = (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let mut page = Page::open(&first).await;
    page.send(job("a", "sleep", json!({"ms": 1500}))).await;
    page.expect("accepted").await;
    let away = page.lose_socket();
    let mut page = come_back(&away, &second, &["a"]).await;
    assert_eq!((page.recovered(), page.node()), ("recovered", second.number().await.as_str()));
    let frames = until_end(&mut page, "a").await;
    assert_eq!(frames.last().expect("an end")["state"], "succeeded");
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_page_whose_node_died_is_told_how_its_jobs_stand() {
    let nats = Nats::start().await;
    let (mut first, second) =
        (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let mut page = Page::open(&first).await;
    page.send(job("over", "sum", json!([1, 2]))).await;
    until_end(&mut page, "over").await;
    page.send(job("running", "sleep", json!({"ms": 8000}))).await;
    page.expect("accepted").await;
    let away = page.lose_socket();
    first.kill();
    // only the client knows whether it has seen an end: it names the jobs that it waits for
    let mut page = eventually("the page comes back", SOON, async || {
        away.resuming(&second).with("pending", json!(["over", "running"])).try_open().await.ok()
    })
    .await;
    assert_eq!(page.recovered(), "reset");
    assert_eq!(page.expect("result").await["value"], 3);
    let accepted = page.expect("accepted").await;
    assert_eq!(accepted["id"], "running");
    let frames = until_end(&mut page, "running").await;
    assert_eq!(frames.last().expect("an end")["state"], "succeeded");
}

#[tokio::test]
async fn a_job_waits_for_a_worker_and_a_call_does_not() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let mut page = Page::open(&node).await;
    page.send(job("a", "hash", json!({"text": "a", "rounds": 20_000}))).await;
    page.expect("accepted").await;
    assert_eq!(page.error(json!({"type": "call", "method": "echo", "pool": "gpu"})).await, "no_executor");
    assert_eq!(page.result(json!({"type": "call", "method": "echo", "params": 1})).await, 1, "inline");
    let _worker = WorkerProcess::start(&nats, "stable").await;
    assert_eq!(until_end(&mut page, "a").await.last().expect("an end")["state"], "succeeded");
    eventually("calls go to the worker, too", SOON, async || {
        page.result(json!({"type": "call", "method": "echo"})).await;
        let counted = r#"pagewire_calls_total{kind="echo",exec="remote_free",outcome="ok"}"#;
        node.api().get("/metrics").await.1.contains(counted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_page_whose_node_stood_still_is_told_afterwards_how_its_job_ended() {
    let nats = Nats::start().await;
    let (still, other) = (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let mut page = Page::open(&still).await;
    page.send(job("a", "sleep", json!({"ms": 1000}))).await;
    let job = page.expect("accepted").await["job"].as_str().expect("an id").to_owned();
    still.pause();
    // the others count the node as dead, and nothing can notify its page
    eventually("the job has ended and the node is gone", SOON, async || {
        let record = other.api().get_json(&format!("/api/v1/jobs/{job}")).await;
        let nodes = other.api().get_json("/api/v1/nodes").await;
        (record["state"] == "succeeded" && nodes["items"].as_array()?.len() == 1).then_some(())
    })
    .await;
    still.wake();
    let frames = until_end(&mut page, "a").await;
    assert_eq!(frames.last().expect("an end")["state"], "succeeded");
    page.has_nothing_to_read().await;
}
