//! A real nats-server with JetStream, in its own folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Process, eventually, free_port};

pub(crate) struct Nats {
    process: Process,
    address: SocketAddr,
    /// The arguments that make it a member of a cluster.
    member: Vec<String>,
    folder: TempDir,
}

impl Nats {
    pub(crate) async fn start() -> Self {
        let nats = Self::launch(Vec::new());
        nats.ready().await;
        nats
    }

    /// Starts that many servers; several form a cluster. No server advertises the others to clients.
    pub(crate) async fn cluster(servers: usize) -> Vec<Self> {
        if servers == 1 {
            return vec![Self::start().await];
        }
        let routes: Vec<String> = (0..servers).map(|_| format!("nats://127.0.0.1:{}", free_port())).collect();
        let member = |number: usize| {
            let (name, own, all) = (format!("n{number}"), routes[number].clone(), routes.join(","));
            let named =
                ["--server_name", &name, "--cluster_name", "tests", "--no_advertise"].map(str::to_owned);
            let routed = ["--cluster".to_owned(), own, "--routes".to_owned(), all];
            named.into_iter().chain(routed).collect()
        };
        let servers: Vec<Self> = (0..servers).map(|number| Self::launch(member(number))).collect();
        for server in &servers {
            server.ready().await;
        }
        servers
    }

    /// Starts a server with a configuration file, which [`Nats::reconfigure`] replaces.
    pub(crate) async fn configurable() -> Self {
        let mut nats = Self::launch(Vec::new());
        nats.process.kill();
        let file = nats.folder.path().join("server.conf");
        std::fs::write(&file, "").expect("a file");
        nats.member = vec!["--config".to_owned(), file.display().to_string()];
        nats.restart().await;
        nats
    }

    /// Writes the configuration file and makes the server read it (SIGHUP).
    pub(crate) fn reconfigure(&self, text: &str) {
        std::fs::write(self.folder.path().join("server.conf"), text).expect("a file");
        self.process.signal(Signal::HUP);
    }

    fn launch(member: Vec<String>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { process: launch(address, &member, &folder), address, member, folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Kills the server (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server again with the same port and files.
    pub(crate) async fn restart(&mut self) {
        self.process = launch(self.address, &self.member, &self.folder);
        self.ready().await;
    }

    /// Stops the process (SIGSTOP): its connections stay open and transfer nothing.
    pub(crate) fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    async fn ready(&self) {
        eventually("nats-server listens", Duration::from_secs(20), async || {
            TcpStream::connect(self.address).await.ok()
        })
        .await;
    }
}

fn launch(address: SocketAddr, member: &[String], folder: &TempDir) -> Process {
    let program = std::env::var_os("NATS_SERVER").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
    let mut command = Command::new(program);
    command.args(["--addr", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(member).arg("--jetstream").arg("--store_dir").arg(folder.path());
    Process::start("nats-server", &mut command, folder.path().join("server.log"))
}
