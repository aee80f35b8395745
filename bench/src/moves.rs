//! Measures a lane of nodes that is taken back: all its pages move to the node of another lane, while messages to all of
//! them arrive.
//!
//! The gap of a page is the time between its `hello` on the second socket and the answer: it has a node before and after.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::cpu_affinity::Cores;
use crate::helper_protocol::Manner;
use crate::nats::Nats;
use crate::report::{Goal, Report, Times, progress};
use crate::server::Node;

const LANES: [&str; 2] = ["blue", "green"];
/// Milliseconds.
const GOAL: Goal = Goal::AtMost(250.0);
/// How long the last frames may take after the last page has moved.
const LAST_FRAMES: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of pages, each with its own user.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pages: u64,
    /// Milliseconds between two messages to all pages.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs; the pages move to and fro.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// One move of all pages.
struct Run {
    gap: Times,
    seconds: f64,
    lost: f64,
}

#[derive(Deserialize)]
struct Sent {
    reached: u64,
    held: u64,
}

/// The processes of the measurement.
struct Fixture {
    nodes: [Node; 2],
    clients: Clients,
    moves: u64,
    /// Declared last, so that it is dropped after its clients.
    _nats: Nats,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let mut bed = Fixture::make(&options).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(bed.measure(&options, number % 2).await?);
    }
    progress("");
    let Fixture { nodes, clients, .. } = bed;
    drop(clients);
    for node in nodes {
        node.stop().await?;
    }
    Ok(report(&options, &runs))
}

impl Fixture {
    async fn make(options: &Options) -> io::Result<Self> {
        let cores = Cores::find()?;
        let nats = Nats::start(options.nats.as_deref()).await?;
        let cluster = Cluster::new(Some(&nats));
        let of = |lane| [("PAGEWIRE_NODE__LANE", lane)];
        let nodes = [
            Node::with(&cluster, cores.server, &of(LANES[0])).await?,
            Node::with(&cluster, cores.server, &of(LANES[1])).await?,
        ];
        nodes[0].sees_nodes(2).await?;
        let tokens = cluster.tokens(0..options.pages)?;
        let clients = Clients::open(nodes[0].address, tokens, Manner::Moving, cores.clients).await?;
        nodes[1].sees(clients.pages.len()).await?;
        Ok(Self { nodes, clients, moves: 0, _nats: nats })
    }

    /// Takes the lane back in which the pages are. `to` is the position of the other one.
    async fn measure(&mut self, options: &Options, to: usize) -> io::Result<Run> {
        let split =
            |weight: u64| json!({"base": LANES[to], "lanes": [{"name": LANES[1 - to], "weight": weight}]});
        let node = &self.nodes[to];
        node.put::<Value>("/rollouts/edge", &split(100)).await?;
        self.moves += options.pages;
        let (started, over) = (Instant::now(), Cell::new(false));
        let moving = async {
            node.put::<Value>("/rollouts/edge", &split(0)).await?;
            let gap = self.clients.moved(self.moves).await;
            over.set(true);
            Ok::<_, io::Error>((gap?, started.elapsed().as_secs_f64()))
        };
        let sending = async {
            let (mut messages, mut uncounted) = (0, 0);
            while !over.get() {
                let body = json!({"to": {"all": true}, "payload": messages});
                let Sent { reached, held } = node.post("/send", &body).await?;
                messages += 1;
                uncounted += options.pages.saturating_sub(reached + held);
                tokio::time::sleep(Duration::from_millis(options.every)).await;
            }
            Ok::<_, io::Error>((messages, uncounted))
        };
        let ((gap, seconds), (messages, lost)) = tokio::try_join!(moving, sending)?;
        self.clients.expect(messages * options.pages).await?;
        let arrived = tokio::time::timeout(LAST_FRAMES, self.clients.arrived()).await;
        arrived.map_err(|_| io::Error::other("frames are lost"))??;
        Ok(Run { gap, seconds, lost: lost as f64 })
    }
}

fn report(options: &Options, runs: &[Run]) -> Report {
    let mut report = Report::new(format!(
        "Moves: {} pages of a lane that is taken back, a message to all of them every {} ms",
        options.pages, options.every
    ));
    let of = |part: fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    report.row("gap of a page, p50", "ms", &of(|run| run.gap.p50_us / 1e3));
    report.goal("gap of a page, p99", "ms", &of(|run| run.gap.p99_us / 1e3), GOAL);
    report.row("until all have moved", "s", &of(|run| run.seconds));
    report.goal("lost frames", "frames", &of(|run| run.lost), Goal::AtMost(0.0));
    report
}
