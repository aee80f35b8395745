//! Measures calls of Python handlers in child processes, in turns with a bare Python loop over a Unix socket of the same
//! style; and the start of a child.
//!
//! The runtime of children is in this process, so that its cost is seen alone; `node_entry` measures the same
//! applications behind the server API of a node.

mod bare_loop;
mod node_entry;
mod supervised;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use crate::helper_process::unexpected;
use crate::helper_protocol::HelperResponse;
use crate::load::run_load;
use crate::measure::cpu;
use crate::payload;
use crate::plan::Plan;
use crate::report::{Goal, Report, Times, progress};
use bare_loop::BareLoop;
use node_entry::{NodeEntry, NodeSample};
use supervised::Supervised;

/// Number of calls of each variant before the first measurement.
const WARM_UP: u64 = 500;
/// Times the p50 of the bare loop.
const LATENCY_GOAL: Goal = Goal::AtMost(2.0);
/// Percent of the rate of the bare loop.
const RATE_GOAL: Goal = Goal::AtLeast(60.0);
/// Slots of the pools.
const SLOTS: u32 = 64;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of concurrent calls in one run.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// Number of calls in one run that are made one after the other.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..))]
    alone: u64,
    /// Number of concurrent calls.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// Bytes of the argument, which is also the result.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=60_000))]
    bytes: u64,
    /// The Python interpreter.
    #[arg(long, default_value = "python3")]
    python: String,
    /// The folder with the package `pagewire`; without it, that of the source of this program.
    #[arg(long)]
    sdk: Option<PathBuf>,
    /// Leaves out the calls through a node.
    #[arg(long)]
    runtime_only: bool,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// How to run an application.
pub(crate) struct Program {
    pub(crate) python: String,
    /// The folder with the package `pagewire`.
    pub(crate) sdk: PathBuf,
}

impl Program {
    /// Without `sdk`, the package is that of the source of this program.
    pub(crate) fn new(python: &str, sdk: Option<PathBuf>) -> Self {
        let own = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/src"));
        Self { python: python.to_owned(), sdk: sdk.unwrap_or_else(own) }
    }
}

/// How a program runs its handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// One thread reads a message and runs its handler in place.
    Blocking,
    /// One thread reads, and eight run handlers.
    Threads,
    /// An event loop with a task for each message.
    Asyncio,
}

impl Style {
    const ALL: [Self; 3] = [Self::Blocking, Self::Threads, Self::Asyncio];

    const fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Threads => "threads",
            Self::Asyncio => "asyncio",
        }
    }
}

/// Calls one after the other, and concurrent calls.
struct Sample {
    alone: Times,
    rate: f64,
    /// CPU µs of this process and of the program per concurrent call.
    caller: f64,
    program: f64,
}

/// One style: its two programs, and their samples in each run.
struct Contest {
    style: Style,
    bare: Arc<BareLoop>,
    child: Arc<Supervised>,
    samples: Vec<[Sample; 2]>,
}

/// Seconds until a program is there.
struct Start {
    interpreter: f64,
    bare: f64,
    child: f64,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let program = Program::new(&options.python, options.sdk.clone());
    let params: Arc<RawValue> = RawValue::from_string(payload(options.bytes))?.into();
    let mut contests = Vec::new();
    for style in Style::ALL {
        let bare = Arc::new(BareLoop::start(&program.python, style).await?);
        let child = Arc::new(Supervised::start(&program, style, SLOTS).await?);
        contests.push(Contest { style, bare, child, samples: Vec::new() });
    }
    let mut node = match options.runtime_only {
        true => None,
        false => Some(NodeEntry::start(&program, options.in_flight).await?),
    };
    let (mut starts, mut through_node) = (Vec::new(), Vec::new());
    for number in 0..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        // the first run warms up
        let most = if number == 0 { WARM_UP } else { u64::MAX };
        let (alone, together) = (options.alone.min(most), options.calls.min(most));
        let plans = [Plan::alone(alone, 0), Plan::together(together, options.in_flight)];
        for contest in &mut contests {
            let pair = contest.measure(&params, plans).await?;
            if number > 0 {
                contest.samples.push(pair);
            }
        }
        if let Some(node) = &mut node {
            let sample = node.measure(&params, plans).await?;
            through_node.extend((number > 0).then_some(sample));
        }
        if number > 0 {
            starts.push(Start::measure(&program).await?);
        }
    }
    progress("");
    for contest in &contests {
        contest.child.stop().await;
    }
    if let Some(node) = node {
        node.stop().await?;
    }
    Ok(report(&options, &contests, &starts, &through_node))
}

impl Contest {
    async fn measure(&self, params: &Arc<RawValue>, plans: [Plan; 2]) -> io::Result<[Sample; 2]> {
        let looped = self.bare.clone();
        let call = move |params: Arc<RawValue>| {
            let looped = looped.clone();
            async move { looped.call(&params).await.map(drop) }
        };
        let bare = measure(self.bare.pid, plans, params, call).await?;
        let child = self.child.clone();
        let call = move |params: Arc<RawValue>| {
            let child = child.clone();
            async move { child.call(&params).await.map(drop) }
        };
        Ok([bare, measure(self.child.pid, plans, params, call).await?])
    }
}

impl Start {
    async fn measure(program: &Program) -> io::Result<Self> {
        let since = Instant::now();
        let status = tokio::process::Command::new(&program.python).args(["-c", "pass"]).status().await?;
        let interpreter = since.elapsed().as_secs_f64() * 1e3;
        if !status.success() {
            return Err(io::Error::other("the interpreter has failed"));
        }
        let since = Instant::now();
        drop(BareLoop::start(&program.python, Style::Blocking).await?);
        let bare = since.elapsed().as_secs_f64() * 1e3;
        let child = Supervised::start(program, Style::Blocking, SLOTS).await?;
        child.stop().await;
        Ok(Self { interpreter, bare, child: child.started.as_secs_f64() * 1e3 })
    }
}

/// Measures one variant with both plans.
async fn measure<F, W>(
    pid: u32,
    [alone, together]: [Plan; 2],
    params: &Arc<RawValue>,
    call: F,
) -> io::Result<Sample>
where
    F: Fn(Arc<RawValue>) -> W + Clone + Send + 'static,
    W: Future<Output = io::Result<()>> + Send + 'static,
{
    let params = params.clone();
    let work = move |_| call(params.clone());
    let (_, alone) = took(run_load(alone, work.clone()).await?)?;
    let own = std::process::id();
    let before = (cpu(own)?, cpu(pid)?);
    let (seconds, _) = took(run_load(together, work).await?)?;
    let per_call = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / together.pieces as f64
    };
    Ok(Sample {
        alone,
        rate: together.pieces as f64 / seconds,
        caller: per_call(before.0, cpu(own)?),
        program: per_call(before.1, cpu(pid)?),
    })
}

fn took(response: HelperResponse) -> io::Result<(f64, Times)> {
    match response {
        HelperResponse::Took { seconds, each, .. } => Ok((seconds, each)),
        other => Err(unexpected(&other)),
    }
}

fn report(
    options: &Options,
    contests: &[Contest],
    starts: &[Start],
    through_node: &[Vec<NodeSample>],
) -> Report {
    let mut report = Report::new(format!(
        "Calls of Python handlers in children: {} at the same time ({} in one run) and one after the other ({}), with \
         arguments of {} bytes",
        options.in_flight, options.calls, options.alone, options.bytes
    ));
    for Contest { style, samples, .. } in contests {
        let of = |part: &dyn Fn(&[Sample; 2]) -> f64| samples.iter().map(part).collect::<Vec<_>>();
        let style = style.name();
        for (index, name) in ["bare loop", "child"].into_iter().enumerate() {
            let name = format!("{style}, {name}");
            report.row(format!("{name}, p50"), "µs", &of(&|run| run[index].alone.p50_us));
            report.row(format!("{name}, p99"), "µs", &of(&|run| run[index].alone.p99_us));
            report.row(&name, "calls/s", &of(&|run| run[index].rate));
            report.row(format!("{name}, CPU of the caller"), "µs/call", &of(&|run| run[index].caller));
            report.row(format!("{name}, CPU of the program"), "µs/call", &of(&|run| run[index].program));
        }
        let latency = of(&|run| run[1].alone.p50_us / run[0].alone.p50_us);
        report.goal(format!("{style}, child : bare, p50"), "times", &latency, LATENCY_GOAL);
        let rate = of(&|run| 100.0 * run[1].rate / run[0].rate);
        report.goal(format!("{style}, child : bare, rate"), "%", &rate, RATE_GOAL);
        let cost = |sample: &Sample| sample.caller + sample.program;
        let per_cpu = of(&|run| 100.0 * cost(&run[0]) / cost(&run[1]));
        report.row(format!("{style}, child : bare, per CPU second"), "%", &per_cpu);
    }
    node_entry::report(&mut report, through_node);
    let of = |part: fn(&Start) -> f64| starts.iter().map(part).collect::<Vec<_>>();
    report.row("start of the interpreter", "ms", &of(|start| start.interpreter));
    report.row("start of the bare loop, until it is connected", "ms", &of(|start| start.bare));
    report.row("start of a child, until it is ready", "ms", &of(|start| start.child));
    report
}
