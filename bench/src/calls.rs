//! Measures calls of a worker from a headless node, in turns with bare NATS requests by the client library and by the
//! engine; and the CPU time of a call from a page.

use std::io;
use std::time::Duration;

use crate::clients::Clients;
use crate::cluster::{Cluster, WorkerProcess};
use crate::helper_process::HelperProcess;
use crate::helper_protocol::{HelperRequest, Manner};
use crate::measure::cpu;
use crate::nats::Nats;
use crate::plan::Plan;
use crate::report::{Goal, Report, Times, progress};
use crate::server::Node;
use crate::{POOL, payload};

/// Number of calls of each variant before the first measurement.
const WARM_UP: u64 = 2_000;
/// Percent of the bare rate.
const GOAL: Goal = Goal::AtLeast(80.0);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of calls in one run.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// Number of concurrent calls.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// Number of calling pages, and of users whose assigned worker is called.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pages: u64,
    /// Bytes of the argument, which is also the result.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=60_000))]
    bytes: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// The processes of the measurement.
struct Fixture {
    entry: HelperProcess,
    worker: WorkerProcess,
    /// Requester and responder, with the client library alone and with the engine alone.
    plain: (HelperProcess, HelperProcess),
    engine: (HelperProcess, HelperProcess),
    node: Node,
    clients: Clients,
    payload: String,
    /// Declared last, so that it is dropped after its clients.
    nats: Nats,
}

/// Calls per second, their latency, and the CPU time of each process.
struct Sample {
    rate: f64,
    each: Times,
    caller: f64,
    serving: f64,
    nats: Option<f64>,
}

impl Sample {
    /// Returns the CPU time of all processes.
    fn cost(&self) -> f64 {
        self.caller + self.serving + self.nats.unwrap_or_default()
    }
}

/// The samples of one run.
struct Run {
    bare: Sample,
    engine: Sample,
    any: Sample,
    own: Sample,
    page: Sample,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let mut bed = Fixture::make(&options).await?;
    bed.measure(&options, WARM_UP.min(options.calls)).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(bed.measure(&options, options.calls).await?);
    }
    progress("");
    bed.worker.stop().await?;
    bed.node.stop().await?;
    Ok(report(&options, &runs))
}

impl Fixture {
    async fn make(options: &Options) -> io::Result<Self> {
        let nats = Nats::start(options.nats.as_deref()).await?;
        let cluster = Cluster::new(Some(&nats));
        let mut entry = HelperProcess::of(&cluster, "headless-node", None).await?;
        let worker = WorkerProcess::start(&cluster, POOL, options.in_flight, None)?;
        entry.done(&HelperRequest::Meet { pages: 0, worker: true }).await?;
        // a node that starts now knows the worker before it takes its first page
        let node = Node::join(&cluster, None).await?;
        let clients =
            Clients::open(node.address, cluster.tokens(0..options.pages)?, Manner::Prompt, None).await?;
        let other = Cluster::new(Some(&nats));
        let plain = HelperProcess::pair(&other, "baseline-nats-client", 1, [None; 2]).await?;
        let engine = HelperProcess::pair(&other, "baseline-engine", 1, [None; 2]).await?;
        let payload = payload(options.bytes);
        Ok(Self { nats, entry, worker, plain, engine, node, clients, payload })
    }

    async fn measure(&mut self, options: &Options, calls: u64) -> io::Result<Run> {
        let plan = Plan::together(calls, options.in_flight);
        let request = |users| HelperRequest::Call { payload: self.payload.clone(), users, plan };
        let (any, own) = (request(0), request(options.pages));
        let nats = &self.nats;
        let pids = |caller: &HelperProcess, serving| [caller.pid(), serving];
        let bare = async |(caller, echo): &mut (HelperProcess, HelperProcess)| {
            let meter = CpuMeter::start(nats, pids(caller, echo.pid()))?;
            let (seconds, each) = caller.took(&any).await?;
            meter.way(nats, calls, seconds, each)
        };
        let (bare, engine) = (bare(&mut self.plain).await?, bare(&mut self.engine).await?);
        let entry = pids(&self.entry, self.worker.pid);
        let meter = CpuMeter::start(nats, entry)?;
        let (seconds, each) = self.entry.took(&any).await?;
        let any = meter.way(nats, calls, seconds, each)?;
        let meter = CpuMeter::start(nats, entry)?;
        let (seconds, each) = self.entry.took(&own).await?;
        let own = meter.way(nats, calls, seconds, each)?;
        let page = self.page(options, calls).await?;
        Ok(Run { bare, engine, any, own, page })
    }

    /// Measures calls end to end: frames from pages and their results.
    async fn page(&mut self, options: &Options, calls: u64) -> io::Result<Sample> {
        let frame = format!(
            r#"{{"type":"call","id":{{id}},"method":"echo","pool":"{POOL}","exec_mode":"any","params":{}}}"#,
            self.payload
        );
        let meter = CpuMeter::start(&self.nats, [self.node.pid, self.worker.pid])?;
        let started = std::time::Instant::now();
        self.clients.send_requests(frame, calls, options.in_flight).await?;
        let seconds = started.elapsed().as_secs_f64();
        meter.way(&self.nats, calls, seconds, Times { p50_us: 0.0, p99_us: 0.0 })
    }
}

/// CPU time of the requester, the responder and NATS since the start of the meter.
struct CpuMeter {
    pids: [u32; 2],
    before: [Duration; 2],
    nats: Option<Duration>,
}

impl CpuMeter {
    fn start(nats: &Nats, pids: [u32; 2]) -> io::Result<Self> {
        Ok(Self { pids, before: [cpu(pids[0])?, cpu(pids[1])?], nats: nats.cpu()? })
    }

    fn way(&self, nats: &Nats, calls: u64, seconds: f64, each: Times) -> io::Result<Sample> {
        let per_call = |before: Duration, after: Duration| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / calls as f64
        };
        Ok(Sample {
            rate: calls as f64 / seconds,
            each,
            caller: per_call(self.before[0], cpu(self.pids[0])?),
            serving: per_call(self.before[1], cpu(self.pids[1])?),
            nats: self.nats.zip(nats.cpu()?).map(|(before, after)| per_call(before, after)),
        })
    }
}

/// Selects the sample of one variant.
type Part = fn(&Run) -> &Sample;

fn report(options: &Options, runs: &[Run]) -> Report {
    let mut report = Report::new(format!(
        "Calls: {} with arguments of {} bytes, {} at the same time, on one NATS server",
        options.calls, options.bytes, options.in_flight
    ));
    let of = |part: &dyn Fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    let ways: [(&str, [&str; 2], Part); 5] = [
        ("bare request", ["the caller", "the responder"], |run| &run.bare),
        ("request of the engine", ["the caller", "the responder"], |run| &run.engine),
        ("any worker", ["node", "worker"], |run| &run.any),
        ("the user's own worker", ["node", "worker"], |run| &run.own),
        ("a page's call frame", ["node", "worker"], |run| &run.page),
    ];
    for (name, [caller, serving], way) in ways {
        report.row(name, "calls/s", &of(&|run| way(run).rate));
        if name != "a page's call frame" {
            report.row(format!("{name}, p50"), "µs", &of(&|run| way(run).each.p50_us));
            report.row(format!("{name}, p99"), "µs", &of(&|run| way(run).each.p99_us));
        }
        report.row(format!("{name}, CPU of {caller}"), "µs/call", &of(&|run| way(run).caller));
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
