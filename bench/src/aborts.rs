//! Measures an abort while no stream has a leader: from the request until every process of a cluster has applied it.
//!
//! All processes are connected to one of three NATS servers, and the other two stand still meanwhile, so that nothing is stored.

use std::io;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::POOL;
use crate::cluster::{Cluster, WorkerProcess};
use crate::cpu_affinity::Cores;
use crate::nats::Nats;
use crate::report::{Goal, Report, progress, quantile};
use crate::scratch::until;
use crate::server::Node;

/// Time between two aborts, so that each is measured by itself.
const PAUSE: Duration = Duration::from_millis(60);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of nodes in the cluster.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=99))]
    nodes: u64,
    /// Number of worker processes in the cluster.
    #[arg(long, default_value_t = 10)]
    workers: u64,
    /// Number of aborts in one run, each of a pool of its own.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=64))]
    aborts: u64,
    /// Number of runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[derive(Deserialize)]
struct Aborted {
    written: Option<u64>,
    applied: u64,
    of: u64,
    took_ms: Option<f64>,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let cores = Cores::find()?;
    let nats = Nats::cluster().await?.at_first();
    let cluster = Cluster::new(Some(&nats));
    let mut nodes = Vec::new();
    for _ in 0..options.nodes {
        nodes.push(Node::join(&cluster, cores.server).await?);
    }
    let start = |_| WorkerProcess::start(&cluster, POOL, 1, cores.server);
    let workers = (0..options.workers).map(start).collect::<io::Result<Vec<_>>>()?;
    let first = &nodes[0];
    first.sees_nodes(options.nodes).await?;
    first.sees_workers(options.workers).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(measure(first, &nats, &options, number).await?);
    }
    progress("");
    for worker in workers {
        worker.stop().await?;
    }
    for node in nodes {
        node.stop().await?;
    }
    Ok(report(&options, &mut runs))
}

/// Returns the milliseconds of each abort.
async fn measure(node: &Node, nats: &Nats, options: &Options, run: usize) -> io::Result<Vec<f64>> {
    let pools: Vec<String> = (0..options.aborts).map(|pool| format!("run-{run}-{pool}")).collect();
    for pool in &pools {
        let body = json!({"lanes": [{"name": "canary", "weight": 50}], "force": true});
        let _: Value = node.put(&format!("/rollouts/{pool}"), &body).await?;
    }
    nats.pause_others()?;
    let abort = async |(number, pool): (u32, &String)| -> io::Result<f64> {
        tokio::time::sleep(PAUSE * number).await;
        let body = json!({"lane": "canary"});
        let aborted: Aborted = node.post(&format!("/rollouts/{pool}/abort"), &body).await?;
        let Aborted { written, applied, of, took_ms } = aborted;
        match took_ms.filter(|_| written.is_none() && of == options.nodes + options.workers) {
            Some(ms) => Ok(ms),
            None => Err(io::Error::other(format!(
                "an abort was applied by {applied} of {of} processes and written as {written:?}"
            ))),
        }
    };
    let times = try_join_all((0..).zip(&pools).map(abort)).await;
    nats.resume_others()?;
    let times = times?;
    for pool in &pools {
        until("the abort is written", async || {
            let status: io::Result<Value> = node.get(&format!("/rollouts/{pool}")).await;
            Ok(status.is_ok_and(|status| status["revision"] == 2))
        })
        .await?;
    }
    Ok(times)
}

fn report(options: &Options, runs: &mut [Vec<f64>]) -> Report {
    let mut report = Report::new(format!(
        "Aborts: {} in a row while two of three NATS servers stand still, each applied by {} nodes and {} worker processes",
        options.aborts, options.nodes, options.workers
    ));
    let mut of = |percent| runs.iter_mut().map(|times| quantile(times, percent)).collect::<Vec<_>>();
    report.row("applied by all, p50", "ms", &of(50));
    report.goal("applied by all, p99", "ms", &of(99), Goal::AtMost(100.0));
    report
}
