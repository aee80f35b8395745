//! One process of a development set-up, below a guard that ends it with this process.

use std::io::{self, IsTerminal};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use pagewire_worker::runtime::child::guard;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::task::JoinHandle;

use super::super::output;
use crate::telemetry::FORMAT;

/// Time of a process to end by itself. A node drains for longer, but this one is only for development.
const END: Duration = Duration::from_secs(5);
/// Time to end at once, after a second request.
const END_AT_ONCE: Duration = Duration::from_secs(1);
/// Colours of the names, one after the other.
const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];

/// A process. It is killed when this is dropped.
pub(super) struct DevProcess {
    name: String,
    guard: Child,
    signals: Option<ChildStdin>,
    /// Resolves when all output is shown.
    output: JoinHandle<()>,
}

impl DevProcess {
    /// Starts a program. The lines that it writes are shown behind its name.
    pub(super) fn start(name: &str, command: &[String]) -> io::Result<Self> {
        let format = std::env::var(FORMAT).unwrap_or_else(|_| log_format().to_owned());
        let mut guard = guard::command(command).env(FORMAT, format).spawn()?;
        let signals = guard.stdin.take();
        let label = label(name);
        let shown = [
            guard.stdout.take().map(|out| show(out, label.clone()).boxed()),
            guard.stderr.take().map(|err| show(err, label).boxed()),
        ];
        let output = tokio::spawn(async { drop(join_all(shown.into_iter().flatten()).await) });
        Ok(Self { name: name.to_owned(), guard, signals, output })
    }

    /// Resolves when the process has ended by itself and its output is shown, with the reason.
    pub(super) async fn ended(&mut self) -> String {
        let status = self.guard.wait().await;
        if !self.output.is_finished() {
            // an error means that the output ends early
            let _ = (&mut self.output).await;
        }
        match status.ok().and_then(|status| status.code()) {
            Some(code) => format!("{} has ended with {code}", self.name),
            None => format!("{} was killed", self.name),
        }
    }

    /// Asks the process to load its programs anew.
    pub(super) async fn reload(&mut self) {
        self.signal(guard::HANG_UP).await;
    }

    /// Ends the process: by request, at once, by SIGKILL.
    pub(super) async fn stop(mut self) {
        for (byte, time) in [(guard::TERMINATE, END), (guard::TERMINATE, END_AT_ONCE)] {
            self.signal(byte).await;
            if tokio::time::timeout(time, self.ended()).await.is_ok() {
                return;
            }
        }
        self.signal(guard::KILL).await;
        self.ended().await;
    }

    async fn signal(&mut self, byte: u8) {
        if let Some(signals) = &mut self.signals {
            // an error means that the process has ended
            let _ = signals.write_all(&[byte]).await;
        }
    }
}

/// Returns the form of the lines of a node, which writes to a pipe.
fn log_format() -> &'static str {
    if io::stderr().is_terminal() { "color" } else { "text" }
}

/// Returns the name of a process as it stands before its lines.
fn label(name: &str) -> String {
    let number: usize = name.bytes().map(usize::from).sum();
    match io::stderr().is_terminal() {
        true => format!("\x1b[{}m{name:>7} │\x1b[0m", COLOURS[number % COLOURS.len()]),
        false => format!("{name:>7} │"),
    }
}

async fn show(out: impl AsyncRead + Unpin, label: String) {
    let mut lines = BufReader::new(out).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        output::print_stderr(&format!("{label} {}", String::from_utf8_lossy(&line)));
    }
}
