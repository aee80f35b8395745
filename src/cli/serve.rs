//! `pagewire serve`: runs a node.

use std::io::{IsTerminal, stdin};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use clap::Args;
use pagewire_cluster::timing::Timing;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::config::ConfigFile;
use super::{CommandFailure, Exit, Program};
use crate::{roles, telemetry};

/// Arguments of `serve`. A flag overrides the same key in the environment and in the file.
#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    /// Address to listen on, e.g. 127.0.0.1:8080 or localhost:8080; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Name of the cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// NATS servers, separated by commas; without any, the embedded engine runs in this process.
    #[arg(long, value_name = "URLS")]
    nats: Option<String>,
    /// Directory where the embedded engine stores its data; without it, data is lost on exit.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "nats")]
    data_dir: Option<PathBuf>,
    /// Number of this node.
    #[arg(long)]
    number: Option<u16>,
    /// Name of this node.
    #[arg(long)]
    name: Option<String>,
    /// Lane of this node's pages.
    #[arg(long)]
    lane: Option<String>,
    /// Release that it runs.
    #[arg(long)]
    release: Option<String>,
    /// URL at which others reach this node.
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// Register the demo handlers.
    #[arg(long)]
    demo: bool,
}

impl Serve {
    /// Runs until a signal stops it. The first signal drains the node, a second one stops at once.
    pub(super) fn run(self, program: &Program) -> Result<(), CommandFailure> {
        let config = self.config.load_of(program, self.flags())?;
        // dropped at the end, when the spans of the drain are complete
        let _export = telemetry::init(&config, "node").map_err(|error| Exit::Usage.with_message(error))?;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let (own, timing) = (program.own.clone(), Timing::from_environment());
        until_signalled(|stop| roles::run_with(config, own, timing, |_| {}, stop))
    }

    fn flags(&self) -> Vec<(&'static str, String)> {
        let flags = [
            ("listen", self.listen.clone()),
            ("cluster", self.cluster.clone()),
            ("nats.urls", self.nats.clone()),
            ("data_dir", self.data_dir.as_ref().map(|path| path.to_string_lossy().into_owned())),
            ("node.number", self.number.map(|number| number.to_string())),
            ("node.name", self.name.clone()),
            ("node.lane", self.lane.clone()),
            ("node.release", self.release.clone()),
            ("node.advertise", self.advertise.clone()),
            ("demo", self.demo.then(|| "true".to_owned())),
        ];
        flags.into_iter().filter_map(|(key, text)| Some((key, text?))).collect()
    }
}

/// Runs a process until it ends. The first signal requests the end, a second one stops it at once.
pub(super) fn until_signalled<F>(run: impl FnOnce(Stop) -> F) -> Result<(), CommandFailure>
where
    F: Future<Output = Result<(), roles::StartError>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::Failed.with_message(error))?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(|error| Exit::Failed.with_message(error))?;
        let stop = Arc::new(Notify::new());
        let running = run(Box::pin(stop.clone().notified_owned()));
        tokio::select! {
            ended = running => ended.map_err(|error| exit_of(&error).with_message(error)),
            () = signals.second(&stop) => Err(Exit::Failed.with_message("stopped at once by a second signal")),
        }
    });
    // a handler that blocks a thread must not keep the process
    runtime.shutdown_background();
    outcome
}

fn exit_of(error: &roles::StartError) -> Exit {
    match error {
        roles::StartError::Incompatible(_) => Exit::Incompatible,
        _ => Exit::Failed,
    }
}

/// Resolves at the first signal.
type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The signals that end a process: from a service manager, from the keyboard, and from a terminal that was closed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// The process was started from a terminal.
    terminal: bool,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            terminal: stdin().is_terminal(),
        })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {}
            }
            if self.terminal {
                return;
            }
            // service managers send SIGHUP to request a reload
            tracing::info!(
                "SIGHUP: the child processes of the pools are replaced; the configuration is not read again, and SIGTERM \
                 stops this process"
            );
        }
    }

    /// Notifies `stop` at the first signal and returns at the second.
    async fn second(&mut self, stop: &Notify) {
        self.next().await;
        stop.notify_one();
        self.next().await;
    }
}
