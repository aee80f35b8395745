//! `pagewire-bench`: measures the cost of a page, a push, a call or a job, beside the physical limit or the bare
//! library.
//!
//! Owns: the servers, baselines and clients that it starts as child processes, on the loopback interface alone, and
//! their statistics in `/proc`. Never: a process that it did not start. Each number is the median of several runs, with
//! its range; a ratio compares two variants that took turns within one run.

mod aborts;
mod affinity;
mod baseline_engine;
mod baseline_nats_client;
mod baseline_writer;
mod batches;
mod calls;
mod child;
mod children;
mod clients;
mod cluster;
mod cpu_affinity;
mod disk;
mod fanout;
mod generator;
mod headless_node;
mod helper_process;
mod helper_protocol;
mod http_response;
mod idle;
mod job_entry;
mod jobs;
mod leaves;
mod lives;
mod load;
mod measure;
mod mounts;
mod moves;
mod nats;
mod plan;
mod push;
mod registers;
mod registry;
mod remote_push;
mod report;
mod scratch;
mod server;
mod state;
mod state_options;
mod state_pages;
mod state_sets;
mod state_updates;
mod view;
mod weights;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use pagewire_cluster::rollout;
use pagewire_worker::runtime::child::guard;
use report::Report;

/// The allocator of the product, so that a node inside a helper process behaves like one of `pagewire serve`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The pool of the measured work. It is not the default pool, so no node runs its work itself.
const POOL: &str = "bench";
/// The lane of workers that name none.
const LANE: &str = rollout::BASE;

/// Measure this build of Pagewire on this machine.
#[derive(Parser)]
#[command(version)]
struct Bench {
    #[command(subcommand)]
    what: Measurement,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Measurement {
    /// Measure a node's memory per idle page.
    Idle(idle::Options),
    /// Measure the memory of a node after many pages have come and gone.
    Lives(lives::Options),
    /// Measure pages that leave, and pages that enter again.
    Leaves(leaves::Options),
    /// Measure messages to many pages, beside a bare writer of the same bytes.
    Fanout(fanout::Options),
    /// Measure the CPU time of a message to one page.
    Push(push::Options),
    /// Measure the latency of a message to a page of another node, beside a bare NATS request.
    RemotePush(remote_push::Options),
    /// Measure calls of a worker, beside bare NATS requests.
    Calls(calls::Options),
    /// Measure calls of Python handlers in child processes, beside a bare Python loop over a Unix socket.
    Children(children::Options),
    /// Measure which users move when workers come and go, and how long they wait.
    Affinity(affinity::Options),
    /// Measure an application through a mount, beside the application alone and nginx.
    Mounts(mounts::Options),
    /// Measure files of a folder through a mount, beside nginx.
    MountFiles(mounts::files::Options),
    /// Measure reloads of an application of a mount under load.
    MountReloads(mounts::reloads::Options),
    /// Measure the memory of connections that stay open after a request to a mount, beside nginx.
    MountConnections(mounts::connections::Options),
    /// Measure durable jobs, for any worker and assigned to users, beside a bare work queue.
    Jobs(jobs::Options),
    /// Measure jobs from pages beside those from the server API, and the time until a job starts.
    JobEntry(job_entry::Options),
    /// Measure a lane of nodes whose pages move to another one.
    Moves(moves::Options),
    /// Measure the time until a weight change is applied everywhere.
    Weights(weights::Options),
    /// Measure the time until an abort is applied everywhere while nothing is stored.
    Aborts(aborts::Options),
    /// Measure writes into a data directory, beside bare appends to a file.
    Disk(disk::Options),
    /// Measure memory and queries of the registry at the size of a large cluster.
    Registry(registry::Options),
    /// Measure the items of a request in a register, and a table event for many pages.
    Registers(registers::Options),
    /// Measure sets of state trees and their notifications, beside bare puts and a bare delivery.
    State(state_options::StateOptions),
    /// The clients. Serves requests on its standard input.
    #[command(hide = true)]
    Generator,
    /// A node without a listener. Serves requests on its standard input.
    #[command(hide = true)]
    HeadlessNode,
    /// The engine alone. Serves requests on its standard input.
    #[command(hide = true)]
    BaselineEngine,
    /// The NATS client library alone. Serves requests on its standard input.
    #[command(hide = true)]
    BaselineNatsClient,
    /// The physical limit: writes prepared bytes to sockets.
    #[command(hide = true)]
    BaselineWriter(baseline_writer::Options),
    /// A registry view alone in a process.
    #[command(hide = true)]
    View(view::Options),
}

/// Exits with 0 after a measurement, 1 after a failure, 2 on wrong usage.
fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == guard::SUBCOMMAND) {
        // a child of the measured runtime has a process of this binary above it
        return guard::run(&arguments.collect::<Vec<_>>());
    }
    match run(Bench::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // nothing reads a message that cannot be written
            let _ = writeln!(io::stderr(), "pagewire-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a measurement, or a process that a measurement has started.
fn run(bench: Bench) -> io::Result<()> {
    raise_limit()?;
    let report = match bench.what {
        Measurement::Generator => return generator::run(),
        Measurement::HeadlessNode => return headless_node::run(),
        Measurement::BaselineEngine => return baseline_engine::run(),
        Measurement::BaselineNatsClient => return baseline_nats_client::run(),
        Measurement::BaselineWriter(options) => return baseline_writer::run(&options),
        Measurement::View(options) => return view::run(&options),
        Measurement::Idle(options) => interruptible(idle::run(options)),
        Measurement::Lives(options) => interruptible(lives::run(options)),
        // the measured registry is in this process
        Measurement::Leaves(options) => interruptible_on(&runtime()?, leaves::run(options)),
        Measurement::Fanout(options) => interruptible(fanout::run(options)),
        Measurement::Push(options) => interruptible(push::run(options)),
        Measurement::RemotePush(options) => interruptible(remote_push::run(options)),
        Measurement::Calls(options) => interruptible(calls::run(options)),
        Measurement::Affinity(options) => interruptible(affinity::run(options)),
        // the measured runtime is in this process
        Measurement::Children(options) => interruptible_on(&runtime()?, children::run(options)),
        Measurement::Mounts(options) => interruptible(mounts::run(options)),
        Measurement::MountFiles(options) => interruptible(mounts::files::run(options)),
        Measurement::MountReloads(options) => interruptible(mounts::reloads::run(options)),
        Measurement::MountConnections(options) => interruptible(mounts::connections::run(options)),
        Measurement::Jobs(options) => interruptible(jobs::run(options)),
        Measurement::JobEntry(options) => interruptible(job_entry::run(options)),
        Measurement::Registry(options) => interruptible(registry::run(options)),
        // the measured registers are in this process
        Measurement::Registers(options) => interruptible_on(&runtime()?, registers::run(options)),
        Measurement::Moves(options) => interruptible(moves::run(options)),
        Measurement::Weights(options) => interruptible(weights::run(options)),
        Measurement::Aborts(options) => interruptible(aborts::run(options)),
        Measurement::Disk(options) => interruptible(disk::run(options)),
        // the measured nodes are in this process
        Measurement::State(options) => interruptible_on(&runtime()?, state::run(options)),
    }?;
    let report = report.with_batches();
    let json = bench.json.then(|| serde_json::to_string_pretty(&report)).transpose()?;
    writeln!(io::stdout(), "{}", json.unwrap_or_else(|| report.to_string()))
}

/// Runs a measurement. An interrupt drops it together with the processes that it has started.
fn interruptible(measurement: impl Future<Output = io::Result<Report>>) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    interruptible_on(&runtime, measurement)
}

fn interruptible_on(
    runtime: &tokio::runtime::Runtime,
    measurement: impl Future<Output = io::Result<Report>>,
) -> io::Result<Report> {
    runtime.block_on(async {
        tokio::select! {
            report = measurement => report,
            _ = tokio::signal::ctrl_c() => Err(io::ErrorKind::Interrupted.into()),
        }
    })
}

/// Raises the limit on open files, because every socket is a file. Child processes inherit the limit.
fn raise_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Creates the runtime of a measured process, the same as a node's.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Returns a JSON text of that many bytes.
fn payload(bytes: u64) -> String {
    let filler = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(r#"{"text":""}"#.len());
    format!(r#"{{"text":"{}"}}"#, "x".repeat(filler))
}
