//! Measures a node's memory per idle page. Each page has its own user, connection and session.

use std::io;
use std::time::Duration;

use crate::clients::Clients;
use crate::cpu_affinity::Cores;
use crate::helper_process::{HelperProcess, unexpected};
use crate::helper_protocol::{HelperResponse, Manner};
use crate::measure::{rss, rss_at_rest};
use crate::nats::Nats;
use crate::report::{Goal, Report, progress};
use crate::server::Node;

/// Time between the start of a node and the first reading of its memory.
const REST_EMPTY: Duration = Duration::from_secs(3);
/// Bytes per page.
const GOAL: Goal = Goal::AtMost(6.0 * 1024.0);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of pages to open.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH). The buckets that the
    /// benchmark creates stay there.
    #[arg(long)]
    nats: Option<String>,
    /// Measure the embedded engine instead of NATS.
    #[arg(long, conflicts_with = "nats")]
    embedded: bool,
    /// Number of runs; each starts and fills a node.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds that the pages stay idle before memory is read; longer than one ping interval.
    #[arg(long, default_value_t = 30)]
    rest: u64,
}

/// Bytes per page in one run.
struct Run {
    node: f64,
    nats: Option<f64>,
    view: f64,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let cores = Cores::find()?;
    let nats = if options.embedded { None } else { Some(Nats::start(options.nats.as_deref()).await?) };
    let mut runs = Vec::with_capacity(options.runs);
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(measure(&options, cores, nats.as_ref()).await?);
    }
    progress("");
    let engine = if nats.is_some() { "NATS" } else { "embedded" };
    let title = format!(
        "Idle memory: {} pages, each its own user, connection and session; {engine} engine",
        options.pages
    );
    let mut report = Report::new(title);
    let of = |part: fn(&Run) -> Option<f64>| runs.iter().filter_map(part).collect::<Vec<_>>();
    report.goal("node", "bytes per page", &of(|run| Some(run.node)), GOAL);
    report.row("  of which the view", "bytes per page", &of(|run| Some(run.view)));
    report.row("nats-server, beside it", "bytes per page", &of(|run| run.nats));
    Ok(report)
}

async fn measure(options: &Options, cores: Cores, nats: Option<&Nats>) -> io::Result<Run> {
    let node = Node::start(nats, None).await?;
    let rest = Duration::from_secs(options.rest);
    let empty = rss_at_rest(node.pid, REST_EMPTY).await?;
    let nats_pid = nats.and_then(Nats::pid);
    let nats_empty = nats_pid.map(rss).transpose()?;
    let clients =
        Clients::open(node.address, node.tokens(0..options.pages)?, Manner::Prompt, cores.clients).await?;
    node.sees(clients.pages.len()).await?;
    let full = rss_at_rest(node.pid, rest).await?;
    node.sees(clients.pages.len()).await?;
    let nats_full = nats_pid.map(rss).transpose()?;
    let per_page = |before: u64, after: u64| (after as f64 - before as f64) / options.pages as f64;
    node.stop().await?;
    Ok(Run {
        node: per_page(empty, full),
        nats: nats_empty.zip(nats_full).map(|(empty, full)| per_page(empty, full)),
        view: view(options.pages).await? as f64 / options.pages as f64,
    })
}

async fn view(pages: u64) -> io::Result<u64> {
    let mut worker = HelperProcess::start(&["view", "--pages", &pages.to_string()], None)?;
    match worker.response().await? {
        HelperResponse::Grown { bytes, pages: kept } if kept as u64 == pages => Ok(bytes),
        other => Err(unexpected(&other)),
    }
}
