//! A child process of this binary that serves requests on its standard input.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::batches::count_batches;
use crate::child;
use crate::cluster::Cluster;
use crate::helper_protocol::{HelperRequest, HelperResponse};
use crate::report::Times;

/// The longest time that a request may take. Opening all pages takes the longest.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// A child process. It exits when this value is dropped or its standard input is closed.
pub(crate) struct HelperProcess {
    pid: u32,
    requests: ChildStdin,
    responses: Lines<BufReader<ChildStdout>>,
    /// Its atomic batches that have been counted.
    batches: u64,
    _child: Child,
}

impl HelperProcess {
    /// Starts `pagewire-bench <arguments>` on a core.
    pub(crate) fn start(arguments: &[&str], core: Option<usize>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments);
        Self::spawn(command, core)
    }

    /// Starts `pagewire-bench <role>` in a cluster, on a core. Returns when it is ready.
    pub(crate) async fn of(cluster: &Cluster, role: &str, core: Option<usize>) -> io::Result<Self> {
        let mut worker = Self::spawn(cluster.helper(role)?, core)?;
        match worker.response().await? {
            HelperResponse::Done => Ok(worker),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a role twice, each on its own core: a requester and a responder.
    pub(crate) async fn pair(
        cluster: &Cluster,
        role: &str,
        slots: u64,
        [caller, serving]: [Option<usize>; 2],
    ) -> io::Result<(Self, Self)> {
        let caller = Self::of(cluster, role, caller).await?;
        let mut serving = Self::of(cluster, role, serving).await?;
        serving.done(&HelperRequest::Serve { slots }).await?;
        Ok((caller, serving))
    }

    fn spawn(mut command: Command, core: Option<usize>) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child::start(command, core)?;
        let pid = child::pid(&child)?;
        let (Some(requests), Some(responses)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        let responses = BufReader::new(responses).lines();
        Ok(Self { pid, requests, responses, batches: 0, _child: child })
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a request without waiting for its response.
    pub(crate) async fn send(&mut self, request: &HelperRequest) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.requests.write_all(&line).await?;
        self.requests.flush().await
    }

    /// Receives the next response. A failure in the process becomes an error.
    pub(crate) async fn response(&mut self) -> io::Result<HelperResponse> {
        let line = tokio::time::timeout(RESPONSE_TIMEOUT, self.responses.next_line()).await;
        let line =
            line.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "a child process does not respond"))??;
        let line = line.ok_or_else(|| io::Error::other("a child has ended"))?;
        match serde_json::from_str(&line)? {
            HelperResponse::Failed { reason } => Err(io::Error::other(reason)),
            response => Ok(response),
        }
    }

    /// Sends a request and waits until it is done.
    pub(crate) async fn done(&mut self, request: &HelperRequest) -> io::Result<()> {
        match self.request(request).await? {
            HelperResponse::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request and waits until it is done. Returns the total time in seconds and the times of the single
    /// operations.
    pub(crate) async fn took(&mut self, request: &HelperRequest) -> io::Result<(f64, Times)> {
        match self.request(request).await? {
            HelperResponse::Took { seconds, each, batches } => {
                count_batches(batches.saturating_sub(self.batches));
                self.batches = batches;
                Ok((seconds, each))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request and waits for its response.
    pub(crate) async fn request(&mut self, request: &HelperRequest) -> io::Result<HelperResponse> {
        self.send(request).await?;
        self.response().await
    }
}

/// Returns the error for a response that does not match its request.
pub(crate) fn unexpected(response: &HelperResponse) -> io::Error {
    io::Error::other(format!("unexpected response: {response:?}"))
}
