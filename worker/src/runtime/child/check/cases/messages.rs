//! Messages that are no work, and messages that a program does not know.
//!
//! Owns: pings, unknown types and members. Never: the bytes of frames (`frames`).

use serde_json::json;

use super::UNKNOWN_METHOD;
use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure};
use crate::runtime::child::check::program::{WorkEnd, call};
use crate::runtime::child::wire::ChildMessage;

/// Pings in a row.
const PINGS: usize = 100;
/// The largest id.
const MAX_ID: u64 = (1 << 53) - 1;

pub(super) const CASES: &[Case] = &[
    case!(a_ping_is_answered),
    case!(each_ping_is_answered),
    case!(an_unknown_message_is_ignored),
    case!(an_unknown_message_with_an_id_is_unsupported),
    case!(unknown_members_of_a_call_are_ignored),
    case!(a_call_may_have_no_user),
    case!(the_largest_id_is_returned),
    case!(a_reply_without_a_request_is_ignored),
];

async fn a_ping_is_answered(checker: &mut Checker) -> Result<(), Deviation> {
    checker.shared().await?.settle().await
}

async fn each_ping_is_answered(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    for _ in 0..PINGS {
        program.send(&json!({"t": "ping"}));
    }
    for answered in 0..PINGS {
        let known = program.messages.len();
        let pong = |message: &ChildMessage| matches!(message, ChildMessage::Pong { .. }).then_some(());
        program.wait_after(known, &format!("pong {} of {PINGS}", answered + 1), pong).await?;
    }
    Ok(())
}

async fn an_unknown_message_is_ignored(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    program.send(&json!({"t": "check.later", "value": 1}));
    program.send(&json!({"t": "", "value": {"t": "ping"}}));
    program.settle().await?;
    let answers = program.messages.len() - 1;
    ensure(answers == 0, || format!("{answers} messages came for it: {:?}", program.messages))
}

async fn an_unknown_message_with_an_id_is_unsupported(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.id();
    program.send(&json!({"t": "check.later", "id": id, "value": 1}));
    let failure = program.error(id).await?;
    ensure(failure.error.code == "unsupported", || format!("the code is {}", failure.error.code))
}

async fn unknown_members_of_a_call_are_ignored(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.id();
    let mut message = call(id, UNKNOWN_METHOD, &json!({}));
    message["later"] = json!({"id": 7, "t": "ping"});
    message["page"] = json!("page-of-the-check");
    message["trace"] = json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    program.send(&message);
    program.error(id).await.map(drop)
}

async fn a_call_may_have_no_user(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.id();
    let message = json!({"t": "call", "id": id, "method": UNKNOWN_METHOD, "params": {}, "deadline_ms": 1000});
    program.send(&message);
    program.error(id).await.map(drop)
}

async fn the_largest_id_is_returned(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    for id in [0, MAX_ID] {
        program.send(&call(id, UNKNOWN_METHOD, &json!({})));
        program.error(id).await?;
    }
    Ok(())
}

async fn a_reply_without_a_request_is_ignored(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    program.send(&json!({"t": "reply", "id": 1_000_000, "value": 1}));
    let error = json!({"code": "stale", "message": "for the check", "retryable": false});
    program.send(&json!({"t": "reply", "id": 1_000_001, "error": error}));
    program.settle().await?;
    let ends = program.messages.iter().filter_map(WorkEnd::id).count();
    ensure(ends == 0, || "it ended work that it does not run".to_owned())
}
