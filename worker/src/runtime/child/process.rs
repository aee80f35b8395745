//! One program below its guard.
//!
//! Owns: the process, its signals and the last lines of its log. Never: its socket.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};

use super::guard;
use super::listener_address::ListenerAddress;
use super::options::ChildOptions;

/// Lines of the log of a child that are kept to explain its end.
const KEPT_LINES: usize = 20;
/// Bytes of a line; the rest is another line.
const LINE: usize = 8192;
/// Prefix of the configuration in the environment, which may contain secrets.
const OWN_VARIABLES: &str = "PAGEWIRE_";

/// The last lines of the log of a child. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl LogTail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Returns the lines, the oldest first.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// A program that runs. It is killed when this is dropped.
pub(super) struct Process {
    guard: Child,
    signals: Option<ChildStdin>,
    /// Resolves when both outputs of the program have ended; `None` after that.
    output: Option<tokio::task::JoinHandle<()>>,
    pub(super) log: LogTail,
    /// Process group of the program, once it has named its process.
    group: Option<Pid>,
}

impl Process {
    /// Starts the program of a pool as the child `number`. `http` is the address at which it serves HTTP.
    pub(super) fn start(
        options: &ChildOptions,
        number: u64,
        socket: &Path,
        token: &str,
        http: Option<&ListenerAddress>,
    ) -> io::Result<Self> {
        let adapted = options.program.as_ref().zip(http);
        let mut command = match adapted {
            Some((program, address)) => {
                guard::command(&program.guarded(&options.command, options.slots, address))
            }
            None => guard::command(&options.command),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(OWN_VARIABLES) {
                command.env_remove(name);
            }
        }
        match adapted {
            Some((program, address)) => command.envs(program.environment(&options.env, address)),
            None => {
                let socket = http.and_then(ListenerAddress::socket);
                command.envs(&options.env).envs(socket.map(|path| ("PAGEWIRE_HTTP_SOCKET", path)))
            }
        };
        command.env("PAGEWIRE_SOCKET", socket).env("PAGEWIRE_TOKEN", token);
        if let Some(directory) = &options.directory {
            command.current_dir(directory);
        }
        let mut guard = command.spawn()?;
        let (signals, log) = (guard.stdin.take(), LogTail::default());
        let (out, err) = (guard.stdout.take(), guard.stderr.take());
        let (pool, tail) = (options.pool.clone(), log.clone());
        let output = Some(tokio::spawn(async move {
            tokio::join!(copy_lines(out, &tail, &pool, number), copy_lines(err, &tail, &pool, number));
        }));
        Ok(Self { guard, signals, output, log, group: None })
    }

    /// Sets the process that the program has named. Its group is killed with the guard, if the program has started it.
    pub(super) fn set_process(&mut self, pid: u32) {
        let own = self.has_started(pid).then(|| i32::try_from(pid).ok().and_then(Pid::from_raw)).flatten();
        let group = own.and_then(|pid| rustix::process::getpgid(Some(pid)).ok());
        self.group = group.filter(|group| *group != rustix::process::getpgrp());
    }

    /// Returns whether a process is the program or was started by it, and lives.
    pub(super) fn has_started(&self, pid: u32) -> bool {
        let Some(guard) = self.guard.id().map(|guard| guard.to_string()) else { return false };
        let mut at = i32::try_from(pid).ok();
        while let Some(parent) = at.and_then(guard::parent_of) {
            if parent == guard {
                return true;
            }
            at = parent.parse().ok();
        }
        false
    }

    /// Asks the process group of the program to end.
    pub(super) async fn terminate(&mut self) {
        self.signal(guard::TERMINATE).await;
    }

    /// Kills the program and everything that it has started, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> Option<ExitStatus> {
        self.signal(guard::KILL).await;
        self.signals = None;
        self.wait().await
    }

    async fn signal(&mut self, byte: u8) {
        if let Some(signals) = &mut self.signals {
            // an error means that the guard has ended, after its program
            let _ = signals.write_all(&[byte]).await;
        }
    }

    /// Waits until the program and its output have ended.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        let status = self.guard.wait().await.ok();
        let was_killed = status.is_some_and(|status| status.code().is_none());
        if let Some(group) = self.group.take()
            && was_killed
        {
            // the guard cannot end what the program has started; an error means that nothing is left
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        // nothing is left that could write, so this ends at once
        if let Some(output) = &mut self.output {
            let _ = output.await;
            self.output = None;
        }
        status
    }
}

/// Writes the lines of a program to the log.
async fn copy_lines(output: Option<impl AsyncRead + Unpin>, tail: &LogTail, pool: &str, child: u64) {
    let Some(output) = output else { return };
    let mut reader = BufReader::with_capacity(LINE, output);
    let mut line = Vec::new();
    while let Ok(bytes) = reader.fill_buf().await
        && !bytes.is_empty()
    {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        line.extend_from_slice(&bytes[..end.unwrap_or(taken)]);
        reader.consume(taken);
        if end.is_some() || line.len() >= LINE {
            write_line(&line, tail, pool, child);
            line.clear();
        }
    }
    if !line.is_empty() {
        write_line(&line, tail, pool, child);
    }
}

fn write_line(line: &[u8], tail: &LogTail, pool: &str, child: u64) {
    let line = String::from_utf8_lossy(line).trim_end().to_owned();
    tracing::info!(target: "pagewire::child", pool, child, "{line}");
    tail.push(line);
}

/// Returns how a program has ended, as text.
pub(super) fn ending(status: Option<ExitStatus>) -> String {
    match status.and_then(|status| status.code()) {
        Some(code) if code > 128 => format!("it was killed by signal {}", code - 128),
        Some(code) => format!("it exited with {code}"),
        None => "its guard was killed".to_owned(),
    }
}

/// Returns the resident memory of a process in bytes; 0 if it cannot be read.
pub(super) fn resident_memory(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
