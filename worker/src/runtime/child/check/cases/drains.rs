//! A program that is asked to end.
//!
//! Owns: `drain` and SIGTERM. Never: a supervisor that is gone (`ends`).

use serde_json::json;

use super::UNKNOWN_METHOD;
use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure, failed};
use crate::runtime::child::check::program::{Program, WorkEnd};
use crate::runtime::child::wire::ChildMessage;

pub(super) const CASES: &[Case] = &[
    case!(an_idle_program_exits_when_it_is_drained),
    case!(a_program_that_has_worked_exits_when_it_is_drained),
    case!(running_work_ends_before_a_drained_program_exits, "check.sleep"),
    case!(a_job_ends_before_a_drained_program_exits, "check.sleep"),
    case!(requests_are_answered_while_a_program_drains, "check.ask"),
    case!(work_is_cancelled_while_a_program_drains, "check.sleep"),
    case!(a_second_drain_changes_nothing, "check.sleep"),
    case!(sigterm_ends_an_idle_program),
];

fn drain(program: &Program) {
    program.send(&json!({"t": "drain", "within_ms": program.within.as_millis() as u64}));
}

/// Waits until a drained program has exited with success.
async fn exited(program: &mut Program) -> Result<(), Deviation> {
    let code = program.exit().await?;
    ensure(code == 0, || format!("it exited with {code}, not with 0"))
}

async fn an_idle_program_exits_when_it_is_drained(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.settle().await?;
    drain(&program);
    exited(&mut program).await
}

async fn a_program_that_has_worked_exits_when_it_is_drained(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    for _ in 0..program.slots {
        let id = program.call(UNKNOWN_METHOD, &json!({}));
        program.error(id).await?;
    }
    drain(&program);
    exited(&mut program).await
}

/// Drains a program that runs a piece of work, and checks that the work succeeds first.
async fn finishes(program: &mut Program, id: u64, drains: usize) -> Result<(), Deviation> {
    let reported =
        |message: &ChildMessage| matches!(message, ChildMessage::Progress { id: of, .. } if *of == id);
    program.wait("the progress of its work", |message| reported(message).then_some(())).await?;
    for _ in 0..drains {
        drain(program);
    }
    program.result(id).await?;
    exited(program).await
}

async fn running_work_ends_before_a_drained_program_exits(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    let id = program.call("check.sleep", &json!({"ms": 500}));
    finishes(&mut program, id, 1).await
}

async fn a_job_ends_before_a_drained_program_exits(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    let id = program.job("check.sleep", &json!({"ms": 500}), 1, 1);
    finishes(&mut program, id, 1).await
}

async fn a_second_drain_changes_nothing(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    let id = program.call("check.sleep", &json!({"ms": 500}));
    finishes(&mut program, id, 2).await
}

async fn requests_are_answered_while_a_program_drains(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    let id = program.call("check.ask", &json!({"method": "orders.total", "params": {}}));
    let request = |message: &ChildMessage| match message {
        ChildMessage::Request(request) => Some(request.id),
        _ => None,
    };
    let request = program.wait("a request", request).await?;
    drain(&program);
    program.send(&json!({"t": "reply", "id": request, "value": 1}));
    let returned = program.result(id).await?;
    ensure(returned == json!({"value": 1}), || format!("check.ask returned {returned}"))?;
    exited(&mut program).await
}

async fn work_is_cancelled_while_a_program_drains(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    let id = program.call("check.sleep", &json!({"ms": 600_000}));
    let reported = |message: &ChildMessage| matches!(message, ChildMessage::Progress { .. }).then_some(());
    program.wait("the progress of its work", reported).await?;
    drain(&program);
    program.cancel(id, "drain");
    match program.end(id).await? {
        WorkEnd::Stopped => exited(&mut program).await,
        end => Err(failed(format!("it ended with {end}, not with stopped"))),
    }
}

async fn sigterm_ends_an_idle_program(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.settle().await?;
    program.terminate().await;
    program.exit().await.map(drop)
}
