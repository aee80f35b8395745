//! Jobs, and what a handler learns of its work.
//!
//! Owns: `job` and `snooze`. Never: the claims and retries of jobs, which the supervisor has.

use serde_json::{Value, json};

use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure, failed};
use crate::runtime::child::check::json::{same, shown};
use crate::runtime::child::check::program::WorkEnd;

pub(super) const CASES: &[Case] = &[
    case!(a_job_has_a_result, "check.echo"),
    case!(a_job_of_an_unknown_kind_is_an_error),
    case!(a_handler_knows_its_attempt, "check.work"),
    case!(a_handler_knows_for_whom_it_runs, "check.work"),
    case!(a_job_may_be_put_off, "check.snooze"),
];

async fn a_job_has_a_result(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.job("check.echo", &json!({"value": [1]}), 1, 0);
    let returned = program.result(id).await?;
    ensure(same(&returned, &json!([1])), || format!("check.echo returned {}", shown(&returned)))?;
    program.one_end(id).await
}

async fn a_job_of_an_unknown_kind_is_an_error(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.job(super::UNKNOWN_METHOD, &json!({}), 1, 3);
    program.error(id).await?;
    program.one_end(id).await
}

/// Checks members of what `check.work` returns.
fn has(returned: &Value, expected: &Value) -> Result<(), Deviation> {
    for (member, value) in expected.as_object().into_iter().flatten() {
        let found = &returned[member];
        ensure(same(found, value), || format!("{member} is {}, not {value}", shown(found)))?;
    }
    Ok(())
}

async fn a_handler_knows_its_attempt(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    for (attempt, left) in [(1, 3), (4, 0)] {
        let id = program.job("check.work", &json!({}), attempt, left);
        let expected = json!({"job": format!("check-{id}"), "attempt": attempt, "left": left});
        has(&program.result(id).await?, &expected)?;
    }
    Ok(())
}

async fn a_handler_knows_for_whom_it_runs(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.id();
    let members = json!({
        "user": "ann", "page": "p1", "session": "s1", "connection": "c1",
        "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    let mut message =
        json!({"t": "call", "id": id, "method": "check.work", "params": {}, "deadline_ms": 60_000});
    for (member, value) in members.as_object().into_iter().flatten() {
        message[member] = value.clone();
    }
    program.send(&message);
    has(&program.result(id).await?, &members)?;
    let id = program.id();
    program
        .send(&json!({"t": "call", "id": id, "method": "check.work", "params": {}, "deadline_ms": 60_000}));
    let none = json!({"user": null, "page": null, "session": null, "connection": null, "trace": null});
    has(&program.result(id).await?, &none)
}

async fn a_job_may_be_put_off(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.job("check.snooze", &json!({"after_ms": 2000}), 1, 0);
    match program.end(id).await? {
        WorkEnd::Snooze(2000) => program.one_end(id).await,
        end => Err(failed(format!("it ended with {end}, not with snooze and 2000"))),
    }
}
