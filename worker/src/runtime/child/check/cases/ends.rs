//! The end of the supervisor, and frames that break the rules.
//!
//! Owns: what ends a program at once, and what does not. Never: `drain` (`drains`).

use rustix::process::Signal;
use serde_json::json;

use super::UNKNOWN_METHOD;
use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case};
use crate::runtime::child::check::program::{frame, framed};
use crate::runtime::child::wire::{ChildMessage, MAX_FRAME};

pub(super) const CASES: &[Case] = &[
    case!(the_end_of_the_socket_ends_an_idle_program),
    case!(the_end_of_the_socket_ends_a_program_that_works, "check.sleep"),
    case!(the_end_of_the_socket_ends_a_program_that_waits_for_a_reply, "check.ask"),
    case!(the_end_of_the_socket_within_a_frame_ends_a_program),
    case!(a_frame_that_is_not_json_ends_a_program),
    case!(a_frame_that_is_not_utf8_ends_a_program),
    case!(a_frame_that_is_no_object_ends_a_program),
    case!(a_frame_without_a_type_ends_a_program),
    case!(a_frame_that_is_announced_too_large_ends_a_program),
    case!(a_length_with_the_reserved_bit_ends_a_program),
    case!(a_program_that_was_stopped_continues),
];

async fn the_end_of_the_socket_ends_an_idle_program(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.settle().await?;
    program.hang_up();
    program.exit().await.map(drop)
}

async fn the_end_of_the_socket_ends_a_program_that_works(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.call("check.sleep", &json!({"ms": 600_000}));
    let reported = |message: &ChildMessage| matches!(message, ChildMessage::Progress { .. }).then_some(());
    program.wait("the progress of its work", reported).await?;
    program.hang_up();
    program.exit().await.map(drop)
}

async fn the_end_of_the_socket_ends_a_program_that_waits_for_a_reply(
    checker: &mut Checker,
) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.call("check.ask", &json!({"method": "orders.total", "params": {}}));
    let request = |message: &ChildMessage| matches!(message, ChildMessage::Request(_)).then_some(());
    program.wait("a request", request).await?;
    program.hang_up();
    program.exit().await.map(drop)
}

async fn the_end_of_the_socket_within_a_frame_ends_a_program(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.settle().await?;
    program.send_bytes(&frame(&json!({"t": "ping"}))[..7]);
    program.hang_up();
    program.exit().await.map(drop)
}

/// Sends bytes that break the rules, and waits until the program has exited.
async fn refused(checker: &mut Checker, bytes: &[u8]) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.settle().await?;
    program.send_bytes(bytes);
    program.exit().await.map(drop)
}

async fn a_frame_that_is_not_json_ends_a_program(checker: &mut Checker) -> Result<(), Deviation> {
    refused(checker, &framed(b"{\"t\":\"ping\"")).await
}

async fn a_frame_that_is_not_utf8_ends_a_program(checker: &mut Checker) -> Result<(), Deviation> {
    refused(checker, &framed(b"{\"t\":\"\xff\xfe\"}")).await
}

async fn a_frame_that_is_no_object_ends_a_program(checker: &mut Checker) -> Result<(), Deviation> {
    refused(checker, &frame(&json!(["t", "ping"]))).await
}

async fn a_frame_without_a_type_ends_a_program(checker: &mut Checker) -> Result<(), Deviation> {
    refused(checker, &frame(&json!({"id": 1}))).await
}

/// The program must not wait for the rest, which may never come.
async fn a_frame_that_is_announced_too_large_ends_a_program(checker: &mut Checker) -> Result<(), Deviation> {
    refused(checker, &(MAX_FRAME as u32 + 1).to_be_bytes()).await
}

async fn a_length_with_the_reserved_bit_ends_a_program(checker: &mut Checker) -> Result<(), Deviation> {
    refused(checker, &0x8000_0010_u32.to_be_bytes()).await
}

async fn a_program_that_was_stopped_continues(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.settle().await?;
    program.signal(Signal::STOP)?;
    let ids: Vec<u64> = (0..program.slots).map(|_| program.call(UNKNOWN_METHOD, &json!({}))).collect();
    program.send(&json!({"t": "ping"}));
    tokio::time::sleep(program.within / 10).await;
    program.signal(Signal::CONT)?;
    for id in ids {
        program.error(id).await?;
    }
    program.settle().await
}
