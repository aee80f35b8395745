//! What the processes of one cluster have in common, and what starting them takes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::process::{Child, Command};

use super::child;
use super::nats::Nats;
use super::view::user;
use crate::auth;
use crate::config::{self, Config, Secret, Sources};

/// To start, or to see what is expected.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often something is looked at again.
const AGAIN: Duration = Duration::from_millis(50);

/// A directory that goes with this value.
pub(super) struct Scratch(pub(super) PathBuf);

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

/// A cluster: its name, its secret and its engine.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) name: String,
    secret: String,
    urls: String,
    replicas: usize,
}

impl Cluster {
    /// A cluster that nothing is known of there; without NATS, one process on the embedded engine.
    pub(super) fn new(nats: Option<&Nats>) -> Self {
        Self {
            name: format!("bench-{}", &random()[..8]),
            secret: random(),
            urls: nats.map_or_else(String::new, |nats| nats.urls.clone()),
            replicas: nats.map_or(1, |nats| nats.replicas),
        }
    }

    /// `pagewire <arguments>` in this cluster: neither a variable of this shell nor, where the process is started in
    /// an empty directory, a file changes what is measured.
    pub(super) fn command(&self, arguments: &[&str]) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PAGEWIRE_") {
                command.env_remove(name);
            }
        }
        command.env("PAGEWIRE_CLUSTER", &self.name);
        command.env("PAGEWIRE_NATS__URLS", &self.urls);
        command.env("PAGEWIRE_NATS__REPLICAS", self.replicas.to_string());
        command.env("PAGEWIRE_AUTH__HS256_SECRET", &self.secret);
        command.env("PAGEWIRE_LIMITS__CONNECTIONS_PER_IP", "1000000");
        command.env("PAGEWIRE_LIMITS__ANONYMOUS_PAGES_PER_IP_PER_MINUTE", "1000000");
        command.env("PAGEWIRE_LIMITS__FRAMES_PER_SECOND", "1000000");
        command.env("PAGEWIRE_LIMITS__PAGES_PER_USER", "1000000");
        command.env("PAGEWIRE_LOG", "warn");
        Ok(command)
    }

    /// The defaults in this cluster, for a node of this process.
    pub(super) fn config(&self) -> io::Result<Config> {
        let mut config = config::load(&Sources::default()).map_err(io::Error::other)?;
        config.cluster.clone_from(&self.name);
        config.nats.urls = self.urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect();
        config.nats.replicas = self.replicas;
        config.auth.hs256_secret = Secret::new(self.secret.clone());
        Ok(config)
    }

    /// A token for each of that many users, all of whom may push.
    pub(super) fn tokens(&self, users: u64) -> io::Result<Vec<String>> {
        let auth = self.config()?.auth;
        let lives = Duration::from_secs(24 * 3600);
        let roles = ["push".to_owned()];
        let token = |number| auth::issue(&auth, &user(number), &roles, lives);
        (0..users).map(token).collect::<Option<_>>().ok_or_else(|| io::Error::other("no token can be signed"))
    }
}

/// A `pagewire worker`.
pub(super) struct Hand {
    /// Its process.
    pub(super) pid: u32,
    _child: Child,
    _scratch: Scratch,
}

impl Hand {
    /// Starts one; whoever needs it waits until it sees it.
    pub(super) fn start(cluster: &Cluster, pool: &str, slots: u64, core: Option<usize>) -> io::Result<Self> {
        let scratch = Scratch::new()?;
        let mut command = cluster.command(&["worker", "--pool", pool, "--slots", &slots.to_string()])?;
        command.current_dir(&scratch.0).stdin(Stdio::null()).stdout(Stdio::null());
        let child = child::start(command, core)?;
        Ok(Self { pid: child::pid(&child)?, _child: child, _scratch: scratch })
    }
}

/// Looks again and again.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> io::Result<bool>) -> io::Result<()> {
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
pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// 256 random bits.
pub(super) fn random() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
