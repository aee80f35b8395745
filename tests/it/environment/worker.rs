//! A `pagewire worker` process, which runs handlers for the nodes of a cluster.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Api, Nats, Process, SOON, eventually};

/// The configuration of a worker.
pub(crate) struct WorkerSetup {
    command: Command,
    lane: String,
    folder: TempDir,
    /// The program of its children with its arguments; empty for the demo handlers.
    program: Vec<String>,
}

impl WorkerSetup {
    /// Makes all handlers fail.
    pub(crate) fn failing(mut self) -> Self {
        self.command.env("PAGEWIRE_DEMO_FAIL", "1");
        self
    }

    /// Sets the number of replicas of the stored streams.
    pub(crate) fn replicas(mut self, replicas: usize) -> Self {
        self.command.env("PAGEWIRE_NATS__REPLICAS", replicas.to_string());
        self
    }

    /// Uses the timing of production instead of the short one.
    pub(crate) fn real_timing(mut self) -> Self {
        self.command.env_remove("PAGEWIRE_TIMING");
        self
    }

    /// Shifts the wall clock of the worker.
    pub(crate) fn clock_offset(mut self, ms: i64) -> Self {
        self.command.env("PAGEWIRE_CLOCK_OFFSET_MS", ms.to_string());
        self
    }

    /// Sets a key, written as in the documentation, e.g. `executors.discovery`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        let variable = format!("PAGEWIRE_{}", key.replace('.', "__").to_uppercase());
        self.command.env(variable, value);
        self
    }

    /// Sets a variable of the environment that is not one of Pagewire.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument, e.g. `--slots 4`.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.command.args([name, value]);
        self
    }

    /// Starts a worker and waits until it takes work.
    pub(crate) async fn start(mut self) -> WorkerProcess {
        if !self.program.is_empty() {
            self.command.arg("--").args(&self.program);
        }
        let log = self.folder.path().join("worker.log");
        let process = Process::start(&format!("the worker of {}", self.lane), &mut self.command, log);
        let mut worker = WorkerProcess { process, _folder: self.folder };
        eventually("the worker is ready", SOON, async || {
            if let Some(status) = worker.process.ended() {
                panic!("the worker ended before it was ready: {status}");
            }
            // the first log line after it has acquired its lease
            worker.log().contains("\"message\":\"ready\"").then_some(())
        })
        .await;
        worker
    }
}

/// A running worker. Ends with its test.
pub(crate) struct WorkerProcess {
    process: Process,
    _folder: TempDir,
}

impl WorkerProcess {
    /// Starts a worker of the default pool and waits until it takes work.
    pub(crate) async fn start(nats: &Nats, lane: &str) -> Self {
        Self::setup(nats, lane).start().await
    }

    /// Configures a worker of the default pool.
    pub(crate) fn setup(nats: &Nats, lane: &str) -> WorkerSetup {
        Self::setup_at(&nats.url(), lane)
    }

    /// Configures a worker of the default pool at servers with these addresses.
    pub(crate) fn setup_at(urls: &str, lane: &str) -> WorkerSetup {
        let mut setup = Self::without_handlers(urls, lane);
        setup.command.arg("--demo");
        setup
    }

    /// Configures a worker of the default pool that runs a program with its arguments.
    pub(crate) fn running(nats: &Nats, lane: &str, program: &[&str]) -> WorkerSetup {
        let program = program.iter().map(|part| (*part).to_owned()).collect();
        WorkerSetup { program, ..Self::without_handlers(&nats.url(), lane) }
    }

    fn without_handlers(urls: &str, lane: &str) -> WorkerSetup {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagewire"));
        command.args(["worker", "--nats", urls, "--lane", lane]).current_dir(folder.path());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PAGEWIRE_"))
        {
            command.env_remove(name);
        }
        command.env("PAGEWIRE_TIMING", "short");
        WorkerSetup { command, lane: lane.to_owned(), folder, program: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Starts a worker that may never take work, and waits until it has exited.
    pub(crate) async fn refused(setup: WorkerSetup) -> (ExitStatus, String) {
        let WorkerSetup { mut command, lane, folder, .. } = setup;
        let log = folder.path().join("worker.log");
        let mut process = Process::start(&format!("the worker of {lane}"), &mut command, log);
        let status = process.exit(SOON).await;
        (status, process.log())
    }

    /// Kills the worker (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Stops the process (SIGSTOP) while everything else continues.
    pub(crate) fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Continues the process (SIGCONT).
    pub(crate) fn wake(&self) {
        self.process.signal(Signal::CONT);
    }

    pub(crate) async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.process.exit(within).await
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Returns the URL of its probes and metrics, which the system has chosen.
    pub(crate) fn url(&self) -> String {
        let log = self.log();
        let url = log.lines().find_map(|line| line.split_once("http://")).map(|(_, rest)| rest);
        let address = url.and_then(|rest| rest.split(['"', ' ']).next()).expect("the URL of the probes");
        format!("http://{address}")
    }

    /// Returns a client of its probes and metrics.
    pub(crate) fn api(&self) -> Api {
        Api::of(self.url())
    }
}
