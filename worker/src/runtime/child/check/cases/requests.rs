//! Requests of handlers, and their replies.
//!
//! Owns: `request` and `reply`. Never: the effects of requests, which the supervisor has.

use serde_json::{Value, json};

use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure, failed};
use crate::runtime::child::check::json::{same, shown};
use crate::runtime::child::check::program::{Program, WorkEnd};
use crate::runtime::child::wire::ChildMessage;

pub(super) const CASES: &[Case] = &[
    case!(a_request_names_its_work_and_what_it_asks, "check.ask"),
    case!(a_reply_reaches_its_handler, "check.ask"),
    case!(an_error_in_a_reply_reaches_its_handler, "check.ask"),
    case!(replies_may_come_in_any_order, "check.ask"),
    case!(a_handler_that_waits_for_a_reply_is_stopped_by_a_cancel, "check.ask"),
    case!(a_reply_after_the_end_of_its_work_is_ignored, "check.ask"),
];

/// A request of `check.ask`.
struct Asked {
    id: u64,
    method: String,
    params: Value,
}

/// Begins a call of `check.ask`. The handler asks for a call of `method`.
fn ask(program: &mut Program, method: &str) -> u64 {
    program.call("check.ask", &json!({"method": method, "params": {"n": 1}}))
}

/// Waits for the request of a piece of work.
async fn asked(program: &mut Program, work: u64) -> Result<Asked, Deviation> {
    program.wait("a request that names its work", |message| request_of(message, work)).await
}

fn request_of(message: &ChildMessage, work: u64) -> Option<Asked> {
    match message {
        ChildMessage::Request(request) if request.work == Some(work) => Some(Asked {
            id: request.id,
            method: request.method.clone(),
            params: serde_json::from_str(request.params.get()).unwrap_or_default(),
        }),
        _ => None,
    }
}

fn reply(program: &Program, request: &Asked, value: &Value) {
    program.send(&json!({"t": "reply", "id": request.id, "value": value}));
}

/// Checks what `check.ask` has returned.
async fn returned(program: &mut Program, work: u64, expected: &Value) -> Result<(), Deviation> {
    let value = program.result(work).await?;
    ensure(same(&value, expected), || format!("check.ask returned {}, not {expected}", shown(&value)))
}

async fn a_request_names_its_work_and_what_it_asks(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let work = ask(program, "orders.total");
    let request = asked(program, work).await?;
    reply(program, &request, &json!(1));
    program.result(work).await?;
    let (method, params) = (&request.method, &request.params);
    ensure(method == "call", || format!("the request is {method}, not call"))?;
    let right = params["method"] == "orders.total"
        && same(params.get("params").unwrap_or(&json!({})), &json!({"n": 1}));
    ensure(right, || format!("its params are {}", shown(params)))
}

async fn a_reply_reaches_its_handler(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    for value in [json!({"total": 3.5, "lines": ["é", null]}), json!(null), json!("")] {
        let work = ask(program, "orders.total");
        let request = asked(program, work).await?;
        reply(program, &request, &value);
        returned(program, work, &json!({"value": value})).await?;
    }
    Ok(())
}

async fn an_error_in_a_reply_reaches_its_handler(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let work = ask(program, "orders.total");
    let request = asked(program, work).await?;
    let error = json!({"code": "no_executor", "message": "nothing runs it", "retryable": true});
    program.send(&json!({"t": "reply", "id": request.id, "error": error}));
    returned(program, work, &json!({"error": error})).await
}

async fn replies_may_come_in_any_order(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let one_at_a_time = || Deviation::Skipped("it runs one piece of work at a time".to_owned());
    if program.slots < 2 {
        return Err(one_at_a_time());
    }
    let works = [ask(program, "first"), ask(program, "second")];
    let either =
        |message: &ChildMessage| works.iter().find(|work| request_of(message, **work).is_some()).copied();
    let begun = program.wait("a request that names its work", either).await?;
    let other = works.into_iter().find(|work| *work != begun).unwrap_or(begun);
    // a program with one thread makes the other request after the first reply
    program.settle().await?;
    let early = request_later(program, other).await;
    let first = asked(program, begun).await?;
    let Some(second) = early else {
        reply(program, &first, &json!(1));
        returned(program, begun, &json!({"value": 1})).await?;
        let second = asked(program, other).await?;
        reply(program, &second, &json!(2));
        returned(program, other, &json!({"value": 2})).await?;
        return Err(one_at_a_time());
    };
    reply(program, &second, &json!(2));
    returned(program, other, &json!({"value": 2})).await?;
    reply(program, &first, &json!(1));
    returned(program, begun, &json!({"value": 1})).await
}

/// Returns the request of a piece of work if it comes soon.
async fn request_later(program: &mut Program, work: u64) -> Option<Asked> {
    let within = program.within;
    program.within = within / 5;
    let request = asked(program, work).await.ok();
    program.within = within;
    request
}

/// Begins `check.ask` and cancels it while it waits. Returns its request.
async fn cancelled(program: &mut Program) -> Result<(u64, Asked), Deviation> {
    let work = ask(program, "orders.total");
    let request = asked(program, work).await?;
    program.cancel(work, "cancelled");
    match program.end(work).await? {
        WorkEnd::Stopped => Ok((work, request)),
        end => Err(failed(format!("it ended with {end}, not with stopped"))),
    }
}

async fn a_handler_that_waits_for_a_reply_is_stopped_by_a_cancel(
    checker: &mut Checker,
) -> Result<(), Deviation> {
    cancelled(checker.shared().await?).await.map(drop)
}

async fn a_reply_after_the_end_of_its_work_is_ignored(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let (work, request) = cancelled(program).await?;
    reply(program, &request, &json!("late"));
    program.one_end(work).await?;
    let next = ask(program, "orders.total");
    let request = asked(program, next).await?;
    reply(program, &request, &json!("in time"));
    returned(program, next, &json!({"value": "in time"})).await
}
