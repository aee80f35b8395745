//! Measures a weight change: from the request until every node of a cluster, and every worker of the pool, has applied it.

use std::io;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use crate::cluster::WorkerProcess;
use crate::cpu_affinity::Cores;
use crate::nats::Nats;
use crate::report::{Report, progress, quantile};
use crate::server::Node;

/// The pool whose weight changes.
const POOL: &str = "bench";
/// Number of changes before the first measurement.
const WARM_UP: u64 = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of nodes in the cluster.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=99))]
    nodes: u64,
    /// Number of workers of the pool, which are processes of their own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=99))]
    workers: u64,
    /// Number of changes in one run.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    changes: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// The response of the node that received the change.
#[derive(Deserialize)]
struct Changed {
    applied: Applied,
}

#[derive(Deserialize)]
struct Applied {
    nodes: u64,
    of: u64,
    of_workers: u64,
    took_ms: Option<f64>,
}

/// Milliseconds of each change.
#[derive(Default)]
struct Times {
    /// By the clock of the receiving node: from publishing the change to the last node's confirmation.
    applied: Vec<f64>,
    /// By the clock of the operator: from the request to its response.
    responded: Vec<f64>,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let cores = Cores::find()?;
    let nats = Nats::start(options.nats.as_deref()).await?;
    let first = Node::start(Some(&nats), cores.server).await?;
    let mut others = Vec::new();
    for _ in 1..options.nodes {
        others.push(first.neighbour(cores.server).await?);
    }
    first.sees_nodes(options.nodes).await?;
    let start = |_| WorkerProcess::start(first.cluster(), POOL, 1, cores.server);
    let workers: Vec<_> = (0..options.workers).map(start).collect::<io::Result<_>>()?;
    first.sees_workers(options.workers).await?;
    measure(&first, &options, WARM_UP).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(measure(&first, &options, options.changes).await?);
    }
    progress("");
    for worker in workers {
        worker.stop().await?;
    }
    for node in others.into_iter().chain([first]) {
        node.stop().await?;
    }
    Ok(report(&options, &mut runs))
}

async fn measure(node: &Node, options: &Options, changes: u64) -> io::Result<Times> {
    let mut times = Times::default();
    for change in 0..changes {
        let body = json!({"lanes": [{"name": "canary", "weight": change % 101}], "force": true});
        let started = Instant::now();
        let Changed { applied } = node.put(&format!("/rollouts/{POOL}"), &body).await?;
        times.responded.push(started.elapsed().as_secs_f64() * 1e3);
        let all = applied.of == options.nodes && applied.of_workers == options.workers;
        match applied.took_ms.filter(|_| all) {
            Some(ms) => times.applied.push(ms),
            None => {
                let Applied { nodes, of, of_workers, .. } = applied;
                let problem =
                    format!("a change was applied by {nodes} of {of} nodes, with {of_workers} workers");
                return Err(io::Error::other(problem));
            }
        }
    }
    Ok(times)
}

fn report(options: &Options, runs: &mut [Times]) -> Report {
    let mut report = Report::new(format!(
        "Weights: {} changes one after the other, each applied by {} nodes and {} workers on one NATS server",
        options.changes, options.nodes, options.workers
    ));
    let mut row = |name: &str, percent, of: fn(&mut Times) -> &mut Vec<f64>| {
        let runs: Vec<_> = runs.iter_mut().map(|times| quantile(of(times), percent)).collect();
        report.row(name, "ms", &runs);
    };
    row("applied by all, p50", 50, |times| &mut times.applied);
    row("applied by all, p99", 99, |times| &mut times.applied);
    row("HTTP response, p50", 50, |times| &mut times.responded);
    row("HTTP response, p99", 99, |times| &mut times.responded);
    report
}
