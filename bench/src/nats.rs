//! The NATS servers of a measurement: an existing one, one child process, or three of them.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::child;
use crate::measure::cpu;
use crate::scratch::{free_address, scratch_directory, until};

/// A NATS server, or a cluster of three.
pub(crate) struct Nats {
    /// Their URLs, separated by commas.
    pub(crate) urls: String,
    /// The number of replicas of each stream.
    pub(crate) replicas: usize,
    servers: Vec<Server>,
}

/// A server with an empty store, as a child of this process.
struct Server {
    pid: u32,
    _child: Child,
    _directory: TempDir,
}

impl Nats {
    /// Uses the given server, or starts one.
    pub(crate) async fn start(named: Option<&str>) -> io::Result<Self> {
        if let Some(urls) = named {
            return Ok(Self { urls: urls.to_owned(), replicas: 1, servers: Vec::new() });
        }
        let address = free_address()?;
        let server = Server::start(address, &[]).await?;
        Ok(Self { urls: format!("nats://{address}"), replicas: 1, servers: vec![server] })
    }

    /// Starts three servers with each stream on all of them.
    pub(crate) async fn cluster() -> io::Result<Self> {
        let addresses: Vec<_> = (0..3).map(|_| free_address()).collect::<io::Result<_>>()?;
        let routes: Vec<_> = (0..3).map(|_| free_address()).collect::<io::Result<_>>()?;
        let all = routes.iter().map(|route| format!("nats://{route}")).collect::<Vec<_>>().join(",");
        let mut servers = Vec::new();
        for (index, (address, route)) in addresses.iter().zip(&routes).enumerate() {
            let (name, route) = (format!("bench-{index}"), format!("nats://{route}"));
            let member = ["-n", &name, "--cluster_name", "bench", "--cluster", &route, "--routes", &all];
            servers.push(Server::start(*address, &member).await?);
        }
        let urls = addresses.iter().map(|address| format!("nats://{address}")).collect::<Vec<_>>().join(",");
        Ok(Self { urls, replicas: 3, servers })
    }

    /// Returns the same cluster, with processes that connect to its first server only.
    pub(crate) fn at_first(self) -> Self {
        let urls = self.urls.split(',').next().unwrap_or_default().to_owned();
        Self { urls, ..self }
    }

    /// Stops all servers but the first one (SIGSTOP), so that no stream has a leader.
    pub(crate) fn pause_others(&self) -> io::Result<()> {
        self.signal_others(Signal::STOP)
    }

    /// Lets them continue.
    pub(crate) fn resume_others(&self) -> io::Result<()> {
        self.signal_others(Signal::CONT)
    }

    fn signal_others(&self, signal: Signal) -> io::Result<()> {
        self.servers.iter().skip(1).try_for_each(|server| {
            let pid = i32::try_from(server.pid).ok().and_then(Pid::from_raw);
            Ok(kill_process(pid.ok_or(io::ErrorKind::NotFound)?, signal)?)
        })
    }

    /// Returns the process id if there is one server and it is a child of this process.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.servers[..] {
            [server] => Some(server.pid),
            _ => None,
        }
    }

    /// Returns the CPU time of the servers if they are children of this process.
    pub(crate) fn cpu(&self) -> io::Result<Option<Duration>> {
        let used = self.servers.iter().map(|server| cpu(server.pid)).collect::<io::Result<Vec<_>>>()?;
        Ok((!used.is_empty()).then(|| used.into_iter().sum()))
    }
}

impl Server {
    async fn start(address: SocketAddr, member: &[&str]) -> io::Result<Self> {
        let directory = scratch_directory()?;
        let program = std::env::var_os("NATS_SERVER").unwrap_or_else(|| OsString::from("nats-server"));
        let mut command = Command::new(&program);
        command
            .args(["-js", "-a", "127.0.0.1", "-p", &address.port().to_string(), "-sd"])
            .arg(directory.path());
        command.args(member).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child::start(command, None).map_err(|error| {
            let program = Path::new(&program).display();
            io::Error::new(error.kind(), format!("{program}: {error}; NATS_SERVER names another program"))
        })?;
        let pid = child::pid(&child)?;
        until("the NATS server", async || Ok(TcpStream::connect(address).await.is_ok())).await?;
        Ok(Self { pid, _child: child, _directory: directory })
    }
}
