//! Large values, much work, and a supervisor that does not read.
//!
//! Owns: what needs memory or time. Never: the form of frames (`frames`).

use std::collections::HashMap;

use serde_json::json;
use tokio::time::Instant;

use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure, failed};
use crate::runtime::child::check::json::{same, shown};
use crate::runtime::child::check::program::{Program, WorkEnd};
use crate::runtime::child::wire::ChildMessage;

/// A value that fits into a frame together with the other members.
const LARGE: usize = 1_000_000;
/// A value that does not.
const TOO_LARGE: usize = 1 << 21;
/// Calls whose large results wait in the program; one is more than the buffer of a socket takes.
const UNREAD: usize = 4;
/// Calls of the long run.
const CALLS: usize = 10_000;

pub(super) const CASES: &[Case] = &[
    case!(large_params_are_returned_as_they_came, "check.echo"),
    case!(a_large_result_is_sent, "check.big"),
    case!(a_result_that_fits_no_frame_is_too_large, "check.big"),
    case!(nothing_is_lost_while_the_supervisor_does_not_read, "check.big"),
    case!(ten_thousand_calls_have_one_end_each, "check.echo"),
];

async fn large_params_are_returned_as_they_came(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let value = json!("0123456789".repeat(LARGE / 10));
    let id = program.call("check.echo", &json!({"value": value}));
    let returned = program.result(id).await?;
    ensure(returned == value, || format!("check.echo returned {}", shown(&returned)))
}

async fn big(program: &mut Program, id: u64, bytes: usize) -> Result<(), Deviation> {
    let returned = program.result(id).await?;
    let length = returned.as_str().map(str::len);
    ensure(length == Some(bytes), || format!("check.big returned {} for {bytes} bytes", shown(&returned)))
}

async fn a_large_result_is_sent(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.big", &json!({"bytes": LARGE}));
    big(program, id, LARGE).await
}

async fn a_result_that_fits_no_frame_is_too_large(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.big", &json!({"bytes": TOO_LARGE}));
    let code = program.error(id).await?.error.code;
    ensure(code == "too_large", || format!("the code is {code}"))?;
    let id = program.call("check.big", &json!({"bytes": 10}));
    big(program, id, 10).await
}

async fn nothing_is_lost_while_the_supervisor_does_not_read(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let calls = UNREAD.min(program.slots);
    let mut open: Vec<u64> =
        (0..calls).map(|_| program.call("check.big", &json!({"bytes": LARGE}))).collect();
    program.send(&json!({"t": "ping"}));
    tokio::time::sleep(program.within / 10).await;
    while !open.is_empty() {
        let known = program.messages.len();
        let id = program.wait_after(known, "a result", WorkEnd::id).await?;
        if let Some(at) = open.iter().position(|open| *open == id) {
            big(program, open.swap_remove(at), LARGE).await?;
        }
    }
    program.wait("pong", |message| matches!(message, ChildMessage::Pong { .. }).then_some(())).await
}

async fn ten_thousand_calls_have_one_end_each(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let mut open = HashMap::new();
    let mut sent = 0;
    loop {
        while open.len() < program.slots && sent < CALLS {
            sent += 1;
            open.insert(program.call("check.echo", &json!({"value": sent})), sent);
        }
        if open.is_empty() {
            break;
        }
        let deadline = Instant::now() + program.within;
        let message = program.receive("the end of a call", deadline).await?;
        let Some((id, end)) = WorkEnd::of(&message) else { continue };
        let number = open.remove(&id).ok_or_else(|| failed(format!("the call {id} has two ends")))?;
        let right = matches!(&end, WorkEnd::Result(value) if same(value, &json!(number)));
        ensure(right, || format!("the call {number} of {CALLS} ended with {end}"))?;
    }
    program.settle().await?;
    let late = program.messages.iter().filter_map(WorkEnd::id).count();
    ensure(late == 0, || format!("{late} calls have two ends"))
}
