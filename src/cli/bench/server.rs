//! What is measured: a node and a NATS server, as processes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::child;
use super::view::user;
use crate::auth;
use crate::cli::server::client;
use crate::config::{self, Secret, Sources};

/// To start, or to see what is expected.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often something is looked at again.
const AGAIN: Duration = Duration::from_millis(50);

/// A directory that goes with this value.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// An empty directory of this process.
    pub(super) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("pagewire-bench-{}", random()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // a directory of the system's temporary ones that stays is no reason to fail
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A NATS server.
pub(super) struct Nats {
    /// Where it is.
    pub(super) url: String,
    /// Its process, when it is a child of this one.
    pub(super) pid: Option<u32>,
    _child: Option<Child>,
    _scratch: Option<Scratch>,
}

impl Nats {
    /// The one that was named, else a child with an empty store.
    pub(super) async fn start(named: Option<&str>) -> io::Result<Self> {
        if let Some(url) = named {
            return Ok(Self { url: url.to_owned(), pid: None, _child: None, _scratch: None });
        }
        let (scratch, address) = (Scratch::new()?, free_address()?);
        let program = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let mut command = Command::new(&program);
        command.args(["-js", "-a", "127.0.0.1", "-p", &address.port().to_string(), "-sd"]).arg(&scratch.0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child::start(command, None).map_err(|error| {
            let program = Path::new(&program).display();
            io::Error::new(error.kind(), format!("{program}: {error}; NATS_SERVER names another program"))
        })?;
        let pid = Some(child::pid(&child)?);
        until("the NATS server", async || Ok(TcpStream::connect(address).await.is_ok())).await?;
        Ok(Self { url: format!("nats://{address}"), pid, _child: Some(child), _scratch: Some(scratch) })
    }
}

/// A node of this build.
pub(super) struct Node {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its process.
    pub(super) pid: u32,
    cluster: String,
    secret: String,
    api_key: String,
    http: reqwest::Client,
    _child: Child,
    _scratch: Scratch,
}

impl Node {
    /// A node of a cluster of its own. Returns when it is ready.
    pub(super) async fn start(nats: Option<&Nats>, core: Option<usize>) -> io::Result<Self> {
        Self::join(format!("bench-{}", &random()[..8]), random(), nats, core).await
    }

    /// Another node of the same cluster.
    pub(super) async fn neighbour(&self, nats: &Nats, core: Option<usize>) -> io::Result<Self> {
        Self::join(self.cluster.clone(), self.secret.clone(), Some(nats), core).await
    }

    /// Starts `pagewire serve` with the defaults, as far as they let one machine be all clients.
    async fn join(
        cluster: String,
        secret: String,
        nats: Option<&Nats>,
        core: Option<usize>,
    ) -> io::Result<Self> {
        let (scratch, address, api_key) = (Scratch::new()?, free_address()?, random());
        let mut command = Command::new(std::env::current_exe()?);
        // neither a file nor a variable of this shell changes what is measured
        command.arg("serve").current_dir(&scratch.0).stdin(Stdio::null()).stdout(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PAGEWIRE_") {
                command.env_remove(name);
            }
        }
        command.env("PAGEWIRE_LISTEN", address.to_string());
        command.env("PAGEWIRE_NODE__ADVERTISE", format!("http://{address}"));
        command.env("PAGEWIRE_CLUSTER", &cluster);
        command.env("PAGEWIRE_NATS__URLS", nats.map_or("", |nats| &nats.url));
        command.env("PAGEWIRE_AUTH__HS256_SECRET", &secret);
        command.env("PAGEWIRE_AUTH__API_KEYS", &api_key);
        command.env("PAGEWIRE_LIMITS__CONNECTIONS_PER_IP", "1000000");
        command.env("PAGEWIRE_LIMITS__FRAMES_PER_SECOND", "1000000");
        command.env("PAGEWIRE_LOG", "warn");
        let child = child::start(command, core)?;
        let http = client().map_err(|failure| io::Error::other(failure.message))?;
        let pid = child::pid(&child)?;
        let node = Self { address, pid, cluster, secret, api_key, http, _child: child, _scratch: scratch };
        until("the node", async || Ok(node.is_ready().await)).await?;
        Ok(node)
    }

    /// Whether it answers, and takes traffic.
    pub(super) async fn is_ready(&self) -> bool {
        let ready = self.http.get(format!("http://{}/readyz", self.address)).send().await;
        ready.is_ok_and(|ready| ready.status().is_success())
    }

    /// A token for each of that many users, all of whom may push.
    pub(super) fn tokens(&self, users: u64) -> io::Result<Vec<String>> {
        let defaults = config::load(&Sources::default()).map_err(io::Error::other)?;
        let auth = config::Auth { hs256_secret: Secret::new(self.secret.clone()), ..defaults.auth };
        let lives = Duration::from_secs(24 * 3600);
        let roles = ["push".to_owned()];
        let token = |number| auth::issue(&auth, &user(number), &roles, lives);
        (0..users).map(token).collect::<Option<_>>().ok_or_else(|| io::Error::other("no token can be signed"))
    }

    /// Asks the server API.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> io::Result<T> {
        let url = format!("http://{}/api/v1{path}", self.address);
        let request = self.http.post(url).bearer_auth(&self.api_key).json(body);
        answer(request).await
    }

    /// Replaces what is there, whatever it is.
    pub(super) async fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> io::Result<T> {
        let url = format!("http://{}/api/v1{path}", self.address);
        let request = self.http.put(url).bearer_auth(&self.api_key).header("if-match", "*").json(body);
        answer(request).await
    }

    /// Waits until its view shows that many nodes.
    pub(super) async fn sees_nodes(&self, nodes: u64) -> io::Result<()> {
        let url = format!("http://{}/api/v1/nodes", self.address);
        until("the view", async || {
            let list: Value = answer(self.http.get(&url).bearer_auth(&self.api_key)).await?;
            Ok(list["items"].as_array().map(Vec::len) == usize::try_from(nodes).ok())
        })
        .await
    }

    /// Waits until its view shows that many pages.
    pub(super) async fn sees(&self, pages: usize) -> io::Result<()> {
        let url = format!("http://{}/api/v1/stats", self.address);
        until("the view", async || {
            let stats: Value = answer(self.http.get(&url).bearer_auth(&self.api_key)).await?;
            Ok(stats["pages"].as_u64() == u64::try_from(pages).ok())
        })
        .await
    }
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> io::Result<T> {
    let response = request.send().await.and_then(reqwest::Response::error_for_status);
    response.map_err(io::Error::other)?.json().await.map_err(io::Error::other)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> io::Result<bool>) -> io::Result<()> {
    let started = Instant::now();
    while !holds().await? {
        if started.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not get there in time")));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

/// An address of this machine alone that nobody listens on.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// 256 random bits.
pub(super) fn random() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
