//! `pagewire dev`: runs an application on this machine, with one node or several real ones.
//!
//! Owns: the processes of a development set-up, their order of start and end, and one address for all nodes. Never: what
//! a node does; each is a `pagewire serve` of its own.

mod configuration;
mod nats;
mod process;
mod proxy;
mod ready;
mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use futures_util::future::{join_all, select_all};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::configuration::DevDirectory;
use self::process::DevProcess;
use self::watch::FileChanges;
use super::{CommandFailure, Exit, Program, output};
use crate::config::{FILE, parse_address};

/// Address of the application, the same as the default of a node.
const LISTEN: &str = "127.0.0.1:8080";

/// Arguments of `dev`.
#[derive(Args)]
pub(super) struct DevArgs {
    /// Application in a Python module, e.g. app:app. Without it, the pools of the configuration file run.
    #[arg(value_name = "MODULE:NAME")]
    app: Option<String>,
    /// Start this many nodes over a NATS server of their own, behind one address. Default: one node without NATS.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Address for browsers.
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN, value_parser = parse_address)]
    listen: SocketAddr,
    /// Load the application anew when a file below the working directory changes.
    #[arg(long)]
    reload: bool,
    /// Configuration file to read instead of pagewire.toml.
    #[arg(long, value_name = "FILE", env = "PAGEWIRE_CONFIG")]
    config: Option<PathBuf>,
    /// Program in any other language that speaks the child wire, with its arguments.
    #[arg(last = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

fn failed(error: impl ToString) -> CommandFailure {
    Exit::Failed.with_message(error)
}

impl DevArgs {
    /// Runs until a signal or until a process ends by itself.
    pub(super) fn run(self, program: &Program) -> Result<(), CommandFailure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
        runtime.block_on(self.serve(program))
    }

    async fn serve(self, program: &Program) -> Result<(), CommandFailure> {
        if self.reload && !program.own.handlers.is_empty() {
            let message = "this program is compiled: build it anew and start it again instead of --reload";
            return Err(Exit::Usage.with_message(message));
        }
        if self.nodes.is_some() && !self.listen.ip().is_loopback() {
            let message = "with --nodes, --listen is an address of this machine only: the nodes take everything that comes \
                           through it for local";
            return Err(Exit::Usage.with_message(message));
        }
        let mut signals = StopSignals::listen().map_err(failed)?;
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            let message =
                format!("cannot listen on {}: {error}; --listen chooses another address", self.listen);
            failed(message)
        })?;
        let command = match &self.app {
            Some(app) if self.command.is_empty() => configuration::python(app)?,
            Some(_) => return Err(Exit::Usage.with_message("name an application or a program, not both")),
            None => self.command.clone(),
        };
        let directory = DevDirectory::create(self.config.as_deref(), &command)?;
        if !directory.has_pools() && program.own.handlers.is_empty() {
            output::print_stderr(
                "no application: name one (pagewire dev app:app) or configure [[pool]]; until then there are only the \
                 handlers of the welcome page",
            );
        }
        let mut processes = DevProcesses::default();
        let outcome = self.run_processes(&directory, listener, program, &mut processes, &mut signals).await;
        tokio::select! {
            () = processes.stop() => {}
            // what is dropped is killed
            () = signals.next() => {}
        }
        outcome
    }

    /// Starts everything and waits for the end. What was started is in `processes`.
    async fn run_processes(
        &self,
        directory: &DevDirectory,
        listener: TcpListener,
        program: &Program,
        processes: &mut DevProcesses,
        signals: &mut StopSignals,
    ) -> Result<(), CommandFailure> {
        let mut changes = if self.reload {
            Some(
                watch::changes()
                    .map_err(|error| failed(format!("--reload cannot follow the files: {error}")))?,
            )
        } else {
            None
        };
        let addresses = tokio::select! {
            started = self.start(directory, listener, processes) => started?,
            () = signals.next() => return Ok(()),
        };
        let own = program.own.handlers.names().map(str::to_owned).collect();
        tokio::spawn(ready::show(self.listen, addresses, own));
        loop {
            let event = tokio::select! {
                () = signals.next() => return Ok(()),
                how = processes.ended() => DevEvent::Failed(how),
                Some(path) = next_change(&mut changes) => DevEvent::Changed(path),
            };
            match event {
                DevEvent::Failed(why) => return Err(failed(why)),
                DevEvent::Changed(path) if path.ends_with(FILE) => {
                    let path = path.display();
                    output::print_stderr(&format!(
                        "{path} has changed: start pagewire dev again to apply it"
                    ));
                }
                DevEvent::Changed(path) => {
                    let path = path.display();
                    output::print_stderr(&format!("{path} has changed: the application is loaded anew"));
                    processes.reload().await;
                }
            }
        }
    }

    /// Starts NATS, if there are several nodes, and the nodes. Returns their addresses.
    async fn start(
        &self,
        directory: &DevDirectory,
        listener: TcpListener,
        processes: &mut DevProcesses,
    ) -> Result<Vec<SocketAddr>, CommandFailure> {
        let Some(count) = self.nodes else {
            // the node listens there itself
            drop(listener);
            let arguments = ["--listen".to_owned(), self.listen.to_string()];
            processes.nodes.push(node("node", directory, &arguments)?);
            return Ok(vec![self.listen]);
        };
        let addresses = free_addresses(usize::from(count) + 1).map_err(failed)?;
        let (nats_address, nodes) = addresses.split_first().ok_or_else(|| failed("no free address"))?;
        let url = nats::start(directory, *nats_address, &mut processes.nats).await?;
        for (index, address) in nodes.iter().enumerate() {
            let number = index + 1;
            let arguments = [
                ["--listen".to_owned(), address.to_string()],
                ["--nats".to_owned(), url.clone()],
                ["--number".to_owned(), number.to_string()],
                ["--advertise".to_owned(), format!("http://{address}")],
            ];
            processes.nodes.push(node(&format!("node {number}"), directory, arguments.as_flattened())?);
        }
        tokio::spawn(proxy::serve(listener, nodes.to_vec()));
        Ok(nodes.to_vec())
    }
}

/// What happens while the processes run.
enum DevEvent {
    Failed(String),
    Changed(PathBuf),
}

/// The signals that end the set-up: from a service manager, from the keyboard, and from a terminal that was closed.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn listen() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self([terminate?, interrupt?, hangup?]))
    }

    async fn next(&mut self) {
        let Self([terminate, interrupt, hangup]) = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The processes of a set-up.
#[derive(Default)]
struct DevProcesses {
    nats: Option<DevProcess>,
    nodes: Vec<DevProcess>,
}

impl DevProcesses {
    /// Resolves when one of them has ended by itself, with the reason.
    async fn ended(&mut self) -> String {
        let all = self.nats.iter_mut().chain(&mut self.nodes);
        select_all(all.map(|process| Box::pin(process.ended()))).await.0
    }

    /// Asks the nodes to load their programs anew.
    async fn reload(&mut self) {
        for node in &mut self.nodes {
            node.reload().await;
        }
    }

    /// Ends all: the nodes first, because they give their numbers back over NATS.
    async fn stop(self) {
        join_all(self.nodes.into_iter().map(DevProcess::stop)).await;
        if let Some(nats) = self.nats {
            nats.stop().await;
        }
    }
}

/// Returns the next file that has changed; never, if files are not followed.
async fn next_change(changes: &mut Option<FileChanges>) -> Option<PathBuf> {
    match changes {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}

fn node(name: &str, directory: &DevDirectory, arguments: &[String]) -> Result<DevProcess, CommandFailure> {
    let file = directory.file().to_string_lossy().into_owned();
    let command =
        [&["/proc/self/exe".to_owned(), "serve".to_owned(), "--config".to_owned(), file][..], arguments]
            .concat();
    DevProcess::start(name, &command).map_err(failed)
}

/// Returns free addresses of this machine. Another process may take one before it is used.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    // all are bound at the same time, so that no two are the same
    let bind = |_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = (0..count).map(bind).collect::<io::Result<Vec<_>>>()?;
    listeners.iter().map(std::net::TcpListener::local_addr).collect()
}
