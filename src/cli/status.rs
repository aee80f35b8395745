//! `pagewire status`: prints a summary of the cluster.

use clap::Args;
use serde_json::{Value, json};

use super::CommandFailure;
use super::api_client::ApiClient;
use super::output::{self, plain};
use super::users::rows;

/// Arguments of `status`.
#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    server: ApiClient,
}

impl StatusArgs {
    /// Prints the counts and the nodes.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let stats = self.server.get("/stats").await?;
        let nodes = self.server.get("/nodes").await?;
        if self.server.json {
            output::print_json(&json!({"stats": stats, "nodes": nodes["items"]}));
        } else {
            output::print(&describe(&stats, nodes["items"].as_array().map_or(&[], Vec::as_slice)));
        }
        Ok(())
    }
}

const LEVELS: [&str; 4] = ["users", "connections", "sessions", "pages"];

fn describe(stats: &Value, nodes: &[Value]) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), plain);
    let count = |name: &str, of: &str| output::count(stats[name].as_u64().unwrap_or_default(), of);
    let counts: Vec<String> = LEVELS.iter().map(|name| count(name, name.trim_end_matches('s'))).collect();
    let idle = [count("idle_sessions", "session"), count("idle_connections", "connection")].join(", ");
    // combines a node's own report with the counts of its pages
    let node = |node: &Value| {
        let counted =
            stats["nodes"].as_array().into_iter().flatten().find(|other| other["node"] == node["node"]);
        let mut merged = node.clone();
        for level in LEVELS {
            merged[level] = counted.map_or(Value::Null, |counted| counted[level].clone());
        }
        merged
    };
    let warnings = output::clock_warnings(nodes, "node");
    let nodes = json!({"items": nodes.iter().map(node).collect::<Vec<_>>()});
    let lanes = json!({"items": stats["lanes"]});
    let by_node = table(&["node", "name", "lane", "release"], &["offset_ms", "advertise"], &nodes);
    let by_lane = table(&["lane", "release", "nodes"], &[], &lanes);
    let cluster = text(&stats["cluster"]);
    let head = format!("cluster {cluster}: {}\nidle: {idle}", counts.join(", "));
    format!("{head}{}\n\n{by_node}{warnings}\n\n{by_lane}", held_up(stats))
}

/// Formats the waiting jobs that no worker can run, one line per pool, lane and mode.
fn held_up(stats: &Value) -> String {
    let groups = stats["waiting_jobs"].as_array().into_iter().flatten();
    let line = |group: &Value| {
        let reason = group["waiting"]["message"].as_str().map(plain)?;
        let jobs = output::count(group["jobs"].as_u64().unwrap_or_default(), "job");
        let [mode, pool, lane] =
            ["exec_mode", "pool", "lane"].map(|name| group[name].as_str().map(plain).unwrap_or_default());
        Some(format!(
            "\nwaiting: {jobs} ({mode}) of pool {pool}, lane {lane}, for up to {} s: {reason}",
            group["oldest_s"]
        ))
    };
    groups.filter_map(line).collect()
}

fn table(before: &[&str], behind: &[&str], list: &Value) -> String {
    let columns: Vec<&str> = before.iter().chain(&LEVELS).chain(behind).copied().collect();
    let titles: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
    output::table(&titles.iter().map(String::as_str).collect::<Vec<_>>(), &rows(list, &columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_first_and_each_node_and_lane_has_its_line() {
        let counts = json!({"users": 1, "connections": 2, "sessions": 2, "pages": 3});
        let with = |mut value: Value| {
            for level in LEVELS {
                value[level] = counts[level].clone();
            }
            value
        };
        let stats = with(json!({
            "cluster": "main", "idle_sessions": 4, "idle_connections": 5,
            "nodes": [with(json!({"node": "p01"}))],
            "waiting_jobs": [
                {"pool": "p", "lane": "l", "exec_mode": "any", "jobs": 2, "oldest_s": 7, "waiting": {"message": "why"}},
                {"pool": "p", "lane": "l", "exec_mode": "assigned", "jobs": 1, "oldest_s": 0},
            ],
            "lanes": [with(json!({"lane": "stable", "release": "dev", "nodes": 1}))],
        }));
        let node = json!({"node": "p01", "lane": "stable", "release": "dev", "offset_ms": 2001, "advertise": "http://a"});
        assert_eq!(
            describe(&stats, &[node]),
            "cluster main: 1 user, 2 connections, 2 sessions, 3 pages\nidle: 4 sessions, 5 connections\n\
             waiting: 2 jobs (any) of pool p, lane l, for up to 7 s: why\n\n\
             NODE  NAME  LANE    RELEASE  USERS  CONNECTIONS  SESSIONS  PAGES  OFFSET_MS  ADVERTISE\n\
             p01   -     stable  dev      1      2            2         3      2001       http://a\n\
             warning: the clock of node p01 is 2.0 s ahead of the clock of the cluster\n\n\
             LANE    RELEASE  NODES  USERS  CONNECTIONS  SESSIONS  PAGES\n\
             stable  dev      1      1      2            2         3"
        );
    }
}
