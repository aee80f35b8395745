//! One process of a development set-up, below a guard that ends it with this process.

use std::io::{self, IsTerminal};
use std::process::Stdio;
use std::time::Duration;

use pagewire_worker::runtime::child::guard;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::super::output;

/// Time of a process to end by itself. A node drains for at most 30 s.
const END: Duration = Duration::from_secs(45);
/// Colours of the names, one after the other.
const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];

/// A process. It is killed when this is dropped.
pub(super) struct DevProcess {
    name: String,
    guard: Child,
    signals: Option<ChildStdin>,
}

impl DevProcess {
    /// Starts a program. The lines that it writes are shown behind its name.
    pub(super) fn start(name: &str, command: &[String]) -> io::Result<Self> {
        let mut guard = Command::new(guard::OWN_BINARY)
            .arg(guard::SUBCOMMAND)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let signals = guard.stdin.take();
        let label = label(name);
        if let Some(out) = guard.stdout.take() {
            tokio::spawn(show(out, label.clone()));
        }
        if let Some(err) = guard.stderr.take() {
            tokio::spawn(show(err, label));
        }
        Ok(Self { name: name.to_owned(), guard, signals })
    }

    /// Resolves when the process has ended by itself, with the reason.
    pub(super) async fn ended(&mut self) -> String {
        match self.guard.wait().await.ok().and_then(|status| status.code()) {
            Some(code) => format!("{} has ended with {code}", self.name),
            None => format!("{} was killed", self.name),
        }
    }

    /// Asks the process to load its programs anew.
    pub(super) async fn reload(&mut self) {
        self.signal(guard::HANG_UP).await;
    }

    /// Ends the process, and waits for it.
    pub(super) async fn stop(mut self) {
        self.signal(guard::TERMINATE).await;
        if tokio::time::timeout(END, self.guard.wait()).await.is_err() {
            self.signal(guard::KILL).await;
            // an error means that it has ended
            let _ = self.guard.wait().await;
        }
    }

    async fn signal(&mut self, byte: u8) {
        if let Some(signals) = &mut self.signals {
            // an error means that the process has ended
            let _ = signals.write_all(&[byte]).await;
        }
    }
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
