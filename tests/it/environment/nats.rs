//! A real nats-server with JetStream, in a folder of its own.

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
    folder: TempDir,
}

impl Nats {
    pub(crate) async fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nats = Self { process: launch(address, &folder), address, folder };
        nats.ready().await;
        nats
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// The same port, the same files.
    pub(crate) async fn restart(&mut self) {
        self.process = launch(self.address, &self.folder);
        self.ready().await;
    }

    /// SIGSTOP: it stays connected and says nothing.
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

fn launch(address: SocketAddr, folder: &TempDir) -> Process {
    let program = std::env::var_os("NATS_SERVER").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
    let mut command = Command::new(program);
    command.args(["--addr", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.arg("--jetstream").arg("--store_dir").arg(folder.path());
    Process::start("nats-server", &mut command, folder.path().join("server.log"))
}
