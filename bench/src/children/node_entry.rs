//! Calls of Python handlers through the server API of a node, beside a handler of the node itself.
//!
//! Owns: the node with its pools, and the connections to it. Never: what is compared with a bare loop.

use std::io;

use serde_json::value::RawValue;
use tempfile::TempDir;
use toml::{Table, Value};

use super::supervised::Application;
use super::{Program, SLOTS, Style};
use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::helper_protocol::HelperRequest;
use crate::plan::Plan;
use crate::report::{Report, Times};
use crate::scratch::{scratch_directory, until};
use crate::server::Node;

/// The handler of the node itself, without a child.
const IN_PROCESS: &str = "in_process";

/// A node with a pool for each style and one without children.
pub(super) struct NodeEntry {
    node: Node,
    clients: Clients,
    in_flight: u64,
    _applications: Vec<Application>,
    _directory: TempDir,
}

/// Calls of one pool.
pub(super) struct NodeSample {
    pool: &'static str,
    alone: Times,
    rate: f64,
}

impl NodeEntry {
    /// Starts the node and waits until all of its pools serve.
    pub(super) async fn start(program: &Program, in_flight: u64) -> io::Result<Self> {
        let directory = scratch_directory()?;
        let file = directory.path().join("pagewire.toml");
        let applications = Style::ALL.map(|style| Application::write(program, style));
        let applications = applications.into_iter().collect::<io::Result<Vec<_>>>()?;
        std::fs::write(&file, configuration(&applications).to_string())?;
        let settings = [("PAGEWIRE_CONFIG", file.to_string_lossy())];
        let settings = settings.each_ref().map(|(name, value)| (*name, &**value));
        let node = Node::with(&Cluster::new(None), None, &settings).await?;
        let clients = Clients::none(None)?;
        let entry = Self { node, clients, in_flight, _applications: applications, _directory: directory };
        for pool in pools() {
            let body = serde_json::json!({"method": "echo", "pool": pool, "params": {"text": ""}});
            let served = async || Ok(entry.node.post::<serde_json::Value>("/calls", &body).await.is_ok());
            until("the pools of the node", served).await?;
        }
        Ok(entry)
    }

    /// Measures each pool with both plans.
    pub(super) async fn measure(
        &mut self,
        params: &RawValue,
        [alone, together]: [Plan; 2],
    ) -> io::Result<Vec<NodeSample>> {
        let mut samples = Vec::new();
        for pool in pools() {
            let body = format!(r#"{{"method":"echo","pool":"{pool}","exec_mode":"any","params":{params}}}"#);
            let post = |times| HelperRequest::Post {
                path: "/api/v1/calls".to_owned(),
                body: body.clone(),
                api_key: self.node.api_key.clone(),
                times,
                users: 1,
                rate: None,
            };
            let (alone, together) = (post(alone.pieces), post(together.pieces));
            self.clients.connect(self.node.address, 1).await?;
            let (_, times) = self.clients.post(&alone).await?;
            self.clients.connect(self.node.address, self.in_flight).await?;
            let (seconds, _) = self.clients.post(&together).await?;
            let HelperRequest::Post { times: calls, .. } = together else { continue };
            samples.push(NodeSample { pool, alone: times, rate: calls as f64 / seconds });
        }
        Ok(samples)
    }

    /// Stops the node.
    pub(super) async fn stop(self) -> io::Result<()> {
        self.node.stop().await
    }
}

fn pools() -> impl Iterator<Item = &'static str> {
    [IN_PROCESS].into_iter().chain(Style::ALL.map(Style::name))
}

/// Returns the configuration of the node: one child for each style.
fn configuration(applications: &[Application]) -> Table {
    let text = |text: &str| Value::String(text.to_owned());
    let number = |number: u32| Value::Integer(number.into());
    let in_process = Table::from_iter([("name".to_owned(), text(IN_PROCESS))]);
    let children = Style::ALL.into_iter().zip(applications).map(|(style, application)| {
        let env = application.env.iter().map(|(name, value)| (name.clone(), text(value)));
        let command = application.command.iter().map(|word| text(word)).collect();
        Table::from_iter([
            ("name".to_owned(), text(style.name())),
            ("command".to_owned(), Value::Array(command)),
            ("env".to_owned(), Value::Table(env.collect())),
            ("free".to_owned(), number(1)),
            ("assigned".to_owned(), number(0)),
            ("slots".to_owned(), number(SLOTS)),
        ])
    });
    let pools = [in_process].into_iter().chain(children).map(Value::Table).collect();
    Table::from_iter([("pool".to_owned(), Value::Array(pools))])
}

/// Adds the rows of all pools.
pub(super) fn report(report: &mut Report, runs: &[Vec<NodeSample>]) {
    for (index, pool) in pools().enumerate() {
        let of = |part: fn(&NodeSample) -> f64| -> Vec<f64> {
            runs.iter().filter_map(|run| run.get(index)).map(part).collect()
        };
        debug_assert!(runs.iter().all(|run| run[index].pool == pool), "the order of the pools");
        report.row(format!("POST /calls, {pool}, p50"), "µs", &of(|sample| sample.alone.p50_us));
        report.row(format!("POST /calls, {pool}, p99"), "µs", &of(|sample| sample.alone.p99_us));
        report.row(format!("POST /calls, {pool}"), "calls/s", &of(|sample| sample.rate));
    }
}
