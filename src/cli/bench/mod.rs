//! `pagewire bench`: what a page costs and how close a push comes to the machine's limit.
//!
//! Owns: the servers, writers and clients it starts as processes of their own, on the loopback interface alone, and
//! what it reads of them in `/proc`. Never: a process it did not start. Each number is the median of several runs,
//! with its range; a ratio compares two things measured in turns within one run.

mod bare;
mod calls;
mod child;
mod clients;
mod cluster;
mod disk;
mod entry;
mod fanout;
mod flight;
mod generator;
mod idle;
mod jobs;
mod measure;
mod nats;
mod order;
mod pin;
mod plain;
mod push;
mod registry;
mod remote_push;
mod report;
mod server;
mod state;
mod state_news;
mod state_pages;
mod state_sets;
mod view;
mod weights;
mod writer;

use std::io;

use report::Report;

use super::{Exit, Failure, output};

/// The pool of what is measured. It is not the default one, so no node runs its work itself.
const POOL: &str = "bench";

/// Measures this build on this machine.
#[derive(clap::Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum What {
    /// Memory of a node per idle page.
    Idle(idle::Options),
    /// Messages to many pages, beside a bare writer of the same bytes.
    Fanout(fanout::Options),
    /// CPU time of a message to one page.
    Push(push::Options),
    /// Time of a message to a page of another node, beside a bare NATS request.
    RemotePush(remote_push::Options),
    /// Calls of a worker, beside bare NATS requests.
    Calls(calls::Options),
    /// Durable jobs, beside a bare work queue with and without three conditional puts.
    Jobs(jobs::Options),
    /// Time until a weight change is applied everywhere.
    Weights(weights::Options),
    /// Writes into a data directory, beside bare appends to a file.
    Disk(disk::Options),
    /// Memory and questions of the registry at the size of a large cluster.
    Registry(registry::Options),
    /// Sets of state trees and news of them, beside bare puts and a bare delivery.
    State(state::Options),
    /// The clients: takes orders on its standard input.
    #[command(hide = true)]
    Generator,
    /// A node without a listener: takes orders on its standard input.
    #[command(hide = true)]
    Entry,
    /// The engine alone: takes orders on its standard input.
    #[command(hide = true)]
    Bare,
    /// The NATS client library alone: takes orders on its standard input.
    #[command(hide = true)]
    Plain,
    /// The physical limit: writes prepared bytes to sockets.
    #[command(hide = true)]
    Writer(writer::Options),
    /// A view alone in a process.
    #[command(hide = true)]
    View(view::Options),
}

impl Bench {
    /// Measures, or is one of the processes that measuring takes.
    pub(super) fn run(self) -> Result<(), Failure> {
        self.work().map_err(|error| Exit::Failed.because(error))
    }

    fn work(self) -> io::Result<()> {
        raise_limit()?;
        let report = match self.what {
            What::Generator => return generator::run(),
            What::Entry => return entry::run(),
            What::Bare => return bare::run(),
            What::Plain => return plain::run(),
            What::Writer(options) => return writer::run(&options),
            What::View(options) => return view::run(&options),
            What::Idle(options) => interruptible(idle::run(options)),
            What::Fanout(options) => interruptible(fanout::run(options)),
            What::Push(options) => interruptible(push::run(options)),
            What::RemotePush(options) => interruptible(remote_push::run(options)),
            What::Calls(options) => interruptible(calls::run(options)),
            What::Jobs(options) => interruptible(jobs::run(options)),
            What::Registry(options) => interruptible(registry::run(options)),
            What::Weights(options) => interruptible(weights::run(options)),
            What::Disk(options) => interruptible(disk::run(options)),
            // it holds nodes itself
            What::State(options) => interruptible_on(&runtime()?, state::run(options)),
        }?;
        let json = self.json.then(|| serde_json::to_string_pretty(&report)).transpose()?;
        output::print(&json.unwrap_or_else(|| report.to_string()));
        Ok(())
    }
}

/// An interrupt drops the measurement, and with it the processes that it has started.
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

/// Every socket is a file, and children inherit the limit.
fn raise_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The runtime of a process that is measured: that of a node.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// A JSON text of that many bytes.
fn payload(bytes: u64) -> String {
    let filler = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(r#"{"text":""}"#.len());
    format!(r#"{{"text":"{}"}}"#, "x".repeat(filler))
}
