//! `pagewire child`: checks programs that run handlers as child processes.
//!
//! Owns: arguments and output. Never: the cases, which are in the worker.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use pagewire_worker::runtime::child::check::{self, CaseOutcome, CaseReport, CheckOptions, CheckReport};
use serde_json::{Value, json};

use super::output::{self, plain};
use super::{CommandFailure, Exit};

/// Arguments of `child`.
#[derive(Args)]
pub(super) struct ChildArgs {
    #[command(subcommand)]
    command: ChildCommand,
}

#[derive(Subcommand)]
enum ChildCommand {
    /// Run the conformance cases of the child wire (docs/child.md) against a program.
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// Run only the cases with one of these parts in their names.
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Print the report as JSON; the table is written to standard error.
    #[arg(long)]
    json: bool,
    /// How long the program may take to answer, and to exit.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    within_ms: u64,
    /// How long the program may take to start.
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    start_ms: u64,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

impl ChildArgs {
    /// Runs the cases. Fails if one of them fails.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        match self.command {
            ChildCommand::Check(check) => check.run().await,
        }
    }
}

impl Check {
    async fn run(self) -> Result<(), CommandFailure> {
        let names = check::names(&self.only);
        if names.is_empty() {
            let message = format!("no case has {} in its name", self.only.join(" or "));
            return Err(Exit::Usage.with_message(message));
        }
        let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
        let print = if self.json { output::print_stderr } else { output::print };
        let begun = Instant::now();
        let options = CheckOptions {
            command: self.program.clone(),
            only: self.only,
            start: Duration::from_millis(self.start_ms),
            within: Duration::from_millis(self.within_ms),
        };
        print(&format!("{:width$}  RESULT   REASON", "CASE"));
        let report = check::check(options, |case| print(&row(case, width))).await;
        let report = report
            .map_err(|error| Exit::Failed.with_message(format!("no directory for sockets: {error}")))?;
        print(&format!("{} in {:.1} s", summary(&report), begun.elapsed().as_secs_f64()));
        if self.json {
            output::print_json(&document(&self.program, &report));
        }
        match count(&report, "failed") {
            0 => Ok(()),
            failed => Err(Exit::Failed.with_message(format!("{} failed", output::count(failed, "case")))),
        }
    }
}

/// Returns the outcome of a case as a word, and its reason.
fn result(outcome: &CaseOutcome) -> (&'static str, Option<&str>) {
    match outcome {
        CaseOutcome::Passed => ("ok", None),
        CaseOutcome::Failed(reason) => ("failed", Some(reason)),
        CaseOutcome::Skipped(reason) => ("skipped", Some(reason)),
    }
}

/// Returns the row of a case. The lines of a reason are below each other.
fn row(case: &CaseReport, width: usize) -> String {
    let (word, reason) = result(&case.outcome);
    let indent = format!("\n{:1$}", "", width + 11);
    let reason = reason.unwrap_or_default().lines().map(plain).collect::<Vec<_>>().join(&indent);
    format!("{:width$}  {word:7}  {reason}", case.name).trim_end().to_owned()
}

fn count(report: &CheckReport, word: &str) -> u64 {
    report.cases.iter().filter(|case| result(&case.outcome).0 == word).count() as u64
}

fn summary(report: &CheckReport) -> String {
    let counts = ["ok", "failed", "skipped"].map(|word| format!("{} {word}", count(report, word)));
    counts.join(", ")
}

fn document(program: &[String], report: &CheckReport) -> Value {
    let case = |case: &CaseReport| {
        let (word, reason) = result(&case.outcome);
        let mut row = json!({"name": case.name, "result": word, "ms": case.took.as_millis() as u64});
        if let Some(reason) = reason {
            row["reason"] = json!(reason);
        }
        row
    };
    json!({
        "program": program,
        "sdk": report.sdk,
        "slots": report.slots,
        "ok": count(report, "ok"),
        "failed": count(report, "failed"),
        "skipped": count(report, "skipped"),
        "cases": report.cases.iter().map(case).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_a_row_with_its_reason() {
        let case = |name, outcome| CaseReport { name, outcome, took: Duration::from_millis(7) };
        let failed = CaseOutcome::Failed("it exited\nTraceback\u{1b}".to_owned());
        let cases = vec![case("a_ping", CaseOutcome::Passed), case("a_call", failed)];
        assert_eq!(row(&cases[0], 8), "a_ping    ok");
        assert_eq!(row(&cases[1], 8), "a_call    failed   it exited\n                   Traceback");
        let report = CheckReport { sdk: "own 1".to_owned(), slots: 2, cases };
        assert_eq!(summary(&report), "1 ok, 1 failed, 0 skipped");
        let document = document(&["program".to_owned()], &report);
        assert_eq!(document["cases"][0], json!({"name": "a_ping", "result": "ok", "ms": 7}));
        assert_eq!((&document["failed"], &document["sdk"]), (&json!(1), &json!("own 1")));
    }
}
