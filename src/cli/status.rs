//! `pagewire status`: the cluster at a glance.

use clap::Args;
use serde_json::{Value, json};

use super::server::Server;
use super::{Failure, output};

/// Arguments of `status`.
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    server: Server,
}

impl Status {
    /// Prints counts and nodes.
    pub(super) async fn run(self) -> Result<(), Failure> {
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

fn describe(stats: &Value, nodes: &[Value]) -> String {
    let counts = ["users", "connections", "sessions", "pages"];
    let counts: Vec<String> = counts.iter().map(|name| format!("{} {name}", stats[*name])).collect();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let columns = ["node", "name", "lane", "release", "pages", "advertise"];
    let cell = |node: &Value, name: &str| match &node[name] {
        Value::Null => "-".to_owned(),
        value => text(value),
    };
    let rows: Vec<Vec<String>> =
        nodes.iter().map(|node| columns.iter().map(|name| cell(node, name)).collect()).collect();
    let titles = ["NODE", "NAME", "LANE", "RELEASE", "PAGES", "ADVERTISE"];
    format!("cluster {}: {}\n\n{}", text(&stats["cluster"]), counts.join(", "), output::table(&titles, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_first_and_each_node_has_its_line() {
        let stats = json!({"cluster": "main", "users": 1, "connections": 2, "sessions": 2, "pages": 3});
        let node =
            json!({"node": "p01", "lane": "stable", "release": "dev", "pages": 3, "advertise": "http://a"});
        assert_eq!(
            describe(&stats, &[node]),
            "cluster main: 1 users, 2 connections, 2 sessions, 3 pages\n\n\
             NODE  NAME  LANE    RELEASE  PAGES  ADVERTISE\n\
             p01   -     stable  dev      3      http://a"
        );
    }
}
