//! The Python handlers of the tests, and the package of the tree that runs them.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::worker::WorkerSetup;
use super::{Api, Nats, SOON, WorkerProcess, eventually};

/// The folder of the package.
pub(crate) const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/src");

/// The command of the children.
const COMMAND: [&str; 4] = python_program("ways:app");

/// Returns the command of children that run an application.
pub(crate) const fn python_program(app: &str) -> [&str; 4] {
    ["python3", "-m", "pagewire", app]
}

/// The folders of the package and of the handlers, for PYTHONPATH.
pub(crate) const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/clients/python/src:",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/children"
);

/// Returns a pool whose children run the handlers, with more keys.
pub(crate) fn python_pool(keys: &str) -> String {
    let path = json!(PATH);
    format!(
        "[[pool]]\nname = \"default\"\ncommand = {}\nenv = {{ PYTHONPATH = {path} }}\n{keys}\n",
        json!(COMMAND)
    )
}

/// Configures a worker whose children run the handlers.
pub(crate) fn python_worker(nats: &Nats, lane: &str) -> WorkerSetup {
    WorkerProcess::running(nats, lane, &COMMAND).variable("PYTHONPATH", PATH)
}

/// Returns what a handler sees that runs for a user; `None` while it is not served.
pub(crate) async fn who(api: &Api, user: Option<&str>) -> Option<Value> {
    let body = json!({"method": "who", "user": user});
    let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.ok()?;
    response.status().is_success().then_some(())?;
    response.json().await.ok()
}

/// Waits until that many children serve, and returns their processes.
pub(crate) async fn children(api: &Api, count: usize) -> Vec<Value> {
    eventually(&format!("{count} children serve"), SOON * 2, async || {
        let seen = join_all((0..4 * count).map(|_| who(api, None))).await;
        let pids: BTreeSet<u64> = seen.into_iter().flatten().filter_map(|who| who["pid"].as_u64()).collect();
        (pids.len() == count).then(|| pids.into_iter().map(Value::from).collect())
    })
    .await
}

/// Calls a handler again and again, for three users and for none, until `until` has ended. Each call must succeed. Returns
/// how many there were.
pub(crate) async fn under_load(api: &Api, until: impl Future<Output = ()>) -> usize {
    let (done, ended) = tokio::sync::watch::channel(false);
    let caller = async |user: Option<&str>| {
        let mut calls = 0;
        while !*ended.borrow() {
            let body = json!({"method": "echo", "params": [calls], "user": user});
            let request = api.request(Method::POST, "/api/v1/calls").json(&body);
            let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
            assert_eq!(answer, json!(calls), "for {user:?}");
            calls += 1;
        }
        calls
    };
    let callers = join_all([None, Some("ann"), Some("bob"), Some("cleo")].map(caller));
    let stop = async {
        until.await;
        done.send_replace(true);
    };
    let (counts, ()) = futures_util::join!(callers, stop);
    counts.into_iter().sum()
}
