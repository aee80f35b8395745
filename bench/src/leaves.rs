//! Measures pages that leave and pages that enter again: each is the only page of its session and its connection, so
//! that two idle rows are written before its row is removed, and are deleted after its next row.
//!
//! Owns: one registry with its view in this process. Never: sockets; the pages are rows only.

use std::io;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use pagewire_cluster::engine::Precondition;
use pagewire_cluster::id::{Key, NodeNumber};
use pagewire_cluster::registry::{PageRemoval, PageRow, Registry, RemovalKind};
use pagewire_cluster::timing::Timing;

use crate::baseline_engine;
use crate::cluster::random;
use crate::nats::Nats;
use crate::report::{Goal, Report, progress};
use crate::scratch::until;
use crate::view::{row, user};
use pagewire::config::{self, Sources};
use pagewire::roles::lifetimes;

/// Pages per second.
const GOAL: Goal = Goal::AtLeast(5_000.0);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of pages in one run.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// Number of pages that leave or enter at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Rates in pages per second, and the CPU time of NATS in microseconds per page.
#[derive(Default)]
struct Samples {
    leave: Vec<f64>,
    leave_cpu: Vec<f64>,
    enter: Vec<f64>,
    enter_cpu: Vec<f64>,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let nats = Nats::start(options.nats.as_deref()).await?;
    let name = format!("bench-{}", &random()[..8]);
    let engine = baseline_engine::engine(&nats.urls, nats.replicas, &name, Timing::PRODUCTION).await?;
    let defaults = config::load(&Sources::default()).map_err(io::Error::other)?;
    let registry = Registry::new(&engine, lifetimes(&defaults));
    let following = registry.follow().await.map_err(io::Error::other)?;
    let following = tokio::spawn(following.run(drop));
    let mut samples = Samples::default();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        measure(&options, &nats, &registry, &mut samples).await?;
    }
    following.abort();
    progress("");
    Ok(report(&options, &samples))
}

async fn measure(
    options: &Options,
    nats: &Nats,
    registry: &Registry,
    samples: &mut Samples,
) -> io::Result<()> {
    let node = NodeNumber::new(1).ok_or_else(|| io::Error::other("1 is a node number"))?;
    let rows: Vec<PageRow> = (0..options.pages).map(|number| row(number, node, user(number))).collect();
    let before = registry.view().stats().idle_sessions;
    let idle = async |sessions: usize| {
        until("the view", async || Ok(registry.view().stats().idle_sessions == before + sessions)).await
    };
    let pages = enter(registry, &rows, options.in_flight).await?;
    let clock = Clock::start(nats)?;
    leave(registry, pages, options.in_flight).await?;
    clock.stop(nats, options.pages, &mut samples.leave, &mut samples.leave_cpu)?;
    idle(rows.len()).await?;
    let clock = Clock::start(nats)?;
    enter(registry, &rows, options.in_flight).await?;
    clock.stop(nats, options.pages, &mut samples.enter, &mut samples.enter_cpu)?;
    idle(0).await
}

/// Writes the row of a new page for each of these, and returns how each page is removed.
async fn enter(registry: &Registry, rows: &[PageRow], in_flight: u64) -> io::Result<Vec<PageRemoval>> {
    let entering = stream::iter(rows).map(async |row| {
        let page = Key::random();
        let rev = registry.write(page, row, Precondition::Absent).await?;
        Ok(PageRemoval::of_row(page, row, rev))
    });
    let entering = entering.buffer_unordered(usize::try_from(in_flight).unwrap_or(1));
    entering
        .try_collect()
        .await
        .map_err(|error: pagewire_cluster::engine::WriteError| io::Error::other(error))
}

async fn leave(registry: &Registry, pages: Vec<PageRemoval>, in_flight: u64) -> io::Result<()> {
    let leaving = stream::iter(pages).map(async |page| registry.leave(&page, RemovalKind::Forget).await);
    let leaving = leaving.buffer_unordered(usize::try_from(in_flight).unwrap_or(1));
    leaving.try_for_each(async |()| Ok(())).await.map_err(io::Error::other)
}

/// The wall clock and the CPU time of NATS at the start of a measurement.
struct Clock {
    started: Instant,
    cpu: Option<Duration>,
}

impl Clock {
    fn start(nats: &Nats) -> io::Result<Self> {
        Ok(Self { cpu: nats.cpu()?, started: Instant::now() })
    }

    fn stop(self, nats: &Nats, pages: u64, rates: &mut Vec<f64>, costs: &mut Vec<f64>) -> io::Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        rates.push(pages as f64 / seconds);
        if let (Some(before), Some(after)) = (self.cpu, nats.cpu()?) {
            costs.push((after - before).as_secs_f64() * 1e6 / pages as f64);
        }
        Ok(())
    }
}

fn report(options: &Options, samples: &Samples) -> Report {
    let mut report = Report::new(format!(
        "Leaves: {} pages in {} at a time, each the only one of its session and connection",
        options.pages, options.in_flight
    ));
    report.goal("pages leave", "pages/s", &samples.leave, GOAL);
    report.row("  CPU of NATS", "µs per page", &samples.leave_cpu);
    report.row("pages enter idle sessions", "pages/s", &samples.enter);
    report.row("  CPU of NATS", "µs per page", &samples.enter_cpu);
    report
}
