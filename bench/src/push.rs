//! Measures the CPU time of a message to one page, one message at a time, for every process involved.

use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clients::Clients;
use crate::cpu_affinity::Cores;
use crate::helper_protocol::Manner;
use crate::measure::cpu;
use crate::nats::Nats;
use crate::payload;
use crate::report::{Report, progress};
use crate::server::Node;

/// Number of messages before the first measurement.
const WARM_UP: u64 = 500;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of pages, each with its own user, that take turns.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(2..=20_000))]
    pages: u64,
    /// Number of messages in one run.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=60_000))]
    bytes: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// The route of a message to its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sample {
    /// A request to the server API of the page's node.
    Api,
    /// A `send` frame of another page of the same node.
    Frame,
    /// A request to the server API of another node.
    Remote,
}

impl Sample {
    const fn name(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Frame => "send frame",
            Self::Remote => "API of another node",
        }
    }
}

/// One engine with its processes.
struct Fixture {
    engine: &'static str,
    nats: Option<Nats>,
    node: Node,
    /// Another node of the same cluster.
    other: Option<Node>,
    clients: Clients,
}

/// Microseconds per delivery of one variant.
#[derive(Default)]
struct Costs {
    node: Vec<f64>,
    other: Vec<f64>,
    nats: Vec<f64>,
    clients: Vec<f64>,
}

#[derive(Deserialize)]
struct Reached {
    reached: u64,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let cores = Cores::find()?;
    let beds = [embedded(&options, cores).await?, on_nats(&options, cores).await?];
    let mut report = Report::new(format!(
        "Push: {} messages to {} pages one at a time, payloads of {} bytes; CPU time of each process",
        options.messages, options.pages, options.bytes
    ));
    let payload = payload(options.bytes);
    for mut bed in beds {
        for way in bed.ways() {
            progress(&format!("{} engine, {}", bed.engine, way.name()));
            bed.push(way, WARM_UP, &payload).await?;
            let mut costs = Costs::default();
            for _ in 0..options.runs {
                bed.measure(way, options.messages, &payload, &mut costs).await?;
            }
            bed.rows(way, &costs, &mut report);
        }
        bed.stop().await?;
    }
    progress("");
    Ok(report)
}

async fn embedded(options: &Options, cores: Cores) -> io::Result<Fixture> {
    let node = Node::start(None, cores.server).await?;
    let clients =
        Clients::open(node.address, node.tokens(0..options.pages)?, Manner::Prompt, cores.clients).await?;
    Ok(Fixture { engine: "embedded", nats: None, node, other: None, clients })
}

async fn on_nats(options: &Options, cores: Cores) -> io::Result<Fixture> {
    let nats = Nats::start(options.nats.as_deref()).await?;
    let node = Node::start(Some(&nats), cores.server).await?;
    let other = node.neighbour(cores.server).await?;
    let clients =
        Clients::open(node.address, node.tokens(0..options.pages)?, Manner::Prompt, cores.clients).await?;
    for node in [&node, &other] {
        node.sees(clients.pages.len()).await?;
    }
    Ok(Fixture { engine: "NATS", nats: Some(nats), node, other: Some(other), clients })
}

impl Fixture {
    fn ways(&self) -> Vec<Sample> {
        let remote = self.other.as_ref().map(|_| Sample::Remote);
        [Sample::Api, Sample::Frame].into_iter().chain(remote).collect()
    }

    async fn push(&mut self, way: Sample, messages: u64, payload: &str) -> io::Result<()> {
        if way == Sample::Frame {
            return self.clients.send(messages, payload.to_owned()).await;
        }
        let node = self.other.as_ref().filter(|_| way == Sample::Remote).unwrap_or(&self.node);
        let payload: Value = serde_json::from_str(payload)?;
        let pages = self.clients.pages.clone();
        for (page, _) in pages.into_iter().cycle().zip(0..messages) {
            self.clients.expect(1).await?;
            let push = json!({"to": {"page": page}, "payload": payload});
            let report: Reached = node.post("/send", &push).await?;
            if report.reached != 1 {
                return Err(io::Error::other(format!("a push reached {} pages", report.reached)));
            }
            self.clients.arrived().await?;
        }
        Ok(())
    }

    async fn measure(
        &mut self,
        way: Sample,
        messages: u64,
        payload: &str,
        costs: &mut Costs,
    ) -> io::Result<()> {
        let before = self.cpu()?;
        self.push(way, messages, payload).await?;
        let after = self.cpu()?;
        let all = [&mut costs.node, &mut costs.other, &mut costs.nats, &mut costs.clients];
        for ((costs, before), after) in all.into_iter().zip(before).zip(after) {
            if let (Some(before), Some(after)) = (before, after) {
                costs.push((after - before) * 1e6 / messages as f64);
            }
        }
        Ok(())
    }

    async fn stop(self) -> io::Result<()> {
        for node in [Some(self.node), self.other].into_iter().flatten() {
            node.stop().await?;
        }
        Ok(())
    }

    /// Returns the CPU seconds of the node, the other node, NATS, and the clients together with the requesting process.
    fn cpu(&self) -> io::Result<[Option<f64>; 4]> {
        let seconds = |pid: u32| cpu(pid).map(|time| time.as_secs_f64());
        Ok([
            Some(seconds(self.node.pid)?),
            self.other.as_ref().map(|other| seconds(other.pid)).transpose()?,
            self.nats.as_ref().and_then(Nats::pid).map(seconds).transpose()?,
            Some(seconds(self.clients.pid())? + seconds(std::process::id())?),
        ])
    }

    fn rows(&self, way: Sample, costs: &Costs, report: &mut Report) {
        let route = format!("{} engine, {}", self.engine, way.name());
        report.row(format!("{route}: the page's node"), "µs/delivery", &costs.node);
        if way == Sample::Remote {
            report.row(format!("{route}: that node"), "µs/delivery", &costs.other);
        }
        report.row(format!("{route}: nats-server"), "µs/delivery", &costs.nats);
        report.row(format!("{route}: clients"), "µs/delivery", &costs.clients);
    }
}
