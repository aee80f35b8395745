//! One `pagewire worker`: a process that runs handlers for the nodes of a cluster.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Nats, Process, SOON, eventually};

/// A running worker. Ends with its test.
pub(crate) struct WorkerProcess {
    process: Process,
    _folder: TempDir,
}

impl WorkerProcess {
    /// A worker of the default pool that takes work.
    pub(crate) async fn start(nats: &Nats, lane: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagewire"));
        command.args(["worker", "--nats", &nats.url(), "--lane", lane]).current_dir(folder.path());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PAGEWIRE_"))
        {
            command.env_remove(name);
        }
        command.env("PAGEWIRE_TIMING", "short");
        let process =
            Process::start(&format!("the worker of {lane}"), &mut command, folder.path().join("worker.log"));
        let mut worker = Self { process, _folder: folder };
        eventually("the worker is ready", SOON, async || {
            if let Some(status) = worker.process.ended() {
                panic!("the worker ended before it was ready: {status}");
            }
            // the first thing that it says once its lease stands
            worker.log().contains("ready").then_some(())
        })
        .await;
        worker
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// SIGSTOP: the process stands still while the world goes on.
    pub(crate) fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn wake(&self) {
        self.process.signal(Signal::CONT);
    }

    pub(crate) async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.process.exit(within).await
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}
