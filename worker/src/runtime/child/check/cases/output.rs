//! What a program sends beside the ends of its work, and what it writes elsewhere.
//!
//! Owns: `progress`, `log`, the outputs of the process, and what it starts. Never: the ends of work.

use std::collections::BTreeSet;

use serde_json::json;

use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure, failed};
use crate::runtime::child::check::json::shown;
use crate::runtime::child::wire::ChildMessage;

pub(super) const CASES: &[Case] = &[
    case!(progress_grows_from_0_to_1, "check.sleep"),
    case!(progress_ends_with_its_work, "check.sleep"),
    case!(a_line_of_the_log_is_sent, "check.log"),
    case!(output_of_the_program_does_not_disturb, "check.print"),
    case!(what_a_program_starts_does_not_get_the_socket, "check.spawn"),
];

async fn progress_grows_from_0_to_1(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.sleep", &json!({"ms": 300}));
    program.result(id).await?;
    let reported: Vec<f64> = program
        .messages
        .iter()
        .filter_map(|message| match message {
            ChildMessage::Progress { id: of, progress, .. } if *of == id => Some(*progress),
            _ => None,
        })
        .collect();
    ensure(!reported.is_empty(), || "check.sleep reported no progress".to_owned())?;
    let right = reported.iter().all(|progress| (0.0..=1.0).contains(progress)) && reported.is_sorted();
    ensure(right, || format!("it reported {reported:?}"))
}

async fn progress_ends_with_its_work(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.sleep", &json!({"ms": 100}));
    program.result(id).await?;
    let known = program.messages.len();
    program.settle().await?;
    let late = |message: &ChildMessage| matches!(message, ChildMessage::Progress { id: of, .. } if *of == id);
    ensure(!program.messages[known..].iter().any(late), || "progress came after the end".to_owned())
}

async fn a_line_of_the_log_is_sent(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    for level in ["debug", "info", "warn", "error"] {
        let text = format!("é for {level}");
        let id = program.call("check.log", &json!({"level": level, "message": text}));
        let line = |message: &ChildMessage| match message {
            ChildMessage::Log(line) if line.message == text => Some((line.level.clone(), line.work)),
            _ => None,
        };
        let (found, work) = program.wait("the line of the log", line).await?;
        ensure(found == level, || format!("the level of a line is {found}, not {level}"))?;
        ensure(work.is_none_or(|work| work == id), || format!("the line of {id} names the work {work:?}"))?;
        program.result(id).await?;
    }
    Ok(())
}

async fn output_of_the_program_does_not_disturb(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.print", &json!({"lines": 10_000}));
    program.result(id).await?;
    program.settle().await
}

async fn what_a_program_starts_does_not_get_the_socket(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.spawn", &json!({}));
    let returned = program.result(id).await?;
    let started = returned.as_u64().and_then(|pid| u32::try_from(pid).ok());
    let started =
        started.filter(|pid| program.is_own(*pid) && *pid != program.ready.pid).ok_or_else(|| {
            failed(format!("check.spawn returned {}, which is no process that it started", shown(&returned)))
        })?;
    // the first instant after a fork shows the descriptors of the parent
    let begun = tokio::time::Instant::now();
    loop {
        let shared = sockets(started).intersection(&sockets(program.ready.pid)).count();
        if shared == 0 {
            return Ok(());
        }
        let waits = begun.elapsed() < program.within / 5;
        ensure(waits, || {
            "a process that it started has its socket: it stays open after the program".to_owned()
        })?;
        tokio::time::sleep(program.within / 500).await;
    }
}

/// Returns the sockets of a process.
fn sockets(pid: u32) -> BTreeSet<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target.starts_with("socket:"))
        .collect()
}
