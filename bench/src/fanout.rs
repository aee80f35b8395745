//! Measures messages to many pages, beside a bare writer of the same bytes, in turns.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clients::Clients;
use crate::cpu_affinity::Cores;
use crate::generator::ACK_EVERY;
use crate::helper_process::{HelperProcess, unexpected};
use crate::helper_protocol::{HelperRequest, HelperResponse, Manner};
use crate::measure::cpu;
use crate::payload;
use crate::report::{Goal, Report, progress};
use crate::server::Node;

/// Number of rounds before the first measurement.
const WARM_UP: u64 = 20;
/// Percent of the bare writer's rate.
const GOAL: Goal = Goal::AtLeast(60.0);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of pages, each with its own user.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// Number of messages in one round, queued back to back by one request.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1000))]
    messages: u64,
    /// Number of rounds in one run.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=60_000))]
    bytes: u64,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// The sender of the messages.
enum Source {
    Node(Box<Node>, Value),
    Bare(Box<HelperProcess>, u64),
}

/// One variant of the comparison.
struct Side {
    source: Source,
    clients: Clients,
    /// Number of deliveries in one round.
    round: u64,
}

/// The time that one variant has used.
#[derive(Default)]
struct Spent {
    wall: Duration,
    sender: Duration,
    clients: Duration,
}

/// One run of one variant.
struct Run {
    rate: f64,
    /// Microseconds of the sender's CPU per delivery.
    cost: f64,
    /// Microseconds of the sender's CPU per delivery for reading its acknowledgement.
    acknowledging: f64,
    /// The clients' CPU time in percent of one core.
    clients_busy: f64,
    bytes: u64,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let cores = Cores::find()?;
    let (mut node, mut bare) = (node(&options, cores).await?, bare(&options, cores).await?);
    for side in [&mut node, &mut bare] {
        side.measure(WARM_UP).await?;
    }
    let (mut of_node, mut of_bare) = (Vec::new(), Vec::new());
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        of_node.push(node.measure(options.rounds).await?);
        of_bare.push(bare.measure(options.rounds).await?);
    }
    progress("");
    node.source.stop().await?;
    Ok(report(&options, &of_node, &of_bare))
}

async fn node(options: &Options, cores: Cores) -> io::Result<Side> {
    let node = Node::start(None, cores.server).await?;
    let clients =
        Clients::open(node.address, node.tokens(0..options.pages)?, Manner::Patient, cores.clients).await?;
    node.sees(clients.pages.len()).await?;
    let payload: Value = serde_json::from_str(&payload(options.bytes))?;
    let message = json!({"to": {"all": true}, "payload": payload});
    let items = vec![message; usize::try_from(options.messages).map_err(io::Error::other)?];
    let source = Source::Node(Box::new(node), json!({"items": items}));
    Ok(Side { source, clients, round: options.pages * options.messages })
}

async fn bare(options: &Options, cores: Cores) -> io::Result<Side> {
    let (pages, payload) = (options.pages.to_string(), payload(options.bytes));
    let mut writer =
        HelperProcess::start(&["baseline-writer", "--pages", &pages, "--payload", &payload], cores.server)?;
    let address = match writer.response().await? {
        HelperResponse::Listening { address } => address,
        other => return Err(unexpected(&other)),
    };
    let tokens = (0..options.pages).map(|_| String::new()).collect();
    let clients = Clients::open(address, tokens, Manner::Patient, cores.clients).await?;
    let source = Source::Bare(Box::new(writer), options.messages);
    Ok(Side { source, clients, round: options.pages * options.messages })
}

impl Side {
    /// Measures blocks of rounds. A block has as many rounds as a client acknowledges at once, two by default; the
    /// acknowledgements after each block are measured separately.
    async fn measure(&mut self, rounds: u64) -> io::Result<Run> {
        let per_ack = (ACK_EVERY / (self.round / self.clients.pages.len() as u64)).max(1);
        let blocks = rounds.div_ceil(per_ack);
        let (mut pushing, mut acknowledging) = (Spent::default(), Spent::default());
        let mut bytes = 0;
        for _ in 0..blocks {
            let before = self.spent()?;
            let started = Instant::now();
            for _ in 0..per_ack {
                self.clients.expect(self.round).await?;
                self.source.send().await?;
                bytes += self.clients.arrived().await?;
            }
            pushing.wall += started.elapsed();
            let between = self.spent()?;
            self.acknowledge().await?;
            pushing.add(&before, &between);
            acknowledging.add(&between, &self.spent()?);
        }
        let deliveries = blocks * per_ack * self.round;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / deliveries as f64;
        Ok(Run {
            rate: deliveries as f64 / pushing.wall.as_secs_f64(),
            cost: each(pushing.sender),
            acknowledging: each(acknowledging.sender),
            clients_busy: 100.0 * pushing.clients.as_secs_f64() / pushing.wall.as_secs_f64(),
            bytes: bytes / deliveries,
        })
    }

    /// Returns when the acknowledgements have been read: a later request to the node has its response after them.
    async fn acknowledge(&mut self) -> io::Result<()> {
        self.clients.acknowledge().await?;
        match &mut self.source {
            Source::Node(node, _) if node.is_ready().await => Ok(()),
            Source::Node(..) => Err(io::Error::other("the node is not ready any more")),
            Source::Bare(writer, _) => done(&writer.request(&HelperRequest::Read).await?),
        }
    }

    fn spent(&self) -> io::Result<Spent> {
        let (sender, clients) = (cpu(self.source.pid())?, cpu(self.clients.pid())?);
        Ok(Spent { wall: Duration::ZERO, sender, clients })
    }
}

impl Spent {
    fn add(&mut self, before: &Self, after: &Self) {
        self.sender += after.sender.saturating_sub(before.sender);
        self.clients += after.clients.saturating_sub(before.clients);
    }
}

impl Source {
    async fn stop(self) -> io::Result<()> {
        match self {
            Self::Node(node, _) => node.stop().await,
            Self::Bare(..) => Ok(()),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Node(node, _) => node.pid,
            Self::Bare(writer, _) => writer.pid(),
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        match self {
            Self::Node(node, batch) => node.post::<Value>("/send/batch", batch).await.map(|_| ()),
            Self::Bare(writer, messages) => {
                done(&writer.request(&HelperRequest::Write { messages: *messages }).await?)
            }
        }
    }
}

fn done(response: &HelperResponse) -> io::Result<()> {
    match response {
        HelperResponse::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn report(options: &Options, node: &[Run], bare: &[Run]) -> Report {
    let bytes = node.first().map_or(0, |run| run.bytes);
    let mut report = Report::new(format!(
        "Fan-out: rounds of {} messages to {} pages, frames of {bytes} bytes; embedded engine",
        options.messages, options.pages
    ));
    let of = |runs: &[Run], part: fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    for (name, runs) in [("node", node), ("bare writer", bare)] {
        report.row(name, "deliveries/s", &of(runs, |run| run.rate));
        report.row(format!("{name}, CPU"), "µs/delivery", &of(runs, |run| run.cost));
        let acknowledging = of(runs, |run| run.acknowledging);
        report.row(format!("{name}, CPU for acknowledgements"), "µs/delivery", &acknowledging);
        report.row(format!("{name}, its clients' core"), "% busy", &of(runs, |run| run.clients_busy));
    }
    let ratio = |part: fn(&Run, &Run) -> f64| {
        node.iter().zip(bare).map(|(node, bare)| 100.0 * part(node, bare)).collect::<Vec<_>>()
    };
    report.goal("node : bare writer, rate", "%", &ratio(|node, bare| node.rate / bare.rate), GOAL);
    report.goal("node : bare writer, per CPU second", "%", &ratio(|node, bare| bare.cost / node.cost), GOAL);
    report
}
