//! Frames as bytes: in pieces, together, and up to their largest size.
//!
//! Owns: how the bytes of a program's input arrive. Never: frames that break the rules (`ends`).

use std::time::Duration;

use serde_json::json;

use super::UNKNOWN_METHOD;
use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure};
use crate::runtime::child::check::program::{Program, call, frame, framed};
use crate::runtime::child::wire::{ChildMessage, MAX_FRAME};

/// Calls in one write.
const CALLS: usize = 16;

pub(super) const CASES: &[Case] = &[
    case!(a_frame_may_come_byte_by_byte),
    case!(a_frame_may_come_with_a_pause),
    case!(work_goes_on_while_a_frame_is_incomplete, "check.sleep"),
    case!(several_frames_may_come_at_once),
    case!(a_frame_of_the_largest_size_is_read),
];

/// Sends bytes one after the other, each by itself.
async fn drip(program: &Program, bytes: &[u8]) {
    let pause = program.within / 5000;
    for byte in bytes {
        program.send_bytes(&[*byte]);
        tokio::time::sleep(pause).await;
    }
}

async fn a_frame_may_come_byte_by_byte(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.id();
    let message = call(id, UNKNOWN_METHOD, &json!({"text": "é😀"}));
    drip(program, &frame(&message)).await;
    program.error(id).await?;
    drip(program, &frame(&json!({"t": "ping"}))).await;
    program.wait("pong", |message| matches!(message, ChildMessage::Pong { .. }).then_some(())).await
}

async fn a_frame_may_come_with_a_pause(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let pause: Duration = program.within / 20;
    for cut in [2, 4, 9] {
        let id = program.id();
        let bytes = frame(&call(id, UNKNOWN_METHOD, &json!({})));
        program.send_bytes(&bytes[..cut]);
        tokio::time::sleep(pause).await;
        program.send_bytes(&bytes[cut..]);
        program.error(id).await?;
    }
    Ok(())
}

async fn work_goes_on_while_a_frame_is_incomplete(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let ping = frame(&json!({"t": "ping"}));
    let id = program.id();
    let bytes = [frame(&call(id, "check.sleep", &json!({"ms": 100}))), ping[..6].to_vec()].concat();
    program.send_bytes(&bytes);
    program.result(id).await?;
    program.send_bytes(&ping[6..]);
    program.wait("pong", |message| matches!(message, ChildMessage::Pong { .. }).then_some(())).await
}

async fn several_frames_may_come_at_once(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let count = CALLS.min(program.slots);
    let ids: Vec<u64> = (0..count).map(|_| program.id()).collect();
    let ping = frame(&json!({"t": "ping"}));
    let calls = ids.iter().map(|id| [frame(&call(*id, UNKNOWN_METHOD, &json!({}))), ping.clone()].concat());
    program.send_bytes(&calls.collect::<Vec<_>>().concat());
    for id in ids {
        program.error(id).await?;
    }
    let pongs = |program: &Program| {
        program.messages.iter().filter(|message| matches!(message, ChildMessage::Pong { .. })).count()
    };
    while pongs(program) < count {
        let known = program.messages.len();
        program.wait_after(known, "pong", |_| Some(())).await?;
    }
    program.settle().await?;
    ensure(pongs(program) == count + 1, || format!("{count} pings have {} pongs", pongs(program) - 1))
}

async fn a_frame_of_the_largest_size_is_read(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.id();
    let empty = call(id, UNKNOWN_METHOD, &json!({"value": ""})).to_string().len();
    let message = call(id, UNKNOWN_METHOD, &json!({"value": "x".repeat(MAX_FRAME - empty)}));
    program.send_bytes(&framed(message.to_string().as_bytes()));
    program.error(id).await?;
    program.settle().await
}
