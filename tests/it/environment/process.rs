//! A child process of a test: its signals, its log, its exit.
//!
//! Owns: one process by its id. Kills it when the test ends, and prints its log when the test fails.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::eventually;

/// Bytes of the log that a failed test prints.
const SHOWN: usize = 16 * 1024;

pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    _terminal: Option<OwnedFd>,
}

impl Process {
    /// Starts the command and appends its output to `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> Self {
        Self::spawn(name, command.stdin(Stdio::null()), log, None)
    }

    /// Starts the command with a terminal as its standard input.
    pub(crate) fn at_a_terminal(name: &str, command: &mut Command, log: PathBuf) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("a terminal of ours");
        let name_of_it = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("a path");
        let end = File::options().read(true).write(true).open(name_of_it).expect("its other end");
        Self::spawn(name, command.stdin(end), log, Some(terminal))
    }

    fn spawn(name: &str, command: &mut Command, log: PathBuf, terminal: Option<OwnedFd>) -> Self {
        let output = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .stderr(output.try_clone().expect("the log file twice"))
            .stdout(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} does not start ({command:?}): {error}; tests/run.py installs what tests need")
            });
        Self { name: name.to_owned(), child, log, _terminal: terminal }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid")).expect("a pid");
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("{} takes no {signal:?}: {error}", self.name));
    }

    /// Kills the process (SIGKILL) and waits until it has exited.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a process of ours");
        self.child.wait().expect("a process of ours");
    }

    /// Returns the exit status once the process has exited.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a process of ours")
    }

    pub(crate) async fn exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} exits", self.name);
        eventually(&what, within, async || self.ended()).await
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a living process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kilobytes * 1024
    }
}

#[expect(clippy::print_stderr, reason = "what a failed test shows")]
impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
        if std::thread::panicking() {
            let log = self.log();
            let mut start = log.len().saturating_sub(SHOWN);
            while !log.is_char_boundary(start) {
                start += 1;
            }
            eprintln!("\n── log of {} ──\n{}", self.name, &log[start..]);
        }
    }
}
