//! Work that is cancelled: before it begins, while it runs, and after its end.
//!
//! Owns: `cancel` and `stopped`. Never: a handler that waits for a reply (`requests`).

use serde_json::json;

use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure, failed};
use crate::runtime::child::check::program::{Program, WorkEnd, call, frame};
use crate::runtime::child::wire::ChildMessage;

/// Calls that are cancelled at once.
const RACES: usize = 200;
/// Longer than a case waits, in milliseconds.
const LONG_MS: u64 = 600_000;

pub(super) const CASES: &[Case] = &[
    case!(running_work_is_stopped, "check.sleep"),
    case!(running_work_is_stopped_in_the_other_style, "check.sleep_async"),
    case!(work_is_stopped_at_its_deadline, "check.sleep"),
    case!(work_is_stopped_by_a_drain, "check.sleep"),
    case!(a_job_is_stopped, "check.sleep"),
    case!(a_second_cancel_changes_nothing, "check.sleep"),
    case!(a_cancel_before_the_work_begins_ends_it_once, "check.sleep"),
    case!(a_cancel_at_the_end_of_the_work_ends_it_once, "check.echo"),
    case!(a_cancel_after_the_end_is_ignored, "check.echo"),
    case!(a_cancel_of_unknown_work_is_ignored),
    case!(a_cancel_leaves_other_work_running, "check.sleep"),
];

/// Waits for the first progress of a piece of work, which shows that its handler runs.
async fn running(program: &mut Program, id: u64) -> Result<(), Deviation> {
    let reported =
        |message: &ChildMessage| matches!(message, ChildMessage::Progress { id: of, .. } if *of == id);
    program.wait("the progress of its work", |message| reported(message).then_some(())).await
}

async fn stopped(program: &mut Program, id: u64) -> Result<(), Deviation> {
    match program.end(id).await? {
        WorkEnd::Stopped => program.one_end(id).await,
        end => Err(failed(format!("it ended with {end}, not with stopped"))),
    }
}

/// Cancels a handler that sleeps.
async fn cancel_sleeping(program: &mut Program, method: &str, why: &str) -> Result<(), Deviation> {
    let id = program.call(method, &json!({"ms": LONG_MS}));
    running(program, id).await?;
    program.cancel(id, why);
    stopped(program, id).await
}

async fn running_work_is_stopped(checker: &mut Checker) -> Result<(), Deviation> {
    cancel_sleeping(checker.shared().await?, "check.sleep", "cancelled").await
}

async fn running_work_is_stopped_in_the_other_style(checker: &mut Checker) -> Result<(), Deviation> {
    cancel_sleeping(checker.shared().await?, "check.sleep_async", "cancelled").await
}

async fn work_is_stopped_at_its_deadline(checker: &mut Checker) -> Result<(), Deviation> {
    cancel_sleeping(checker.shared().await?, "check.sleep", "deadline").await
}

async fn work_is_stopped_by_a_drain(checker: &mut Checker) -> Result<(), Deviation> {
    cancel_sleeping(checker.shared().await?, "check.sleep", "drain").await
}

async fn a_job_is_stopped(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.job("check.sleep", &json!({"ms": LONG_MS}), 1, 3);
    running(program, id).await?;
    program.cancel(id, "cancelled");
    stopped(program, id).await
}

async fn a_second_cancel_changes_nothing(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.sleep", &json!({"ms": LONG_MS}));
    running(program, id).await?;
    program.cancel(id, "cancelled");
    program.cancel(id, "deadline");
    stopped(program, id).await
}

/// Sends calls, each with its cancel in the same write, and checks that each has one end.
async fn race(program: &mut Program, method: &str, params: &serde_json::Value) -> Result<(), Deviation> {
    for _ in 0..RACES / program.slots.min(RACES) {
        program.messages.clear();
        let ids: Vec<u64> = (0..program.slots).map(|_| program.id()).collect();
        for id in &ids {
            let cancel = json!({"t": "cancel", "id": id, "why": "cancelled"});
            program.send_bytes(&[frame(&call(*id, method, params)), frame(&cancel)].concat());
        }
        for id in &ids {
            let end = program.end(*id).await?;
            let allowed = matches!(end, WorkEnd::Result(_) | WorkEnd::Stopped);
            ensure(allowed, || format!("it ended with {end}, not with result or stopped"))?;
        }
        program.settle().await?;
        let ends = program.messages.iter().filter_map(WorkEnd::id).count();
        ensure(ends == ids.len(), || format!("{} calls have {ends} ends", ids.len()))?;
    }
    Ok(())
}

async fn a_cancel_before_the_work_begins_ends_it_once(checker: &mut Checker) -> Result<(), Deviation> {
    race(checker.shared().await?, "check.sleep", &json!({"ms": LONG_MS})).await
}

async fn a_cancel_at_the_end_of_the_work_ends_it_once(checker: &mut Checker) -> Result<(), Deviation> {
    race(checker.shared().await?, "check.echo", &json!({"value": 1})).await
}

async fn a_cancel_after_the_end_is_ignored(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.echo", &json!({"value": 1}));
    program.result(id).await?;
    program.cancel(id, "cancelled");
    program.one_end(id).await
}

async fn a_cancel_of_unknown_work_is_ignored(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    program.cancel(1_000_000, "cancelled");
    program.settle().await?;
    let ends = program.messages.iter().filter_map(WorkEnd::id).count();
    ensure(ends == 0, || "it ended work that it does not run".to_owned())
}

async fn a_cancel_leaves_other_work_running(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let first = program.call("check.sleep", &json!({"ms": LONG_MS}));
    running(program, first).await?;
    let second = (program.slots > 1).then(|| program.call("check.sleep", &json!({"ms": 50})));
    program.cancel(first, "cancelled");
    stopped(program, first).await?;
    let second = second.unwrap_or_else(|| program.call("check.sleep", &json!({"ms": 50})));
    program.result(second).await.map(drop)
}
