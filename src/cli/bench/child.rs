//! A process of this binary that takes orders and answers them.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::cluster::Cluster;
use super::order::{Answer, Order};
use super::pin;
use super::report::Times;

/// The longest time that an order may take: opening all pages.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that ends with this value, or with its standard input.
pub(super) struct Worker {
    pid: u32,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Worker {
    /// Starts `pagewire bench <arguments>` on a core.
    pub(super) fn start(arguments: &[&str], core: Option<usize>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bench").args(arguments);
        Self::spawn(command, core)
    }

    /// Starts `pagewire bench <role>` in a cluster, on a core. Returns when it is ready.
    pub(super) async fn of(cluster: &Cluster, role: &str, core: Option<usize>) -> io::Result<Self> {
        let mut worker = Self::spawn(cluster.command(&["bench", role])?, core)?;
        match worker.answer().await? {
            Answer::Done => Ok(worker),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a role twice, each on its core: one that asks, and one that serves.
    pub(super) async fn pair(
        cluster: &Cluster,
        role: &str,
        slots: u64,
        [asking, serving]: [Option<usize>; 2],
    ) -> io::Result<(Self, Self)> {
        let asking = Self::of(cluster, role, asking).await?;
        let mut serving = Self::of(cluster, role, serving).await?;
        serving.done(&Order::Serve { slots }).await?;
        Ok((asking, serving))
    }

    fn spawn(mut command: Command, core: Option<usize>) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = start(command, core)?;
        let pid = pid(&child)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        Ok(Self { pid, orders, answers: BufReader::new(answers).lines(), _child: child })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives an order without waiting for its answer.
    pub(super) async fn order(&mut self, order: &Order) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).await?;
        self.orders.flush().await
    }

    /// The next answer. That something failed is an error.
    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        let line = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let line = line.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "a child does not answer"))??;
        let line = line.ok_or_else(|| io::Error::other("a child has ended"))?;
        match serde_json::from_str(&line)? {
            Answer::Failed { reason } => Err(io::Error::other(reason)),
            answer => Ok(answer),
        }
    }

    /// Waits until an order is carried out.
    pub(super) async fn done(&mut self, order: &Order) -> io::Result<()> {
        match self.ask(order).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until an order is carried out: how many seconds all of it took, and each piece.
    pub(super) async fn took(&mut self, order: &Order) -> io::Result<(f64, Times)> {
        match self.ask(order).await? {
            Answer::Took { seconds, each } => Ok((seconds, each)),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives an order and waits for its answer.
    pub(super) async fn ask(&mut self, order: &Order) -> io::Result<Answer> {
        self.order(order).await?;
        self.answer().await
    }
}

/// Starts a process that ends with the returned value.
pub(super) fn start(mut command: Command, core: Option<usize>) -> io::Result<Child> {
    command.kill_on_drop(true);
    pin::on(core, || command.spawn())
}

/// Its process id.
pub(super) fn pid(child: &Child) -> io::Result<u32> {
    child.id().ok_or_else(|| io::Error::other("a child has ended"))
}

/// An answer that no order of ours has.
pub(super) fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("an answer to something else: {answer:?}"))
}
