//! Conformance cases for programs that speak the child wire, without a pool: `pagewire child check`.
//!
//! Owns: the order of the cases, and what is reported of each. Never: the work of a pool, or what a case expects
//! (`cases`).
//!
//! - `program`, `raw_socket`: one program that was started for a check, and the messages that it has sent;
//! - `handshake`: how it is started, with any `welcome`;
//! - `case`: what a case is, and how it ends;
//! - `json`: values that every program has to understand;
//! - `methods`: what a program says of its handlers, without a case.

mod case;
mod cases;
mod handshake;
mod json;
mod methods;
mod program;
mod raw_socket;

use std::io;
use std::time::{Duration, Instant};

use self::case::{Case, Deviation};
use self::handshake::Starter;
pub use self::methods::methods;
use self::program::Program;

/// What is checked, and how long the program may take.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Parts of the names of the cases; empty for all cases.
    pub only: Vec<String>,
    /// Time from the start of the program until it is ready.
    pub start: Duration,
    /// Time for an answer, and for the end of the program.
    pub within: Duration,
}

/// How a case has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// The program behaves as documented.
    Passed,
    /// The program does not, for this reason.
    Failed(String),
    /// The case does not apply to this program, for this reason.
    Skipped(String),
}

/// One case, after it has run.
#[derive(Debug, Clone)]
pub struct CaseReport {
    /// Name of the case: the rule that it checks.
    pub name: &'static str,
    /// How it has ended.
    pub outcome: CaseOutcome,
    /// How long it took.
    pub took: Duration,
}

/// What a program is, and how its cases have ended.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Name and version of its SDK, as it has reported them.
    pub sdk: String,
    /// How much work it takes at a time.
    pub slots: usize,
    /// The cases, in their order.
    pub cases: Vec<CaseReport>,
}

/// Runs the cases, and calls `report` after each.
///
/// # Errors
///
/// An error if the directory for sockets cannot be created.
pub async fn check(options: CheckOptions, mut report: impl FnMut(&CaseReport)) -> io::Result<CheckReport> {
    let only = options.only.clone();
    let mut checker = Checker { starter: Starter::new(options)?, shared: None };
    let mut found = CheckReport::default();
    let absent = checker.shared().await.err();
    for (number, case) in selected(&only).enumerate() {
        let begun = Instant::now();
        let outcome = match (&absent, number) {
            (None, _) => outcome(checker.run(case).await),
            (Some(Deviation::Failed(reason) | Deviation::Skipped(reason)), 0) => {
                CaseOutcome::Failed(reason.clone())
            }
            (Some(_), _) => CaseOutcome::Skipped("the program does not start".to_owned()),
        };
        if let Some(program) = &checker.shared {
            (found.sdk, found.slots) = (program.ready.sdk.clone(), program.slots);
        }
        let ended = CaseReport { name: case.name, outcome, took: begun.elapsed() };
        report(&ended);
        found.cases.push(ended);
    }
    if let Some(program) = checker.shared.take() {
        program.kill().await;
    }
    Ok(found)
}

/// Returns the names of the cases that contain one of these parts, or of all cases if there are none.
pub fn names(only: &[String]) -> Vec<&'static str> {
    selected(only).map(|case| case.name).collect()
}

fn selected(only: &[String]) -> impl Iterator<Item = &'static Case> {
    let parts: Vec<String> = only.iter().map(|part| part.replace([' ', '-'], "_")).collect();
    let chosen = move |case: &&Case| parts.is_empty() || parts.iter().any(|part| case.name.contains(part));
    cases::ALL.iter().copied().flatten().filter(chosen)
}

fn outcome(result: Result<(), Deviation>) -> CaseOutcome {
    match result {
        Ok(()) => CaseOutcome::Passed,
        Err(Deviation::Failed(reason)) => CaseOutcome::Failed(reason),
        Err(Deviation::Skipped(reason)) => CaseOutcome::Skipped(reason),
    }
}

/// Runs cases one after the other. Cases that leave the program alive share one.
struct Checker {
    starter: Starter,
    shared: Option<Program>,
}

impl Checker {
    async fn run(&mut self, case: &Case) -> Result<(), Deviation> {
        let program = self.shared().await?;
        if let Some(missing) = case.needs.iter().find(|name| !program.has(name)) {
            return Err(Deviation::Skipped(format!("needs the handler {missing}")));
        }
        let result = (case.run)(self).await;
        if matches!(result, Err(Deviation::Failed(_))) {
            // what is left of a failed case must not disturb the next one
            self.shared = None;
        }
        result
    }

    /// Returns the program that cases share, without messages of earlier cases. It is started if none runs.
    async fn shared(&mut self) -> Result<&mut Program, Deviation> {
        let program = match self.shared.take() {
            Some(program) => program,
            None => self.start().await?,
        };
        let program = self.shared.insert(program);
        program.messages.clear();
        Ok(program)
    }

    /// Starts a program that only one case uses.
    async fn start(&mut self) -> Result<Program, Deviation> {
        self.starter.start().await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_case_is_found_by_a_part_of_its_name() {
        let all = names(&[]);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each case has its own name");
        assert_eq!(names(&["a ping-is".to_owned()]), ["a_ping_is_answered"]);
        assert!(names(&["no-such-case".to_owned()]).is_empty());
    }
}
