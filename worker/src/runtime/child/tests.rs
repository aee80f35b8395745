//! The golden vectors of the child wire, which the SDKs have too.

use std::path::Path;

use pagewire_cluster::wire::HandlerError;
use proptest::prelude::*;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::wire::{
    CallMessage, CallerMembers, CancelReason, ChildMessage, JobMessage, PageMessage, RpcMessage,
    SupervisorMessage, body_length, encode,
};

/// Reads the vectors of one direction: the name, the bytes of the frame, and the message.
fn vectors(direction: &str) -> Vec<(String, Vec<u8>, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/child");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let all = files.map(read).filter(|vector| vector["direction"] == direction);
    all.map(|vector| {
        let frame = vector["frame"].as_str().unwrap();
        let byte = |at| u8::from_str_radix(&frame[at..at + 2], 16).unwrap();
        let bytes = (0..frame.len()).step_by(2).map(byte).collect();
        (vector["name"].as_str().unwrap().to_owned(), bytes, vector["message"].clone())
    })
    .collect()
}

const EVENTS: [&str; 6] = ["open", "restore", "away", "back", "save", "close"];

/// What a message of the supervisor refers to.
struct Members<'a> {
    message: &'a Value,
    params: Box<RawValue>,
    value: Option<Box<RawValue>>,
    saved: Option<Box<RawValue>>,
    error: Option<HandlerError>,
}

impl<'a> Members<'a> {
    fn of(message: &'a Value) -> Self {
        let raw = |name: &str| message.get(name).map(|value| to_raw_value(value).unwrap());
        let params = raw("params").unwrap_or_else(|| RawValue::NULL.to_owned());
        let error = message.get("error").map(|error| serde_json::from_value(error.clone()).unwrap());
        Self { message, params, value: raw("value"), saved: raw("saved"), error }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.message.get(name).and_then(Value::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.message[name].as_u64().unwrap()
    }

    fn caller(&self) -> CallerMembers<'_> {
        let owned = |name| self.text(name).map(str::to_owned);
        CallerMembers {
            user: self.text("user"),
            page: owned("page"),
            session: owned("session"),
            connection: owned("connection"),
            trace: self.text("trace"),
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let id = || self.number("id");
        let message = match self.text("t").unwrap() {
            "welcome" => {
                let welcome = serde_json::from_value(self.message.clone()).unwrap();
                return encode(&SupervisorMessage::Welcome(&welcome)).unwrap().to_vec();
            }
            "call" => SupervisorMessage::Call(CallMessage {
                id: id(),
                method: self.text("method").unwrap(),
                params: &self.params,
                deadline_ms: self.number("deadline_ms"),
                caller: self.caller(),
            }),
            "job" => SupervisorMessage::Job(JobMessage {
                id: id(),
                job: self.text("job").unwrap().to_owned(),
                method: self.text("method").unwrap(),
                params: &self.params,
                attempt: u32::try_from(self.number("attempt")).unwrap(),
                left: u32::try_from(self.number("left")).unwrap(),
                timeout_ms: self.number("timeout_ms"),
                caller: self.caller(),
            }),
            "rpc" => SupervisorMessage::Rpc(RpcMessage {
                id: id(),
                class: self.text("class").unwrap(),
                method: self.text("method").unwrap(),
                params: &self.params,
                deadline_ms: self.number("deadline_ms"),
                caller: self.caller(),
            }),
            "page" => SupervisorMessage::Page(PageMessage {
                id: id(),
                event: EVENTS.into_iter().find(|event| Some(*event) == self.text("event")).unwrap(),
                class: self.text("class").unwrap(),
                deadline_ms: self.number("deadline_ms"),
                why: self.message.get("why").map(|why| serde_json::from_value(why.clone()).unwrap()),
                saved: self.saved.as_deref(),
                caller: self.caller(),
            }),
            "cancel" => SupervisorMessage::Cancel {
                id: id(),
                why: match self.text("why").unwrap() {
                    "cancelled" => CancelReason::Cancelled,
                    "deadline" => CancelReason::Deadline,
                    _ => CancelReason::Drain,
                },
            },
            "reply" => SupervisorMessage::Reply {
                id: id(),
                value: self.value.as_deref(),
                error: self.error.as_ref(),
            },
            "ping" => SupervisorMessage::Ping,
            "drain" => SupervisorMessage::Drain { within_ms: self.number("within_ms") },
            other => panic!("a vector of the unknown type {other}"),
        };
        encode(&message).unwrap().to_vec()
    }
}

#[test]
fn messages_of_the_supervisor_are_written_as_in_the_vectors() {
    let vectors = vectors("supervisor");
    assert!(vectors.len() >= 8, "{}", vectors.len());
    for (name, frame, message) in vectors {
        let encoded = Members::of(&message).encoded();
        assert_eq!(String::from_utf8_lossy(&encoded), String::from_utf8_lossy(&frame), "{name}");
    }
}

#[test]
fn messages_of_a_child_are_read_as_in_the_vectors() {
    let vectors = vectors("child");
    assert!(vectors.len() >= 20, "{}", vectors.len());
    for (name, frame, message) in vectors {
        let length = body_length(frame[..4].try_into().unwrap()).unwrap();
        assert_eq!(length, frame.len() - 4, "{name}");
        let read = ChildMessage::parse(&frame[4..]).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let id = message["id"].as_u64();
        let agrees = match read {
            ChildMessage::Ready(ready) => {
                let methods = message["methods"].as_array().unwrap();
                let features = message.get("features").cloned().unwrap_or_else(|| json!([]));
                ready.token == message["token"]
                    && ready.pages.len() == message["pages"].as_array().map_or(0, Vec::len)
                    && ready.methods.len() == methods.len()
                    && json!(ready.features) == features
            }
            ChildMessage::Result { id: read, value } => {
                Some(read) == id && serde_json::from_str::<Value>(value.get()).unwrap() == message["value"]
            }
            ChildMessage::Error { id: read, failure } => {
                Some(read) == id
                    && failure.error.code == message["code"]
                    && failure.after_ms == message["after_ms"].as_u64()
            }
            ChildMessage::Stopped { id: read } => Some(read) == id,
            ChildMessage::Snooze { id: read, after_ms } => {
                Some(read) == id && message["after_ms"] == after_ms
            }
            ChildMessage::Progress { id: read, progress, .. } => {
                Some(read) == id && message["progress"] == progress
            }
            ChildMessage::Request(request) => {
                Some(request.id) == id
                    && message.get("work").and_then(Value::as_u64) == request.work
                    && message["method"] == request.method
            }
            ChildMessage::Log(line) => message["message"] == line.message && message["level"] == line.level,
            ChildMessage::Pong { lag_ms } => message["lag_ms"].as_u64().unwrap_or(0) == lag_ms,
            ChildMessage::Unknown { t, .. } => panic!("{name}: {t} is not known"),
        };
        assert!(agrees, "{name}: {message}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), t in "[a-z]{1,8}") {
        let _ = ChildMessage::parse(&bytes);
        let known = format!(r#"{{"t":"{t}","id":1,{}}}"#, String::from_utf8_lossy(&bytes));
        let _ = ChildMessage::parse(known.as_bytes());
    }
}

#[test]
fn an_error_with_a_long_message_is_cut_so_that_it_fits_into_a_record() {
    let body = json!({"t": "error", "id": 1, "code": "c".repeat(600_000), "message": "m".repeat(600_000),
        "retryable": false, "after_ms": 7});
    let Ok(ChildMessage::Error { failure, .. }) = ChildMessage::parse(body.to_string().as_bytes()) else {
        panic!("not an error");
    };
    assert_eq!(
        (failure.error.code.len(), failure.error.message.len(), failure.after_ms),
        (200, 8192, Some(7))
    );
}

#[test]
fn a_message_that_breaks_the_rules_is_refused_with_the_reason() {
    for (body, reason) in [
        ("", "a message"),
        ("[]", "a message"),
        (r#"{"id":1}"#, "missing field `t`"),
        (r#"{"t":"result","value":1}"#, "without an id"),
        (r#"{"t":"result","id":1}"#, "missing field `value`"),
        (r#"{"t":"error","id":1,"code":"a"}"#, "missing field"),
        (r#"{"t":"stopped","id":9007199254740992}"#, "an id is at most"),
        (r#"{"t":"stopped","id":-1}"#, "invalid value"),
        (r#"{"t":"progress","id":1,"progress":"half"}"#, "invalid type"),
    ] {
        let error = ChildMessage::parse(body.as_bytes()).unwrap_err();
        assert!(error.0.contains(reason), "{body}: {error:?}");
    }
    assert!(body_length([0x80, 0, 0, 1]).is_err() && body_length([0, 0x10, 0, 1]).is_err());
    assert_eq!(body_length([0, 0x10, 0, 0]), Ok(1 << 20));
}
