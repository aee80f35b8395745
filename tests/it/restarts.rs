//! A single node with a data directory: everything it has confirmed survives any end of its process.

use std::collections::BTreeSet;
use std::fs;

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::environment::{Away, Node, Page, SOON, Setup, pagewire};

const PAGES: usize = 8;
/// Jobs of one page: some have ended, some run and some wait when the node is killed.
const JOBS: usize = 25;

fn keeping(directory: &TempDir) -> Setup {
    Node::setup().set("data_dir", directory.path().display())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Submits jobs one after the other and reads until the node is killed. Returns the page's state and the ids of its
/// accepted jobs.
async fn request_until_the_end(mut page: Page, promises: mpsc::UnboundedSender<()>) -> (Away, Vec<String>) {
    let mut promised = Vec::new();
    let job = |number: usize| json!({"type": "job", "id": format!("job-{number}"), "kind": "sleep", "data": {"ms": 300}});
    page.send(job(0)).await;
    while let Ok(frame) = page.next_or_end().await {
        if frame["type"] != "accepted" {
            continue;
        }
        promised.push(frame["id"].as_str().expect("an id").to_owned());
        // an error means that the test has ended
        let _ = promises.send(());
        if promised.len() < JOBS {
            page.send(job(promised.len())).await;
        }
    }
    (page.memory(), promised)
}

#[tokio::test]
async fn every_job_that_was_accepted_before_kill_9_is_done_after_the_restart() {
    let directory = folder();
    let mut node = keeping(&directory).start().await;
    let (promises, mut first_requests) = mpsc::unbounded_channel();
    let mut pages = Vec::new();
    for _ in 0..PAGES {
        pages.push(tokio::spawn(request_until_the_end(Page::open(&node).await, promises.clone())));
    }
    for _ in 0..PAGES * JOBS / 2 {
        first_requests.recv().await.expect("pages ask");
    }
    node.kill();
    node.restart().await;
    for page in pages {
        let (away, promised) = page.await.expect("no panic");
        let mut page = away.resuming(&node).with("pending", json!(promised)).open().await;
        assert_eq!(page.recovered(), "reset");
        let mut open: BTreeSet<_> = promised.into_iter().collect();
        while !open.is_empty() {
            let frame = page.next().await;
            if frame["type"] == "result" {
                assert_eq!(frame["state"], "succeeded", "{frame}");
                open.remove(frame["id"].as_str().expect("an id"));
            } else {
                assert_ne!(frame["type"], "error", "{frame}");
            }
        }
    }
}

#[tokio::test]
async fn with_a_directory_pages_come_back_as_a_reset_however_their_node_ended() {
    let directory = folder();
    let mut node = keeping(&directory).start().await;
    let page = Page::open(&node).await;
    let (id, session) = (page.id().to_owned(), page.session().to_owned());
    let mut away = page.lose_socket();
    for ending in ["kill -9", "SIGTERM"] {
        if ending == "SIGTERM" {
            node.terminate();
            assert_eq!(node.exit(SOON).await.code(), Some(0));
        } else {
            node.kill();
        }
        node.restart().await;
        let page = away.resume(&node).await;
        assert_eq!(
            (page.recovered(), page.id(), page.session()),
            ("reset", id.as_str(), session.as_str()),
            "after {ending}"
        );
        away = page.lose_socket();
    }
}

/// Returns a state tree and its revision.
async fn tree(node: &Node, method: Method, body: &str) -> (String, HeaderValue) {
    let request =
        node.api().request(method, "/api/v1/users/ann/data").header("content-type", "application/json");
    let response = request.body(body.to_owned()).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let tag = response.headers().get("etag").expect("a revision").clone();
    (response.text().await.expect("a body"), tag)
}

#[tokio::test]
async fn state_trees_and_decisions_of_operators_stand_after_kill_9() {
    let directory = folder();
    let mut node = keeping(&directory).start().await;
    tree(&node, Method::PUT, r#"{"form": {"name": "ann"}}"#).await;
    assert_eq!(pagewire(&node, &["rollout", "set-weight", "default", "canary=10", "--force"]).await.code, 0);
    let history = ["rollout", "history", "default", "--json"];
    let before = (tree(&node, Method::GET, "").await, pagewire(&node, &history).await.json());
    node.kill();
    node.restart().await;
    assert_eq!((tree(&node, Method::GET, "").await, pagewire(&node, &history).await.json()), before);
    let (_, next) = tree(&node, Method::PUT, r#"{"form": {"name": "bob"}}"#).await;
    assert_ne!(next, before.0.1, "a revision comes once");
}

#[tokio::test]
async fn a_directory_has_one_process_and_the_second_one_names_it() {
    let directory = folder();
    let first = keeping(&directory).start().await;
    let mut second = keeping(&directory).launch();
    let status = second.exit(SOON).await;
    assert_ne!(status.code(), Some(0));
    let log = second.log();
    assert!(log.contains(&format!("in use by process {}", first.pid())), "{log}");
    assert!(log.contains(&*directory.path().to_string_lossy()), "{log}");
    Page::open(&first).await.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_damaged_directory_stops_the_start_and_stays_as_it_is() {
    let directory = folder();
    let store = directory.path().join("pagewire.1.redb");
    fs::write(&store, "not a data directory").expect("a file");
    let mut node = keeping(&directory).launch();
    assert_ne!(node.exit(SOON).await.code(), Some(0));
    let log = node.log();
    assert!(log.contains("cannot be read and was left as it is"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(fs::read(&store).expect("the file"), b"not a data directory");
}

#[tokio::test]
async fn the_log_says_whether_anything_is_kept() {
    let node = Node::start().await;
    assert!(node.log().contains("is lost when this process exits"), "{}", node.log());
    let directory = folder();
    let mut node = keeping(&directory).start().await;
    let log = node.log();
    assert!(log.contains("embedded engine with a data directory") && log.contains("\"rows\":0"), "{log}");
    assert!(log.contains(&*directory.path().to_string_lossy()), "{log}");
    let _page = Page::open(&node).await;
    node.kill();
    node.restart().await;
    let log = node.log();
    let found: u64 = log
        .rsplit_once("\"rows\":")
        .and_then(|(_, rest)| rest.split_once(|next: char| !next.is_ascii_digit()))
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or_else(|| panic!("{log}"));
    assert!(found > 0, "{log}");
}
