//! Server → client frames.
//!
//! A sequenced frame is a short head that belongs to one page (`{"seq":17,`) and a [`Tail`] that every page
//! shares. A frame outside the sequence is a tail behind a bare `{`.

use std::sync::Arc;

use pagewire_cluster::id::{Address, NodeNumber};
use pagewire_cluster::state::Level;
use pagewire_cluster::wire::Failure;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{CommandError, FrameId};

/// A frame without its head: the members after `seq` and the closing brace. Encoded once, shared by all pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail(Arc<[u8]>);

impl Tail {
    /// `message`: a pushed payload.
    pub fn message(payload: &RawValue, from: Option<Address>, topic: Option<&str>) -> Self {
        #[derive(Serialize)]
        struct Message<'a> {
            r#type: &'static str,
            payload: &'a RawValue,
            #[serde(skip_serializing_if = "Option::is_none")]
            from: Option<Address>,
            #[serde(skip_serializing_if = "Option::is_none")]
            topic: Option<&'a str>,
        }
        Self::of(&Message { r#type: "message", payload, from, topic })
    }

    /// `result`: the one terminal frame of a command that succeeded.
    pub fn result(id: &FrameId, value: Option<&RawValue>) -> Self {
        #[derive(Serialize)]
        struct Success<'a> {
            r#type: &'static str,
            id: &'a RawValue,
            #[serde(skip_serializing_if = "Option::is_none")]
            value: Option<&'a RawValue>,
        }
        Self::of(&Success { r#type: "result", id: id.raw(), value })
    }

    /// `error`: the one terminal frame of a command that failed, or a frame that could not be read.
    pub fn error(id: Option<&FrameId>, error: &CommandError) -> Self {
        Self::refusal(id, error.code.text(), &error.message, error.code.retryable())
    }

    /// `error`: a handler said no, with a code of its own.
    pub fn failure(id: &FrameId, failure: &Failure) -> Self {
        Self::refusal(Some(id), &failure.code, &failure.message, failure.retryable)
    }

    fn refusal(id: Option<&FrameId>, code: &str, message: &str, retryable: bool) -> Self {
        #[derive(Serialize)]
        struct Refusal<'a> {
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a RawValue>,
            code: &'a str,
            message: &'a str,
            retryable: bool,
        }
        Self::of(&Refusal { r#type: "error", id: id.map(FrameId::raw), code, message, retryable })
    }

    /// `identity`: the page belongs to this user from here on.
    pub fn identity(user: &str) -> Self {
        #[derive(Serialize)]
        struct Identity<'a> {
            r#type: &'static str,
            user: &'a str,
        }
        Self::of(&Identity { r#type: "identity", user })
    }

    /// `address`: the page's node has another number now.
    pub fn address(page: Address, token: &str) -> Self {
        #[derive(Serialize)]
        struct Moved<'a> {
            r#type: &'static str,
            page_id: Address,
            token: &'a str,
        }
        Self::of(&Moved { r#type: "address", page_id: page, token })
    }

    /// `registered`: the answer to `hello`, outside the sequence.
    pub fn registered(registered: &Registered<'_>) -> Self {
        Self::of(registered)
    }

    /// Everything behind the opening brace of the value's JSON object.
    pub(super) fn of(value: &impl Serialize) -> Self {
        // serialising these shapes into memory cannot fail: string keys, no foreign Serialize
        let json = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
        Self(json[1..].into())
    }

    /// The members behind the opening brace, and the closing one.
    pub(super) fn from_bytes(members: Vec<u8>) -> Self {
        Self(members.into())
    }

    /// The whole frame without a number, to travel between nodes.
    pub fn to_frame(&self) -> Option<Box<RawValue>> {
        let text = [b"{", self.bytes()].concat();
        String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok())
    }

    /// The tail of a frame that travelled; `None` unless it is an object with members.
    pub fn from_frame(frame: &RawValue) -> Option<Self> {
        let tail = frame.get().strip_prefix('{')?;
        (!tail.trim_start().starts_with('}')).then(|| Self(tail.as_bytes().into()))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its length in bytes: what it costs in an outbox.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a tail ends with a brace.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `pong`, outside the sequence.
pub fn pong() -> Tail {
    Tail(br#""type":"pong"}"#.as_slice().into())
}

/// How a page came to its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recovered {
    /// A page that did not exist.
    New,
    /// Every frame after the last seen one follows.
    Recovered,
    /// Something was missed; `seq` restarts.
    Reset,
}

/// Limits that a client must know.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Limits {
    /// Bytes of a client's frame.
    pub max_frame: usize,
    /// Frames per second.
    pub frames_per_second: u32,
}

/// What the deployment allows a page without a role, within its own chain.
#[derive(Debug, Clone, Serialize)]
pub struct Allow {
    /// The levels of state trees that it may write.
    pub write: Vec<Level>,
    /// The levels that it may send to.
    pub send: Vec<&'static str>,
}

/// The answer to `hello`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "registered")]
pub struct Registered<'a> {
    /// The browser.
    pub connection_id: Address,
    /// The master page and its iframes.
    pub session_id: Address,
    /// This page.
    pub page_id: Address,
    /// Absent for anonymous.
    pub user: Option<&'a str>,
    /// The node that holds the socket.
    pub node: NodeNumber,
    /// The node's lane.
    pub lane: &'a str,
    /// The node's release.
    pub release: &'a str,
    /// To resume with.
    pub token: &'a str,
    /// How this page came here.
    pub recovered: Recovered,
    /// The last `seq` that the client has according to the server; the next frame has `seq + 1`.
    pub seq: u64,
    /// Position in the durable messages.
    pub pos: u64,
    /// How many of the client's frames were processed.
    pub received: u64,
    /// The interval of the server's WebSocket pings.
    pub ping_ms: u64,
    /// What a client must not exceed.
    pub limits: Limits,
    /// What a page may do without a role.
    pub allow: &'a Allow,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ClientFrame, ErrorCode};

    fn text(tail: &Tail) -> String {
        format!("{{{}", std::str::from_utf8(tail.bytes()).unwrap())
    }

    #[test]
    fn a_message_keeps_the_raw_payload() {
        let payload: Box<RawValue> = serde_json::from_str(r#"{"b":1,  "a":2}"#).unwrap();
        assert_eq!(
            text(&Tail::message(&payload, None, None)),
            r#"{"type":"message","payload":{"b":1,  "a":2}}"#
        );
    }

    #[test]
    fn an_error_echoes_the_id_as_it_came() {
        let (_, id) = ClientFrame::parse(r#"{"type":"ping","id":1e2}"#).unwrap();
        let error = CommandError::new(ErrorCode::NoExecutor, "nobody");
        assert_eq!(
            text(&Tail::error(id.as_ref(), &error)),
            r#"{"type":"error","id":1e2,"code":"no_executor","message":"nobody","retryable":true}"#
        );
    }
}
