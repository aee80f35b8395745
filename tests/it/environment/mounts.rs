//! Requests to the mounts of a node, and the processes of their applications.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{Node, SOON, eventually};

/// Returns the status and the body of an answer.
pub(crate) async fn get(node: &Node, path: &str) -> (StatusCode, String) {
    let response = node.api().request(Method::GET, path).send().await.expect("an answer");
    (response.status(), response.text().await.expect("a body"))
}

/// Waits until a mount is served.
pub(crate) async fn served(node: &Node, path: &str) {
    eventually("the mount is served", SOON * 2, async || (get(node, path).await.0 == 200).then_some(()))
        .await;
}

/// Waits until this many processes of the first mount are ready, and returns them.
pub(crate) async fn processes(node: &Node, count: usize) -> Vec<Value> {
    eventually(&format!("{count} processes are ready"), SOON * 2, async || {
        let pools = node.api().get_json("/api/v1/executors").await;
        let children = pools["pools"][0]["children"].as_array()?.iter();
        let ready: Vec<Value> = children.filter(|child| child["state"] == "ready").cloned().collect();
        (ready.len() == count).then_some(ready)
    })
    .await
}

/// Waits until this many processes of the first mount are there, and none of those before.
pub(crate) async fn replaced(node: &Node, count: usize, before: &[Value]) {
    eventually("all processes are new", SOON * 2, async || {
        let children = node.api().get_json("/api/v1/executors").await["pools"][0]["children"].clone();
        let children = children.as_array()?.clone();
        let is_new = |child: &Value| before.iter().all(|old| old["pid"] != child["pid"]);
        (children.len() == count && children.iter().all(is_new)).then_some(())
    })
    .await;
}

/// Sends requests from four clients until `until` has ended, each second one with a body. Returns their statuses.
pub(crate) async fn under_load(node: &Node, until: impl Future<Output = ()>) -> Vec<StatusCode> {
    let (done, ended) = tokio::sync::watch::channel(false);
    let client = async || {
        let mut statuses = Vec::new();
        while !*ended.borrow() {
            let request = match statuses.len() % 2 {
                0 => node.api().request(Method::GET, "/environ"),
                _ => node.api().request(Method::POST, "/upload").body("x".repeat(20_000)),
            };
            let response = request.send().await.expect("an answer");
            statuses.push(response.status());
            let whole = response.bytes().await;
            assert!(whole.is_ok(), "an answer is cut");
        }
        statuses
    };
    let clients = join_all((0..4).map(|_| client()));
    let (statuses, ()) = futures_util::join!(clients, async {
        until.await;
        done.send_replace(true);
    });
    statuses.concat()
}
