//! The settings that the processes of one cluster share, and how they are started.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::batches::ProcessBatches;
use crate::child;
use crate::nats::Nats;
use crate::scratch::{free_address, scratch_directory};
use crate::server::client;
use crate::view::user;
use pagewire::auth;
use pagewire::config::{self, Config, Secret, Sources};

/// The environment variable that names another program than the `pagewire` beside this one.
const PROGRAM: &str = "PAGEWIRE_SERVER";

/// Returns the path of the measured program: `pagewire` in the directory of this program, unless `PAGEWIRE_SERVER`
/// names another one.
///
/// # Errors
/// If the program has not been built.
fn pagewire() -> io::Result<PathBuf> {
    let named = std::env::var_os(PROGRAM).map(PathBuf::from);
    let program = match named {
        Some(program) => program,
        None => std::env::current_exe()?.with_file_name("pagewire"),
    };
    if program.exists() {
        return Ok(program);
    }
    let message = format!(
        "{} does not exist: build it with `cargo build --release --workspace`, or name it in {PROGRAM}",
        program.display()
    );
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// A cluster: its name, its secret and its engine.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    secret: String,
    urls: String,
    replicas: usize,
}

impl Cluster {
    /// Creates a new cluster name and secret. Without NATS the cluster is one process with the embedded engine.
    pub(crate) fn new(nats: Option<&Nats>) -> Self {
        Self {
            name: format!("bench-{}", &random()[..8]),
            secret: random(),
            urls: nats.map_or_else(String::new, |nats| nats.urls.clone()),
            replicas: nats.map_or(1, |nats| nats.replicas),
        }
    }

    /// Prepares `pagewire <arguments>` in this cluster.
    pub(crate) fn pagewire(&self, arguments: &[&str]) -> io::Result<Command> {
        Ok(self.command(&pagewire()?, arguments))
    }

    /// Prepares `pagewire-bench <role>` in this cluster.
    pub(crate) fn helper(&self, role: &str) -> io::Result<Command> {
        Ok(self.command(&std::env::current_exe()?, &[role]))
    }

    /// Prepares a program in this cluster. Neither an environment variable of this shell nor, because the process
    /// starts in an empty directory, a configuration file changes the result.
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
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
        command
    }

    /// Returns the default configuration in this cluster, for a node in this process.
    pub(crate) fn config(&self) -> io::Result<Config> {
        let mut config = config::load(&Sources::default()).map_err(io::Error::other)?;
        config.cluster.clone_from(&self.name);
        config.nats.urls = self.urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect();
        config.nats.replicas = self.replicas;
        config.auth.hs256_secret = Secret::new(self.secret.clone());
        Ok(config)
    }

    /// Creates a token for each of these users, all with the role `push`.
    pub(crate) fn tokens(&self, users: Range<u64>) -> io::Result<Vec<String>> {
        let auth = self.config()?.auth;
        let token_ttl = Duration::from_secs(24 * 3600);
        let roles = ["push".to_owned()];
        let token = |number| auth::issue(&auth, &user(number), &roles, token_ttl);
        users.map(token).collect::<Option<_>>().ok_or_else(|| io::Error::other("no token can be signed"))
    }
}

/// A `pagewire worker` process.
pub(crate) struct WorkerProcess {
    /// The process id.
    pub(crate) pid: u32,
    /// `None` once they have been counted.
    batches: Option<ProcessBatches>,
    child: Child,
    _directory: TempDir,
}

impl WorkerProcess {
    /// Starts a worker without waiting for it; the caller waits until its node sees it.
    pub(crate) fn start(cluster: &Cluster, pool: &str, slots: u64, core: Option<usize>) -> io::Result<Self> {
        let command =
            cluster.pagewire(&["worker", "--demo", "--pool", pool, "--slots", &slots.to_string()])?;
        Self::spawn(command, &[], core)
    }

    /// Starts a prepared worker, with the program whose handlers its children run; without one, its own handlers.
    pub(crate) fn spawn(mut command: Command, program: &[&str], core: Option<usize>) -> io::Result<Self> {
        let (directory, address) = (scratch_directory()?, free_address()?);
        command.args(["--listen", &address.to_string()]);
        if !program.is_empty() {
            command.arg("--").args(program);
        }
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = child::start(command, core)?;
        let batches = Some(ProcessBatches::of(client()?.get(format!("http://{address}/metrics"))));
        Ok(Self { pid: child::pid(&child)?, batches, child, _directory: directory })
    }

    /// Counts the worker's atomic batches, then stops it.
    pub(crate) async fn stop(mut self) -> io::Result<()> {
        self.count().await
    }

    /// Kills the process, and waits for its end, so that it is not left as a process that has ended but is there.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Counts the worker's atomic batches, of a worker that is about to end.
    pub(crate) async fn count(&mut self) -> io::Result<()> {
        match self.batches.take() {
            Some(batches) => batches.count().await,
            None => Ok(()),
        }
    }
}

/// Returns 256 random bits as text.
pub(crate) fn random() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
