//! What `pagewire dev` shows when its nodes are ready: the address and the handlers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;

use super::super::api_client::{self, ApiClient};
use super::super::{CommandFailure, output};

/// Pause between two looks whether a node is ready.
const PAUSE: Duration = Duration::from_millis(50);
/// Time of a node to respond to such a look.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until all nodes are ready, then shows the address and the handlers; `own` are those of this program.
pub(super) async fn show(listen: SocketAddr, nodes: Vec<SocketAddr>, own: Vec<String>) {
    let executors = join_all(nodes.into_iter().map(executors)).await.into_iter().next().flatten();
    output::print(&format!("\n  http://{listen}"));
    if let Some(executors) = executors {
        output::print(&format!("  {}\n", summary(&executors, &own)));
    }
}

/// Waits until a node serves and each of its programs is ready or has failed. Returns its executors; `None` if it does
/// not show them without a key.
async fn executors(node: SocketAddr) -> Option<Value> {
    let client = ApiClient::of(format!("http://{node}"));
    loop {
        match client.get("/executors").await {
            Ok(executors) if is_settled(&executors) => return Some(executors),
            Ok(_) => {}
            Err(_) if needs_key(node).await.unwrap_or(false) => return None,
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns whether each program has a worker that serves its handlers, or shows why it has none.
fn is_settled(executors: &Value) -> bool {
    let workers: Vec<&Value> =
        list(&executors["items"]).iter().flat_map(|kind| list(&kind["executors"])).collect();
    list(&executors["pools"]).iter().all(|pool| {
        let serves = !list(&pool["children"]).is_empty()
            && workers.iter().any(|worker| worker["pool"] == pool["pool"]);
        serves || !pool["last_error"].is_null()
    })
}

/// Returns whether a node serves and refuses requests without a key.
async fn needs_key(node: SocketAddr) -> Result<bool, CommandFailure> {
    let request = api_client::client()?.get(format!("http://{node}/api/v1/executors"));
    let status = api_client::send(request, LOOK).await?.status();
    Ok(matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
}

/// Returns the handlers of the programs, and the pools whose program does not start, as text.
fn summary(executors: &Value, own: &[String]) -> String {
    let pools = list(&executors["pools"]);
    let names: BTreeSet<&str> = pools.iter().filter_map(|pool| pool["pool"].as_str()).collect();
    let workers = list(&executors["items"]).iter().flat_map(|kind| list(&kind["executors"]));
    let of_pools = workers.filter(|worker| worker["pool"].as_str().is_some_and(|pool| names.contains(pool)));
    let of_pools = of_pools.flat_map(|worker| list(&worker["methods"])).filter_map(Value::as_str);
    let methods: BTreeSet<&str> = of_pools.chain(own.iter().map(String::as_str)).collect();
    let without = |pool: &&Value| list(&pool["children"]).is_empty();
    match pools.iter().find(without).and_then(|pool| pool["pool"].as_str()) {
        Some(pool) => format!(
            "the program of the pool {pool} does not start: its output is above; a change and --reload, or the next \
             attempt, starts it again"
        ),
        None if methods.is_empty() && pools.is_empty() => "handlers: those of the welcome page".to_owned(),
        None => format!("handlers: {}", methods.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_handlers_are_named_once_and_a_pool_without_children_is_named_instead() {
        let executor = |methods: &[&str]| json!({"executors": [{"pool": "default", "methods": methods}]});
        let items = json!([{"kind": "inline", "methods": ["sum"]}, executor(&["b", "a"]), executor(&["a"])]);
        let ready = json!({"items": items, "pools": [{"pool": "default", "children": [{"pid": 1}]}]});
        assert_eq!(summary(&ready, &[]), "handlers: a, b");
        assert_eq!(summary(&json!({"items": []}), &[]), "handlers: those of the welcome page");
        assert_eq!(summary(&json!({"items": []}), &["c".to_owned()]), "handlers: c");
        let failing =
            json!({"items": [], "pools": [{"pool": "default", "children": [], "last_error": "exited"}]});
        assert!(summary(&failing, &[]).contains("pool default does not start"));
        assert!([&ready, &json!({"items": []}), &failing].into_iter().all(is_settled));
        let starting = json!({"items": items, "pools": [{"pool": "other", "children": []}]});
        assert!(!is_settled(&starting));
    }
}
