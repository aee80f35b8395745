//! Calls of a worker from a node's entry, in turns with bare NATS requests, by the client library alone and by the engine
//! alone; and CPU time of a call from a page.

use std::io;
use std::time::Duration;

use super::child::Worker;
use super::clients::Clients;
use super::cluster::{Cluster, Hand};
use super::flight::Plan;
use super::measure::cpu;
use super::nats::Nats;
use super::order::{Manner, Order};
use super::report::{Goal, Report, Times, progress};
use super::server::Node;
use super::{POOL, payload};

/// Calls of each way before the first measurement.
const WARM_UP: u64 = 2_000;
/// Part of the bare rate.
const GOAL: Goal = Goal::AtLeast(80.0);

#[derive(clap::Args)]
pub(super) struct Options {
    /// Calls of one run.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// Calls at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// Pages that call, and users whose own worker is called.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pages: u64,
    /// Bytes of the argument, which is the result, too.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=60_000))]
    bytes: u64,
    /// A NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Times that each way is measured, in turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// What takes part.
struct Bed {
    entry: Worker,
    worker: Hand,
    /// Who asks and who answers, with the client library alone and with the engine alone.
    plain: (Worker, Worker),
    engine: (Worker, Worker),
    node: Node,
    clients: Clients,
    payload: String,
    /// Ends after those who are connected to it.
    nats: Nats,
}

/// Calls per second, how long each took, and the CPU time of each process.
struct Way {
    rate: f64,
    each: Times,
    asking: f64,
    serving: f64,
    nats: Option<f64>,
}

impl Way {
    /// Of all processes.
    fn cost(&self) -> f64 {
        self.asking + self.serving + self.nats.unwrap_or_default()
    }
}

/// One run.
struct Run {
    bare: Way,
    engine: Way,
    any: Way,
    own: Way,
    page: Way,
}

pub(super) async fn run(options: Options) -> io::Result<Report> {
    let mut bed = Bed::make(&options).await?;
    bed.measure(&options, WARM_UP.min(options.calls)).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(bed.measure(&options, options.calls).await?);
    }
    progress("");
    Ok(report(&options, &runs))
}

impl Bed {
    async fn make(options: &Options) -> io::Result<Self> {
        let nats = Nats::start(options.nats.as_deref()).await?;
        let cluster = Cluster::new(Some(&nats));
        let mut entry = Worker::of(&cluster, "entry", None).await?;
        let worker = Hand::start(&cluster, POOL, options.in_flight, None)?;
        entry.done(&Order::Meet { pages: 0, worker: true }).await?;
        // a node that starts now has seen the worker before it takes its first page
        let node = Node::join(&cluster, None).await?;
        let clients =
            Clients::open(node.address, cluster.tokens(options.pages)?, Manner::Prompt, None).await?;
        let other = Cluster::new(Some(&nats));
        let plain = Worker::pair(&other, "plain", 1, [None; 2]).await?;
        let engine = Worker::pair(&other, "bare", 1, [None; 2]).await?;
        let payload = payload(options.bytes);
        Ok(Self { nats, entry, worker, plain, engine, node, clients, payload })
    }

    async fn measure(&mut self, options: &Options, calls: u64) -> io::Result<Run> {
        let plan = Plan::together(calls, options.in_flight);
        let order = |users| Order::Call { payload: self.payload.clone(), users, plan };
        let (any, own) = (order(0), order(options.pages));
        let nats = &self.nats;
        let pids = |asking: &Worker, serving| [asking.pid(), serving];
        let bare = async |(asking, echo): &mut (Worker, Worker)| {
            let meter = Meter::start(nats, pids(asking, echo.pid()))?;
            let (seconds, each) = asking.took(&any).await?;
            meter.way(nats, calls, seconds, each)
        };
        let (bare, engine) = (bare(&mut self.plain).await?, bare(&mut self.engine).await?);
        let entry = pids(&self.entry, self.worker.pid);
        let meter = Meter::start(nats, entry)?;
        let (seconds, each) = self.entry.took(&any).await?;
        let any = meter.way(nats, calls, seconds, each)?;
        let meter = Meter::start(nats, entry)?;
        let (seconds, each) = self.entry.took(&own).await?;
        let own = meter.way(nats, calls, seconds, each)?;
        let page = self.page(options, calls).await?;
        Ok(Run { bare, engine, any, own, page })
    }

    /// End to end: frames of pages, and their results.
    async fn page(&mut self, options: &Options, calls: u64) -> io::Result<Way> {
        let frame = format!(
            r#"{{"type":"call","id":{{id}},"method":"echo","pool":"{POOL}","exec_mode":"any","params":{}}}"#,
            self.payload
        );
        let meter = Meter::start(&self.nats, [self.node.pid, self.worker.pid])?;
        let started = std::time::Instant::now();
        self.clients.ask(frame, calls, options.in_flight).await?;
        let seconds = started.elapsed().as_secs_f64();
        meter.way(&self.nats, calls, seconds, Times { p50_us: 0.0, p99_us: 0.0 })
    }
}

/// CPU time of who asks and who serves, and of NATS, since it was started.
struct Meter {
    pids: [u32; 2],
    before: [Duration; 2],
    nats: Option<Duration>,
}

impl Meter {
    fn start(nats: &Nats, pids: [u32; 2]) -> io::Result<Self> {
        Ok(Self { pids, before: [cpu(pids[0])?, cpu(pids[1])?], nats: nats.cpu()? })
    }

    fn way(&self, nats: &Nats, calls: u64, seconds: f64, each: Times) -> io::Result<Way> {
        let per_call = |before: Duration, after: Duration| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / calls as f64
        };
        Ok(Way {
            rate: calls as f64 / seconds,
            each,
            asking: per_call(self.before[0], cpu(self.pids[0])?),
            serving: per_call(self.before[1], cpu(self.pids[1])?),
            nats: self.nats.zip(nats.cpu()?).map(|(before, after)| per_call(before, after)),
        })
    }
}

/// One way of a run.
type Part = fn(&Run) -> &Way;

fn report(options: &Options, runs: &[Run]) -> Report {
    let mut report = Report::new(format!(
        "Calls: {} with arguments of {} bytes, {} at the same time, on one NATS server",
        options.calls, options.bytes, options.in_flight
    ));
    let of = |part: &dyn Fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    let ways: [(&str, [&str; 2], Part); 5] = [
        ("bare request", ["who asks", "who answers"], |run| &run.bare),
        ("request of the engine", ["who asks", "who answers"], |run| &run.engine),
        ("any worker", ["node", "worker"], |run| &run.any),
        ("the user's own worker", ["node", "worker"], |run| &run.own),
        ("a page's call frame", ["node", "worker"], |run| &run.page),
    ];
    for (name, [asking, serving], way) in ways {
        report.row(name, "calls/s", &of(&|run| way(run).rate));
        if name != "a page's call frame" {
            report.row(format!("{name}, p50"), "µs", &of(&|run| way(run).each.p50_us));
            report.row(format!("{name}, p99"), "µs", &of(&|run| way(run).each.p99_us));
        }
        report.row(format!("{name}, CPU of {asking}"), "µs/call", &of(&|run| way(run).asking));
        report.row(format!("{name}, CPU of {serving}"), "µs/call", &of(&|run| way(run).serving));
        let nats: Vec<_> = runs.iter().filter_map(|run| way(run).nats).collect();
        report.row(format!("{name}, CPU of nats-server"), "µs/call", &nats);
    }
    report.goal("any worker : bare, rate", "%", &of(&|run| 100.0 * run.any.rate / run.bare.rate), GOAL);
    report.row("own worker : bare, rate", "%", &of(&|run| 100.0 * run.own.rate / run.bare.rate));
    report.row("any worker : engine, rate", "%", &of(&|run| 100.0 * run.any.rate / run.engine.rate));
    let per_cpu = |way: Part| of(&|run| 100.0 * run.bare.cost() / way(run).cost());
    report.row("any worker : bare, per CPU second", "%", &per_cpu(|run| &run.any));
    report.row("own worker : bare, per CPU second", "%", &per_cpu(|run| &run.own));
    report
}
