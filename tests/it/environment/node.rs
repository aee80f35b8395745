//! A `pagewire serve` process: its configuration, its signals, its address.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::token::SECRET;
use super::{Api, Nats, Process, SOON, eventually, free_port};

/// The configuration of a node, passed through the environment.
#[derive(Clone)]
pub(crate) struct Setup {
    address: SocketAddr,
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
    terminal: bool,
    file: String,
}

impl Setup {
    /// Adds lines to the file `pagewire.toml` of the node.
    pub(crate) fn file(mut self, lines: &str) -> Self {
        self.file += lines;
        self
    }

    /// Starts the node without arguments; the address is read from the environment.
    pub(crate) fn bare(self) -> Self {
        let address = self.address;
        Self { arguments: Vec::new(), ..self }.set("listen", address)
    }

    /// Sets a key, written as in the documentation, e.g. `websocket.ping_ms`.
    pub(crate) fn set(mut self, key: &str, value: impl Display) -> Self {
        let variable = format!("PAGEWIRE_{}", key.replace('.', "__").to_uppercase());
        self.environment.insert(variable, value.to_string());
        self
    }

    /// Sets a variable of the environment that is not one of Pagewire.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn nats(self, nats: &Nats) -> Self {
        self.set("nats.urls", nats.url())
    }

    /// Accepts the tokens that [`super::Token`] signs.
    pub(crate) fn users(self) -> Self {
        self.set("auth.hs256_secret", SECRET)
    }

    /// Listens on a port of its own, for another node with the same configuration.
    pub(crate) fn on_another_port(mut self) -> Self {
        self.address.set_port(free_port());
        self.arguments = serve(self.address);
        self
    }

    /// Returns the address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on every interface of the machine; tests still connect over loopback.
    pub(crate) fn everywhere(mut self) -> Self {
        self.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
        self.arguments = serve(self.address);
        self
    }

    /// Listens on the same address, given by a host name.
    pub(crate) fn named(mut self, host: &str) -> Self {
        let address = format!("{host}:{}", self.address.port());
        self.arguments = vec!["serve".to_owned(), "--listen".to_owned(), address];
        self
    }

    /// Uses a terminal as the standard input.
    pub(crate) fn at_a_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Uses the timing of production instead of the short one.
    pub(crate) fn real_timing(mut self) -> Self {
        self.environment.remove("PAGEWIRE_TIMING");
        self
    }

    /// Starts a node and waits until it takes traffic.
    pub(crate) async fn start(self) -> Node {
        let mut node = self.launch();
        node.ready().await;
        node
    }

    /// Starts a node without waiting; it may never become ready.
    pub(crate) fn launch(self) -> Node {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = run(&self, &folder);
        Node { process, setup: self, folder }
    }
}

fn serve(address: SocketAddr) -> Vec<String> {
    vec!["serve".to_owned(), "--listen".to_owned(), address.to_string()]
}

fn run(setup: &Setup, folder: &TempDir) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagewire"));
    command.args(&setup.arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PAGEWIRE_")) {
        command.env_remove(name);
    }
    command.envs(&setup.environment).current_dir(folder.path());
    if !setup.file.is_empty() {
        std::fs::write(folder.path().join("pagewire.toml"), &setup.file).expect("a file");
    }
    let name = format!("the node at port {}", setup.address.port());
    let log = folder.path().join("node.log");
    if setup.terminal {
        Process::at_a_terminal(&name, &mut command, log)
    } else {
        Process::start(&name, &mut command, log)
    }
}

/// A running node. Ends with its test.
pub(crate) struct Node {
    process: Process,
    setup: Setup,
    folder: TempDir,
}

impl Node {
    /// Starts a node with the embedded engine and the defaults, except for short timing.
    pub(crate) async fn start() -> Self {
        Self::setup().start().await
    }

    pub(crate) fn setup() -> Setup {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let environment = BTreeMap::from([("PAGEWIRE_TIMING".to_owned(), "short".to_owned())]);
        Setup { address, environment, arguments: serve(address), terminal: false, file: String::new() }
    }

    /// Returns the address for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.setup.address.port()))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn api(&self) -> Api {
        Api::of(self.url())
    }

    pub(crate) async fn ready(&mut self) {
        let what = format!("{} is ready", self.url());
        let api = self.api();
        eventually(&what, SOON, async || {
            if let Some(status) = self.process.ended() {
                panic!("the node ended before it was ready: {status}");
            }
            api.is_ready().await.then_some(())
        })
        .await;
    }

    /// Returns the number that this process holds, e.g. `p01`.
    pub(crate) async fn number(&self) -> String {
        let page = super::Page::open(self).await;
        page.registered["node"].as_str().expect("a node number").to_owned()
    }

    /// Kills the node (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Stops the process (SIGSTOP) while everything else continues.
    pub(crate) fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Continues the process (SIGCONT).
    pub(crate) fn wake(&self) {
        self.process.signal(Signal::CONT);
    }

    pub(crate) async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.process.exit(within).await
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Starts the node again with the same configuration and address, after it has exited.
    pub(crate) async fn restart(&mut self) {
        assert!(!self.is_running(), "a node restarts after its end");
        self.process = run(&self.setup, &self.folder);
        self.ready().await;
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        self.process.rss()
    }
}
