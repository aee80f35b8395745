//! Measures the latency of a message to a page of another node, beside a bare NATS request between two processes, in
//! turns.
//!
//! The clock starts when the sending node has the request, and stops when the client has the frame.

use std::io;

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::cpu_affinity::Cores;
use crate::helper_process::HelperProcess;
use crate::helper_protocol::{HelperRequest, Manner, Target};
use crate::nats::Nats;
use crate::payload;
use crate::plan::Plan;
use crate::report::{Goal, Report, Times, progress};
use crate::server::Node;
use crate::view::user;

/// Number of messages before the first measurement.
const WARM_UP: u64 = 500;
/// Multiple of the time of a bare request.
const GOAL: Goal = Goal::AtMost(1.5);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of pages, each with its own user, that take turns.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pages: u64,
    /// Number of messages in one run.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(64..=60_000))]
    bytes: u64,
    /// Milliseconds of rest before each message; 0 sends each message right after the reply to the previous one. With a
    /// rest, most of the latency is the time that an idle core takes to wake up.
    #[arg(long, default_value_t = 0)]
    rest: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 15)]
    runs: usize,
}

/// The processes of the measurement.
struct Fixture {
    sender: HelperProcess,
    node: Node,
    clients: Clients,
    caller: HelperProcess,
    _echo: HelperProcess,
    payload: String,
    /// Declared last, so that it is dropped after its clients.
    _nats: Nats,
}

/// The samples of one run.
struct Run {
    bare: Times,
    page: Times,
    user: Times,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let mut bed = Fixture::make(&options).await?;
    bed.measure(&options, WARM_UP).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(bed.measure(&options, options.messages).await?);
    }
    progress("");
    bed.node.stop().await?;
    Ok(report(&options, &runs))
}

impl Fixture {
    async fn make(options: &Options) -> io::Result<Self> {
        let cores = Cores::find()?;
        let nats = Nats::start(options.nats.as_deref()).await?;
        let cluster = Cluster::new(Some(&nats));
        let node = Node::join(&cluster, cores.server).await?;
        let tokens = cluster.tokens(0..options.pages)?;
        let clients = Clients::open(node.address, tokens, Manner::Timed, cores.clients).await?;
        let mut sender = HelperProcess::of(&cluster, "headless-node", cores.server).await?;
        sender.done(&HelperRequest::Meet { pages: options.pages, worker: false }).await?;
        // the process that waits for the result runs on the clients' core here, too
        let pair = [cores.clients, cores.server];
        let (caller, echo) =
            HelperProcess::pair(&Cluster::new(Some(&nats)), "baseline-engine", 1, pair).await?;
        let payload = payload(options.bytes);
        Ok(Self { _nats: nats, sender, node, clients, caller, _echo: echo, payload })
    }

    async fn measure(&mut self, options: &Options, messages: u64) -> io::Result<Run> {
        let plan = Plan::alone(messages, options.rest);
        let call = HelperRequest::Call { payload: self.payload.clone(), users: 0, plan };
        let (_, bare) = self.caller.took(&call).await?;
        let pages = self.clients.pages.iter().copied().map(Target::Page).collect();
        let users = (0..options.pages).map(user).map(Target::User).collect();
        let page = self.push(pages, options.bytes, plan).await?;
        let user = self.push(users, options.bytes, plan).await?;
        Ok(Run { bare, page, user })
    }

    async fn push(&mut self, to: Vec<Target>, bytes: u64, plan: Plan) -> io::Result<Times> {
        self.clients.expect(plan.pieces).await?;
        self.sender.took(&HelperRequest::Push { to, bytes, plan }).await?;
        self.clients.arrived().await?;
        self.clients.ages().await
    }
}

fn report(options: &Options, runs: &[Run]) -> Report {
    let mut report = Report::new(format!(
        "Remote push: {} messages one at a time from one node to the {} pages of another, payloads of {} bytes",
        options.messages, options.pages, options.bytes
    ));
    let of = |part: fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    report.row("bare NATS request, p50", "µs", &of(|run| run.bare.p50_us));
    report.row("bare NATS request, p99", "µs", &of(|run| run.bare.p99_us));
    report.row("to a page, p50", "µs", &of(|run| run.page.p50_us));
    report.row("to a page, p99", "µs", &of(|run| run.page.p99_us));
    report.row("to a user, p50", "µs", &of(|run| run.user.p50_us));
    report.row("to a user, p99", "µs", &of(|run| run.user.p99_us));
    report.goal("to a page : bare, p50", "times", &of(|run| run.page.p50_us / run.bare.p50_us), GOAL);
    report.row("to a user : bare, p50", "times", &of(|run| run.user.p50_us / run.bare.p50_us));
    report
}
