//! Real nats-servers for tests that kill them: one process, or a cluster of three.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{ConnectError, Engine, Nats, NatsOptions};
use pagewire_cluster::timing::Timing;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The time-outs of every engine under test.
pub(crate) const TIMING: Timing = Timing::TEST;

/// Returns a port for a server that may be restarted on it. The port is below the range that the system
/// assigns to clients. No other process takes it meanwhile, and a client that connects to a killed server
/// cannot connect to itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 18_000).expect("is below 18,000");
    loop {
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed) * 7) % 18_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// One server process. Killed on drop.
pub(crate) struct Server {
    pub(crate) port: u16,
    monitor: u16,
    arguments: Vec<String>,
    process: Option<Child>,
    files: TempDir,
}

impl Server {
    /// Starts a single server with JetStream.
    pub(crate) fn start() -> Self {
        Self::with(|files| vec!["-js".to_owned(), "-sd".to_owned(), files.display().to_string()])
    }

    /// Starts a server with the arguments that `arguments` returns for its directory.
    pub(crate) fn with(arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let files = tempfile::tempdir().expect("a directory for the server's files");
        let arguments = arguments(files.path());
        let mut server = Self { port: free_port(), monitor: free_port(), arguments, process: None, files };
        server.start_again();
        server
    }

    /// Starts the process on its port and directory, and waits until it listens.
    pub(crate) fn start_again(&mut self) {
        self.kill();
        let program = std::env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let process = Command::new(&program)
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-m", &self.monitor.to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} (set NATS_SERVER to its path): {error}"));
        self.process = Some(process);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // the process may have ended already; after the wait it has ended in any case
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Deletes all data of the killed server.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.files.path().join("jetstream")).expect("had streams");
    }

    /// Puts the server into lame duck mode: it announces that it will stop, and stops later.
    pub(crate) fn become_a_lame_duck(&self) {
        let id = self.process.as_ref().expect("runs").id();
        let id = Pid::from_raw(id.try_into().expect("a process id")).expect("not 0");
        kill_process(id, Signal::USR2).expect("runs");
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// Connects a process of the cluster.
    pub(crate) async fn engine(&self) -> Engine {
        connect(vec![self.url()], 1).await.expect("connects")
    }

    /// Returns the number of consumers of all streams of this server.
    pub(crate) fn consumers(&self) -> u64 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.monitor)).expect("is monitored");
        stream.write_all(b"GET /jsz HTTP/1.0\r\n\r\n").expect("asks");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        let body = answer.split_once("\r\n\r\n").expect("has a body").1;
        let state: serde_json::Value = serde_json::from_str(body).expect("is JSON");
        state["consumers"].as_u64().expect("counts")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

pub(crate) async fn connect(urls: Vec<String>, replicas: usize) -> Result<Engine, ConnectError> {
    let (cluster, client_name) = ("test".to_owned(), "test".to_owned());
    let options = NatsOptions { urls, replicas, cluster, client_name, timing: TIMING };
    Nats::connect(options).await.map(Engine::Nats)
}

/// Three servers that replicate.
pub(crate) struct Trio(pub(crate) Vec<Server>);

impl Trio {
    pub(crate) fn start() -> Self {
        let routes = [(); 3].map(|()| free_port());
        let all = routes.map(url).join(",");
        let server = |(number, route): (usize, &u16)| {
            Server::with(|files| {
                let flags = [
                    ("-sd", files.display().to_string()),
                    ("--server_name", format!("s{number}")),
                    ("--cluster_name", "trio".to_owned()),
                    ("--cluster", url(*route)),
                    ("--routes", all.clone()),
                ];
                let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
                std::iter::once("-js".to_owned()).chain(flags).collect()
            })
        };
        Self(routes.iter().enumerate().map(server).collect())
    }

    /// Connects a process of the cluster that knows all three servers.
    pub(crate) async fn engine(&self) -> Engine {
        connect(self.0.iter().map(Server::url).collect(), 3).await.expect("connects")
    }
}

/// Polls a condition until it holds. Fails the test after 30 s.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), asking).await.is_ok(), "never happened: {what}");
}
