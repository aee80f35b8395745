//! `pagewire dev`: runs an application on this machine, with one node or several real ones.
//!
//! Owns: the processes of a development set-up, their order of start, and one address for all nodes. Never: what a node
//! does; each is a `pagewire serve` of its own.

mod configuration;
mod nats;
mod process;
mod proxy;
mod watch;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::future::{join_all, select_all};
use tokio::signal::unix::{SignalKind, signal};

use self::configuration::DevDirectory;
use self::process::DevProcess;
use self::watch::FileChanges;
use super::api_client::ApiClient;
use super::{CommandFailure, Exit, output};
use crate::config::parse_address;

/// Address of the application, the same as the default of a node.
const LISTEN: &str = "127.0.0.1:8080";
/// Pause between two looks whether a node is ready.
const PAUSE: Duration = Duration::from_millis(50);

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
    pub(super) fn run(self) -> Result<(), CommandFailure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> Result<(), CommandFailure> {
        if self.nodes.is_some() && !self.listen.ip().is_loopback() {
            let message = "with --nodes, --listen is an address of this machine only: the nodes take everything that comes \
                           through it for local";
            return Err(Exit::Usage.with_message(message));
        }
        let command = match &self.app {
            Some(app) if self.command.is_empty() => configuration::python(app)?,
            Some(_) => return Err(Exit::Usage.with_message("name an application or a program, not both")),
            None => self.command.clone(),
        };
        let directory = DevDirectory::create(self.config.as_deref(), &command)?;
        let mut processes = Vec::new();
        let outcome = self.run_processes(&directory, &mut processes).await;
        // nodes first, because they give their numbers back over NATS
        while let Some(process) = processes.pop() {
            process.stop().await;
        }
        outcome
    }

    /// Starts everything and waits for the end. What was started is in `processes`, NATS first.
    async fn run_processes(
        &self,
        directory: &DevDirectory,
        processes: &mut Vec<DevProcess>,
    ) -> Result<(), CommandFailure> {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut changes = if self.reload { Some(watch::changes().map_err(failed)?) } else { None };
        let nodes = self.start(directory, processes).await?;
        let first_node = processes.len() - nodes.len();
        let proxied = async {
            match nodes.as_slice() {
                [only] if *only == self.listen => std::future::pending().await,
                _ => proxy::serve(self.listen, nodes.clone()).await,
            }
        };
        let mut proxied = std::pin::pin!(proxied);
        tokio::spawn(show_when_ready(self.listen, nodes.clone()));
        loop {
            let ended = select_all(processes.iter_mut().map(|process| Box::pin(process.ended())));
            let event = tokio::select! {
                _ = terminate.recv() => DevEvent::Stop,
                _ = interrupt.recv() => DevEvent::Stop,
                error = &mut proxied => DevEvent::Failed(error.to_string()),
                (how, ..) = ended => DevEvent::Failed(how),
                Some(path) = next_change(&mut changes) => DevEvent::Changed(path),
            };
            match event {
                DevEvent::Stop => return Ok(()),
                DevEvent::Failed(why) => return Err(failed(why)),
                DevEvent::Changed(path) => {
                    output::print_stderr(&format!(
                        "{} has changed: the application is loaded anew",
                        path.display()
                    ));
                    for node in &mut processes[first_node..] {
                        node.reload().await;
                    }
                }
            }
        }
    }

    /// Starts NATS, if there are several nodes, and the nodes. Returns their addresses.
    async fn start(
        &self,
        directory: &DevDirectory,
        processes: &mut Vec<DevProcess>,
    ) -> Result<Vec<SocketAddr>, CommandFailure> {
        let Some(count) = self.nodes else {
            let arguments = ["--listen".to_owned(), self.listen.to_string()];
            processes.push(node("node", directory, &arguments)?);
            return Ok(vec![self.listen]);
        };
        let (server, url) = nats::start(directory).await?;
        processes.push(server);
        let mut addresses = Vec::new();
        for number in 1..=count {
            let address = free_address()?;
            let arguments = ["--listen".to_owned(), address.to_string(), "--nats".to_owned(), url.clone()];
            processes.push(node(&format!("node {number}"), directory, &arguments)?);
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// What happens while the processes run.
enum DevEvent {
    Stop,
    Failed(String),
    Changed(PathBuf),
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

/// Returns a free address of this machine. Another process may take it before it is used.
fn free_address() -> Result<SocketAddr, CommandFailure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.local_addr().map_err(failed)
}

/// Shows the address and the handlers when all nodes are ready.
async fn show_when_ready(listen: SocketAddr, nodes: Vec<SocketAddr>) {
    let executors = join_all(nodes.iter().map(async |node| {
        let client = ApiClient::of(format!("http://{node}"));
        loop {
            match client.get("/executors").await {
                Ok(executors) => return executors,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }))
    .await;
    output::print(&format!("\n  http://{listen}"));
    if let Some(first) = executors.first() {
        output::print(&format!("  handlers: {}\n", handlers(first)));
    }
}

/// Returns the handlers of all executors, as text.
fn handlers(executors: &serde_json::Value) -> String {
    let kinds = executors["items"].as_array().into_iter().flatten();
    let methods = kinds.flat_map(|kind| kind["methods"].as_array().into_iter().flatten());
    let names: std::collections::BTreeSet<&str> = methods.filter_map(serde_json::Value::as_str).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.into_iter().collect::<Vec<_>>().join(", "),
    }
}
