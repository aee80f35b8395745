//! Measures the registry at the size of a large cluster: memory of a view per row, the time of its queries, and how
//! long a starting node takes to read all existing rows.

use std::io;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use pagewire_cluster::engine::{Engine, NatsOptions, Precondition};
use pagewire_cluster::id::{Key, NodeNumber};
use pagewire_cluster::registry::{Lifetimes, Registry};
use pagewire_cluster::timing::Timing;

use crate::cluster::random;
use crate::helper_process::{HelperProcess, unexpected};
use crate::helper_protocol::HelperResponse;
use crate::nats::Nats;
use crate::report::{Report, progress};
use crate::view::{row, user};
use pagewire::config::{self, Sources};
use pagewire::roles::lifetimes;

/// Number of rows written concurrently.
const WRITERS: usize = 256;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of pages in the largest view; a tenth and a hundredth of it are measured too.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    pages: u64,
    /// Number of nodes that hold the pages.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// Number of pages in one session of one user, beside the others.
    #[arg(long, default_value_t = 100_000)]
    crowd: u64,
    /// Number of rows in NATS when a node starts.
    #[arg(long, default_value_t = 100_000)]
    stored: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let mut report = Report::new(format!(
        "Registry: views of pages on {} nodes, each its own user, connection and session; a crowd of {} in one session",
        options.nodes, options.crowd
    ));
    for pages in [options.pages / 100, options.pages / 10, options.pages] {
        let (mut memory, mut queries) = (Vec::new(), Vec::<(String, Vec<f64>)>::new());
        for number in 1..=options.runs {
            progress(&format!("{pages} pages, run {number} of {}", options.runs));
            let (bytes, times) = view(&options, pages).await?;
            memory.push(bytes as f64 / pages as f64);
            for (at, (name, time)) in times.into_iter().enumerate() {
                match queries.get_mut(at) {
                    Some((_, runs)) => runs.push(time),
                    None => queries.push((name, vec![time])),
                }
            }
        }
        report.row(format!("{pages} pages: memory"), "bytes per page", &memory);
        for (name, runs) in queries {
            report.row(format!("  {name}"), "µs", &runs);
        }
    }
    let starts = starts(&options).await?;
    progress("");
    report.row(format!("start with {} rows in NATS", options.stored), "ms", &starts);
    Ok(report)
}

async fn view(options: &Options, pages: u64) -> io::Result<(u64, Vec<(String, f64)>)> {
    let [pages_text, nodes, crowd] =
        [pages, options.nodes.into(), options.crowd].map(|number| number.to_string());
    let arguments = ["view", "--pages", &pages_text, "--nodes", &nodes, "--crowd", &crowd];
    let mut worker = HelperProcess::start(&arguments, None)?;
    let bytes = match worker.response().await? {
        HelperResponse::Grown { bytes, pages: kept } if kept as u64 == pages => bytes,
        other => return Err(unexpected(&other)),
    };
    match worker.response().await? {
        HelperResponse::Timed { times } => Ok((bytes, times)),
        other => Err(unexpected(&other)),
    }
}

/// Returns the milliseconds from the start of a registry to a complete view.
async fn starts(options: &Options) -> io::Result<Vec<f64>> {
    let nats = Nats::start(options.nats.as_deref()).await?;
    let connect = NatsOptions {
        urls: nats.urls.split(',').map(str::to_owned).collect(),
        replicas: 1,
        cluster: format!("bench-{}", &random()[..8]),
        client_name: "bench".to_owned(),
        timing: Timing::PRODUCTION,
    };
    let defaults = config::load(&Sources::default()).map_err(io::Error::other)?;
    let registry = registry(&connect, lifetimes(&defaults)).await?;
    progress(&format!("writing {} rows", options.stored));
    let node = NodeNumber::new(1).ok_or_else(|| io::Error::other("1 is a node number"))?;
    let written = stream::iter(0..options.stored).map(async |number| {
        registry.write(Key::random(), &row(number, node, user(number)), Precondition::Absent).await
    });
    written.buffer_unordered(WRITERS).try_for_each(async |_| Ok(())).await.map_err(io::Error::other)?;
    let mut times = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("start {number} of {}", options.runs));
        let fresh = self::registry(&connect, lifetimes(&defaults)).await?;
        let started = Instant::now();
        let following = fresh.follow().await.map_err(io::Error::other)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        let seen = fresh.view().dead().len() as u64;
        if seen != options.stored {
            return Err(io::Error::other(format!("{seen} of {} rows were seen", options.stored)));
        }
        drop(following);
    }
    Ok(times)
}

async fn registry(connect: &NatsOptions, lifetimes: Lifetimes) -> io::Result<Registry> {
    let nats = pagewire_cluster::engine::Nats::connect(connect.clone()).await.map_err(io::Error::other)?;
    Ok(Registry::new(&Engine::Nats(nats), lifetimes))
}
