//! Follows a job: a progress bar on a terminal, otherwise one line per step.

use std::io::{IsTerminal, stdout};

use pagewire_cluster::timing::Timing;
use serde_json::{Value, json};

use super::{ended, path, table};
use crate::cli::api_client::ApiClient;
use crate::cli::sse::{SseEvent, SseReader};
use crate::cli::{CommandFailure, Exit, output};

/// Width of the progress bar in characters.
const BAR: usize = 30;
/// The longest message beside the bar, in characters.
const MESSAGE: usize = 40;

/// Follows a job until it ends. On a failure it reconnects, possibly to another node; the first event of a stream is
/// always the current job.
pub(super) async fn watch(server: &ApiClient, id: &str) -> Result<(), CommandFailure> {
    let timing = Timing::from_environment();
    let path = format!("{}/events", path(id));
    let mut screen = Screen::new(server.json);
    let mut last_contact = tokio::time::Instant::now();
    let mut seen = false;
    loop {
        match follow(server, &path, &timing, &mut screen).await {
            Ok(Some(job)) => return screen.end(&job),
            Ok(None) => (seen, last_contact) = (true, tokio::time::Instant::now()),
            // the cluster has recovered from a dead node once that node's lease has expired
            Err(failure) if !seen || last_contact.elapsed() > timing.lease_ttl => {
                screen.clear();
                return Err(failure);
            }
            Err(_) => {}
        }
        tokio::time::sleep(timing.lease_renew / 3).await;
    }
}

/// Follows one stream. Returns the job when it ends, or `None` when the stream ends first.
async fn follow(
    server: &ApiClient,
    path: &str,
    timing: &Timing,
    screen: &mut Screen,
) -> Result<Option<Value>, CommandFailure> {
    let mut stream = server.stream(path).await?;
    let mut reader = SseReader::default();
    let mut has_events = false;
    // a server that is silent for longer than a lease has failed
    while let Ok(Ok(Some(bytes))) = tokio::time::timeout(timing.lease_ttl, stream.chunk()).await {
        for event in reader.feed(&bytes) {
            has_events = true;
            screen.show(&event);
            if event.name == "job" && ended(&event.data).is_some() {
                return Ok(Some(event.data));
            }
        }
    }
    if has_events {
        Ok(None)
    } else {
        Err(Exit::Failed.with_message("the server's response is not a stream of events"))
    }
}

/// The output for a job that is still running.
struct Screen {
    json: bool,
    terminal: bool,
    state: String,
    waiting: Option<String>,
    /// The progress that was printed last.
    shown: Option<f64>,
    drawn: bool,
}

impl Screen {
    fn new(json: bool) -> Self {
        let terminal = stdout().is_terminal();
        Self { json, terminal, state: String::new(), waiting: None, shown: None, drawn: false }
    }

    fn show(&mut self, event: &SseEvent) {
        if event.name == "job" {
            self.explain(&event.data);
        }
        if self.json {
            return;
        }
        let progress = match event.name.as_str() {
            "job" => {
                let state = table::headline(&event.data);
                if self.state != state {
                    if event.data["state"] == "succeeded" {
                        self.complete();
                    }
                    self.clear();
                    output::print(&state);
                    self.state = state;
                }
                if event.data["state"] != "running" {
                    return;
                }
                &event.data["progress"]
            }
            "progress" => &event.data,
            _ => return,
        };
        if progress.is_object() {
            self.draw(progress);
        }
    }

    fn draw(&mut self, progress: &Value) {
        self.shown = progress["progress"].as_f64();
        if self.terminal {
            output::redraw(&bar(progress));
            self.drawn = true;
        } else {
            output::print(&table::progress(progress));
        }
    }

    /// Completes the bar of a job that has ended. Progress is published at intervals, so the last event seldom shows
    /// the end.
    fn complete(&mut self) {
        if self.shown.is_some_and(|shown| shown < 1.0) {
            self.draw(&json!({"progress": 1.0}));
        }
        if std::mem::take(&mut self.drawn) {
            output::print("");
        }
    }

    /// Prints why the job waits for a worker, whenever the reason changes.
    fn explain(&mut self, job: &Value) {
        let waiting = table::waiting(job);
        if self.waiting == waiting {
            return;
        }
        if let Some(reason) = &waiting {
            self.clear();
            output::print_stderr(&format!("waiting: {reason}"));
        }
        self.waiting = waiting;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            output::redraw("");
        }
    }

    /// Prints the result to standard output for programs. The reason of a failure is written to standard error.
    fn end(mut self, job: &Value) -> Result<(), CommandFailure> {
        self.clear();
        if self.json {
            output::print_json(job);
        } else if let Some(result) = job.get("result") {
            output::print(&result.to_string());
        }
        ended(job).unwrap_or(Ok(()))
    }
}

/// Formats `[#####     ]  50% message`, short enough for one line.
fn bar(progress: &Value) -> String {
    let share = progress["progress"].as_f64().unwrap_or_default().clamp(0.0, 1.0);
    let done = (share * BAR as f64) as usize;
    let words: String = table::progress(progress).chars().take(MESSAGE).collect();
    format!("[{}{}] {words}", "#".repeat(done), " ".repeat(BAR - done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fits_into_a_line_whatever_it_is_told() {
        let half = bar(&json!({"progress": 0.5, "message": "of it"}));
        assert_eq!(half, format!("[{}{}]  50% of it", "#".repeat(15), " ".repeat(15)));
        for progress in
            [json!({"progress": 7.0, "message": "x".repeat(1000)}), json!({"progress": -1}), json!({})]
        {
            assert!(bar(&progress).chars().count() <= 73, "{progress}");
        }
    }
}
