//! Durable jobs from a terminal.

use serde_json::{Value, json};

use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually, pagewire};

/// Returns the id at the start of the output.
fn id(out: &str) -> &str {
    out.split_whitespace().next().expect("an id")
}

#[tokio::test]
async fn a_job_is_submitted_and_followed_to_its_end() {
    let node = Node::start().await;
    let sleep = ["job", "submit", "sleep", r#"{"ms": 1500}"#, "--watch"];
    let output = pagewire(&node, &sleep).await;
    assert_eq!(output.code, 0, "{output:?}");
    let lines: Vec<&str> = output.out.lines().collect();
    let steps: Vec<u32> =
        lines.iter().filter_map(|line| line.trim().strip_suffix('%')?.parse().ok()).collect();
    assert!(steps.len() > 1 && steps.is_sorted(), "{output:?}");
    assert_eq!(steps.last(), Some(&100), "what has succeeded is done: {output:?}");
    let end: Vec<&str> = lines.iter().rev().take(2).copied().collect();
    assert_eq!(end, ["null", &format!("{} succeeded", id(&output.out))], "{output:?}");

    let output = pagewire(&node, &["job", "submit", "fail", "\"no paper\"", "--watch"]).await;
    assert_eq!(output.code, 1);
    assert!(output.err.contains("is failed: no paper (failed)"), "{output:?}");
    let watched = pagewire(&node, &["job", "watch", id(&output.out), "--json"]).await;
    assert_eq!((watched.code, id(&watched.out)), (1, "{"), "its record is one document: {watched:?}");
    let record: Value = serde_json::from_str(&watched.out).expect("JSON");
    assert_eq!(record["state"], "failed");
}

#[tokio::test]
async fn a_submission_says_what_it_wants() {
    let node = Node::start().await;
    let output = pagewire(&node, &["job", "submit", "sum", "[40, 2]", "--wait", "10000"]).await;
    assert!(output.code == 0 && output.out.contains("result     42"), "{output:?}");
    let submit = ["job", "submit", "echo", "--user", "ann", "--retries", "2", "--json"];
    let with = async |more: &[&str]| pagewire(&node, &[&submit, more].concat()).await;
    let job = with(&["--exec-mode", "any", "--pool", "gpu", "--idempotency-key", "k"]).await.json();
    for (member, value) in [
        ("user", json!("ann")),
        ("retries", json!(2)),
        ("exec_mode", json!("any")),
        ("pool", json!("gpu")),
        ("state", json!("queued")),
    ] {
        assert_eq!(job[member], value, "{job}");
    }
    let conflict = with(&["--pool", "cpu", "--idempotency-key", "k"]).await;
    assert!(conflict.code == 1 && conflict.err.contains("(conflict)"), "{conflict:?}");
    assert_eq!(with(&["--run-at", "tomorrow"]).await.code, 1);
    assert_eq!(with(&["--wait", "30001"]).await.code, 2);
    assert_eq!(pagewire(&node, &["job", "submit", "echo", "no json"]).await.code, 2);
}

#[tokio::test]
async fn jobs_are_shown_listed_cancelled_and_run_again() {
    let node = Node::start().await;
    let output = pagewire(&node, &["job", "submit", "sleep", r#"{"ms": 60000}"#]).await;
    assert_eq!(output.out.trim_end(), format!("{} queued", id(&output.out)), "{output:?}");
    let slow = id(&output.out);
    let failed =
        pagewire(&node, &["job", "submit", "fail", "--user", "ann", "--wait", "10000", "--json"]).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    let failed: Value = serde_json::from_str(&failed.out).expect("JSON");
    let failed = failed["id"].as_str().expect("an id");

    let got = pagewire(&node, &["job", "get", failed]).await;
    assert!(got.code == 0 && got.out.starts_with(&format!("job        {failed} failed")), "{got:?}");
    let list = async |more: &[&str]| pagewire(&node, &[&["job", "list"], more].concat()).await;
    let table = list(&[]).await.out;
    assert!(table.starts_with("JOB ") && table.contains(slow) && table.contains(failed), "{table}");
    for filter in [["--state", "failed,dead"], ["--kind", "fail"], ["--user", "ann"]] {
        let items = list(&[&filter[..], &["--json"]].concat()).await.json()["items"].clone();
        assert!(items.as_array().is_some_and(|items| items.len() == 1), "{items}");
        assert_eq!(items[0]["id"], failed);
    }
    let last = list(&["--limit", "1", "--json"]).await.json();
    assert_eq!(last["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(list(&["--state", "asleep"]).await.code, 1);

    let cancelled = pagewire(&node, &["job", "cancel", slow]).await;
    assert!(cancelled.code == 0 && cancelled.out.starts_with(slow), "{cancelled:?}");
    eventually("it is cancelled", SOON, async || {
        let job = pagewire(&node, &["job", "get", slow, "--json"]).await.json();
        (job["state"] == "cancelled").then_some(())
    })
    .await;
    let refused = pagewire(&node, &["job", "cancel", slow]).await;
    assert!(refused.code == 1 && refused.err.contains("this job is cancelled"), "{refused:?}");
    let again = pagewire(&node, &["job", "retry", failed]).await;
    assert_eq!((again.code, again.out.trim_end()), (0, format!("{failed} queued").as_str()));
    assert_eq!(pagewire(&node, &["job", "watch", failed]).await.code, 1);
    let unknown = pagewire(&node, &["job", "watch", "0000000000000000000000"]).await;
    assert!(unknown.code == 1 && unknown.err.contains("(unknown)"), "{unknown:?}");
}

#[tokio::test]
async fn who_watches_a_job_that_no_worker_can_run_is_told_and_goes_on_waiting() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let output = pagewire(&node, &["job", "submit", "echo", "7"]).await;
    assert_eq!(
        (output.code, output.err.as_str()),
        (0, "waiting: no worker serves pool default, lane stable\n")
    );
    let shown = pagewire(&node, &["job", "get", id(&output.out)]).await.out;
    assert!(shown.contains("waits      no worker serves pool default, lane stable"), "{shown}");
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagewire"));
    watch.args(["job", "watch", id(&output.out)]).env("PAGEWIRE_URL", node.url()).kill_on_drop(true);
    let mut watch = watch.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
    let watch = watch.as_mut().expect("a command");
    let mut remarks = tokio::io::BufReader::new(watch.stderr.take().expect("its remarks"));
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut remarks, &mut line).await.expect("a line");
    assert_eq!(line, "waiting: no worker serves pool default, lane stable\n");
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let mut out = String::new();
    let mut stdout = watch.stdout.take().expect("its output");
    tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut out).await.expect("its output");
    assert!(out.ends_with("succeeded\n7\n"), "{out}");
    let api = node.api().get_json(&format!("/api/v1/jobs/{}", id(&output.out))).await;
    assert!(api["waiting"].is_null(), "{api}");
}

#[tokio::test]
async fn a_watch_goes_on_when_its_node_comes_back() {
    let nats = Nats::start().await;
    let mut node = Node::setup().nats(&nats).start().await;
    let output = pagewire(&node, &["job", "submit", "echo", "7"]).await;
    let watched = ["job", "watch", id(&output.out)];
    let url = node.url();
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagewire"));
    watch.args(watched).env("PAGEWIRE_URL", url).kill_on_drop(true).stdout(std::process::Stdio::piped());
    let mut watch = watch.spawn().expect("a command");
    let mut out = tokio::io::BufReader::new(watch.stdout.take().expect("its output"));
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line).await.expect("a line");
    assert_eq!(line, format!("{} queued\n", id(&output.out)));
    node.kill();
    node.restart().await;
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut out, &mut rest).await.expect("its output");
    assert!(rest.ends_with("succeeded\n7\n"), "{rest}");
    assert!(watch.wait().await.expect("an end").success());
}

#[tokio::test]
async fn workers_are_listed_and_sent_away() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let mut worker = WorkerProcess::start(&nats, "canary").await;
    let listed = eventually("the worker is listed", SOON, async || {
        let list = pagewire(&node, &["workers", "--json"]).await.json();
        list["items"].get(0).cloned()
    })
    .await;
    let id = listed["worker"].as_str().expect("an id");
    let table = pagewire(&node, &["workers", "list"]).await;
    assert!(table.out.contains(id) && table.out.contains("canary"), "{table:?}");
    let drained = pagewire(&node, &["workers", "drain", id, "--json"]).await;
    assert_eq!(drained.json(), json!({"draining": true}));
    assert!(worker.exit(SOON).await.success());
    let gone = pagewire(&node, &["workers", "drain", "0000000000000000000000"]).await;
    assert!(gone.code == 1 && gone.err.contains("(unknown)"), "{gone:?}");
}
