//! The first message of a program, and what follows `welcome`.
//!
//! Owns: the section "Start", and the message `ready`. Never: work.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::UNKNOWN_METHOD;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure};
use crate::runtime::child::check::handshake::welcome;
use crate::runtime::child::check::program::{call, frame};
use crate::runtime::child::check::{Checker, json::shown};
use crate::runtime::child::wire::{ChildMessage, PROTOCOL};

/// Maximum length of the name of a handler, in bytes.
const MAX_NAME: usize = 200;

pub(super) const CASES: &[Case] = &[
    case!(ready_comes_in_time),
    case!(ready_has_the_token),
    case!(ready_names_the_version_of_the_wire),
    case!(ready_names_the_process_of_the_program),
    case!(handlers_have_names_of_their_own),
    case!(handlers_are_described_as_documented),
    case!(ready_is_sent_once),
    case!(unknown_members_of_welcome_are_ignored),
    case!(messages_right_after_welcome_are_answered),
];

async fn ready_comes_in_time(checker: &mut Checker) -> Result<(), Deviation> {
    checker.start().await?.settle().await
}

async fn ready_has_the_token(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    ensure(program.ready.token == program.token, || "its token is not that of PAGEWIRE_TOKEN".to_owned())
}

async fn ready_names_the_version_of_the_wire(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let versions = &program.ready.protocol;
    ensure(versions.contains(&PROTOCOL), || format!("protocol is {versions:?}, without {PROTOCOL}"))
}

async fn ready_names_the_process_of_the_program(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let pid = program.ready.pid;
    ensure(program.is_own(pid), || format!("the pid {pid} is no living process below the started program"))
}

async fn handlers_have_names_of_their_own(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let mut names = BTreeSet::new();
    for method in &program.ready.methods {
        let name = &method.name;
        ensure((1..=MAX_NAME).contains(&name.len()), || {
            format!("a name has 1 to {MAX_NAME} bytes: {name:?}")
        })?;
        ensure(names.insert(name), || format!("two handlers have the name {name}"))?;
    }
    Ok(())
}

async fn handlers_are_described_as_documented(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let slots = &program.members["slots"];
    ensure(slots.is_null() || slots.as_u64() > Some(0), || format!("slots is a number from 1, not {slots}"))?;
    for method in program.members["methods"].as_array().into_iter().flatten() {
        for (member, is_right) in MEMBERS {
            let value = &method[member];
            let fits = value.is_null() || is_right(value);
            ensure(fits, || format!("{}: {member} is {}", shown(&method["name"]), shown(value)))?;
        }
    }
    Ok(())
}

/// Returns whether a member may have a value.
type Rule = fn(&Value) -> bool;

/// The optional members of a method, and which values they have.
const MEMBERS: [(&str, Rule); 7] = [
    ("mode", |value| [json!("any"), json!("assigned")].contains(value)),
    ("serial", |value| [json!("user"), json!("page")].contains(value)),
    ("timeout_ms", |value| value.as_u64() > Some(0)),
    ("retries", Value::is_u64),
    ("schema", |value| value.is_object() || value.is_boolean()),
    ("returns", |value| value.is_object() || value.is_boolean()),
    ("doc", Value::is_string),
];

async fn ready_is_sent_once(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.start().await?;
    program.settle().await?;
    let id = program.call(UNKNOWN_METHOD, &json!({}));
    program.end(id).await?;
    program.settle().await?;
    let again = program.messages.iter().any(|message| matches!(message, ChildMessage::Ready(_)));
    ensure(!again, || "ready came again".to_owned())
}

async fn unknown_members_of_welcome_are_ignored(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.starter.connect().await?;
    let mut welcome = welcome(&program);
    welcome["later"] = json!({"t": "welcome", "slots": [1, null]});
    welcome["zone"] = json!(null);
    program.send(&welcome);
    program.settle().await
}

async fn messages_right_after_welcome_are_answered(checker: &mut Checker) -> Result<(), Deviation> {
    let mut program = checker.starter.connect().await?;
    let id = program.id();
    let messages = [welcome(&program), json!({"t": "ping"}), call(id, UNKNOWN_METHOD, &json!({}))];
    program.send_bytes(&messages.iter().flat_map(frame).collect::<Vec<u8>>());
    program.wait("pong", |message| matches!(message, ChildMessage::Pong { .. }).then_some(())).await?;
    program.error(id).await.map(drop)
}
