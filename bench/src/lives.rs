//! Memory of a node after many pages have opened and closed, when none is left.
//!
//! A page's life: its socket opens, registers a page with a user, connection and session of its own, and closes; the
//! resume window ends, then the session and the connection do.

use std::io;
use std::time::Duration;

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::cpu_affinity::Cores;
use crate::helper_protocol::Manner;
use crate::measure::{anonymous, peak, rss_at_rest};
use crate::nats::Nats;
use crate::report::{Report, progress};
use crate::scratch::until;
use crate::server::Node;

/// After the start, until the node's first memory is read.
const REST_EMPTY: Duration = Duration::from_secs(3);
/// Everything that a page leaves behind ends within seconds.
const SHORT: [(&str, &str); 4] = [
    ("PAGEWIRE_LIFETIME__RESUME_MS", "100"),
    ("PAGEWIRE_LIFETIME__SESSION_TIMEOUT_S", "1"),
    ("PAGEWIRE_LIFETIME__CONNECTION_TIMEOUT_S", "1"),
    ("PAGEWIRE_LIFETIME__CLEANUP_INTERVAL_S", "1"),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pages that come and go.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// Pages that are open at the same time.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    wave: u64,
    /// Measures with NATS instead of the embedded engine: this server, else one that is started (NATS_SERVER, else
    /// `nats-server` in PATH). What the benchmark writes stays there in buckets of its own.
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    nats: Option<String>,
    /// Times that a node is started and used.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds from the end of the last page, session and connection until memory is read.
    #[arg(long, default_value_t = 30)]
    rest: u64,
}

/// Bytes of one run.
struct Run {
    fresh: Memory,
    first_wave: Memory,
    end: Memory,
    peak: u64,
}

#[derive(Clone, Copy)]
struct Memory {
    resident: u64,
    anonymous: u64,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let cores = Cores::find()?;
    let nats = match options.nats.as_deref() {
        Some(url) => Some(Nats::start(Some(url).filter(|url| !url.is_empty())).await?),
        None => None,
    };
    let mut runs = Vec::with_capacity(options.runs);
    for number in 1..=options.runs {
        runs.push(measure(&options, cores, nats.as_ref(), number).await?);
    }
    progress("");
    let engine = if nats.is_some() { "NATS" } else { "embedded" };
    let mut report = Report::new(format!(
        "Memory after {} page lives, {} at a time, each its own user, connection and session; {engine} engine",
        options.pages, options.wave
    ));
    let of = |part: fn(&Run) -> u64| {
        runs.iter().map(|run| part(run) as f64 / f64::from(1 << 20)).collect::<Vec<_>>()
    };
    report.row("before the first page", "MiB", &of(|run| run.fresh.resident));
    report.row("  of which allocated", "MiB", &of(|run| run.fresh.anonymous));
    report.row("highest", "MiB", &of(|run| run.peak));
    report.row("after the first wave, at rest", "MiB", &of(|run| run.first_wave.resident));
    report.row("after the last wave, at rest", "MiB", &of(|run| run.end.resident));
    report.row("  of which allocated then", "MiB", &of(|run| run.end.anonymous));
    Ok(report)
}

async fn measure(options: &Options, cores: Cores, nats: Option<&Nats>, number: usize) -> io::Result<Run> {
    let node = Node::with(&Cluster::new(nats), None, &SHORT).await?;
    let fresh = memory(&node, REST_EMPTY).await?;
    let mut clients = Clients::none(cores.clients)?;
    let rest = Duration::from_secs(options.rest);
    let mut first_wave = None;
    let mut lived = 0;
    while lived < options.pages {
        let wave = lived..options.pages.min(lived + options.wave);
        lived = wave.end;
        clients.reopen(node.address, node.tokens(wave)?, Manner::Prompt).await?;
        node.sees(clients.pages.len()).await?;
        clients.close().await?;
        node.sees(0).await?;
        progress(&format!("run {number} of {}: {lived} of {} pages", options.runs, options.pages));
        if first_wave.is_none() {
            is_empty(&node).await?;
            first_wave = Some(memory(&node, rest).await?);
        }
    }
    is_empty(&node).await?;
    let end = memory(&node, rest).await?;
    let first_wave = first_wave.unwrap_or(fresh);
    // the kernel notes the highest value a little late
    let peak = [fresh, first_wave, end].iter().fold(peak(node.pid)?, |peak, seen| peak.max(seen.resident));
    node.stop().await?;
    Ok(Run { fresh, first_wave, end, peak })
}

async fn memory(node: &Node, rest: Duration) -> io::Result<Memory> {
    let resident = rss_at_rest(node.pid, rest).await?;
    Ok(Memory { resident, anonymous: anonymous(node.pid)? })
}

/// Waits until nothing is left of any page, session, connection or user.
async fn is_empty(node: &Node) -> io::Result<()> {
    let counts = ["pages", "sessions", "connections", "users", "idle_sessions", "idle_connections"];
    until("the end of all sessions", async || {
        let stats = node.stats().await?;
        Ok(counts.iter().all(|count| stats[count].as_u64() == Some(0)))
    })
    .await
}
