//! Server → client frames.
//!
//! A sequenced frame is a short head that belongs to one page (`{"seq":17,`) and a [`FrameBody`] that all pages share. A
//! frame outside the sequence is a bare `{` and a tail.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::id::Level;
use pagewire_cluster::id::{Address, NodeNumber};
use pagewire_cluster::wire::{HandlerError, ObjectNotice};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{CommandError, FrameId};

/// A frame without its head: the members after `seq` and the closing brace. Encoded once, shared by all pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBody(Arc<[u8]>);

impl FrameBody {
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

    /// `resident`: what has become of the object of the page.
    pub fn resident(notice: &ObjectNotice) -> Self {
        #[derive(Serialize)]
        struct Resident<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            notice: &'a ObjectNotice,
        }
        Self::of(&Resident { r#type: "resident", notice })
    }

    /// `result`: the only terminal frame of a command that succeeded.
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

    /// `error`: the only terminal frame of a command that failed, or the response to a frame that could not be
    /// parsed.
    pub fn error(id: Option<&FrameId>, error: &CommandError) -> Self {
        Self::refusal(id, error.code.text(), &error.message, error.code.retryable())
    }

    /// `error`: a handler returned an error with a code of its own.
    pub fn failure(id: &FrameId, failure: &HandlerError) -> Self {
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

    /// `identity`: the page belongs to this user from now on.
    pub fn identity(user: &str) -> Self {
        #[derive(Serialize)]
        struct Identity<'a> {
            r#type: &'static str,
            user: &'a str,
        }
        Self::of(&Identity { r#type: "identity", user })
    }

    /// `address`: the number of the page's node has changed.
    pub fn address(page: Address, token: &str) -> Self {
        #[derive(Serialize)]
        struct Moved<'a> {
            r#type: &'static str,
            page_id: Address,
            token: &'a str,
        }
        Self::of(&Moved { r#type: "address", page_id: page, token })
    }

    /// `move`: the page is to open a second socket, at `url` or at the address that it knows, in the given time.
    pub fn move_to(url: Option<&str>, after: Duration) -> Self {
        #[derive(Serialize)]
        struct Move<'a> {
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            url: Option<&'a str>,
            retry_after_ms: u64,
        }
        let retry_after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self::of(&Move { r#type: "move", url, retry_after_ms })
    }

    /// `registered`: the response to `hello`, outside the sequence.
    pub fn registered(registered: &Registered<'_>) -> Self {
        Self::of(registered)
    }

    /// Encodes a value as a JSON object and drops the opening brace.
    pub(super) fn of(value: &impl Serialize) -> Self {
        // serialising these shapes into memory cannot fail: all keys are strings, and no foreign `Serialize` is
        // involved
        let json = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
        Self(json[1..].into())
    }

    /// Returns the whole frame without a sequence number, for sending it to another node.
    pub fn to_frame(&self) -> Option<Box<RawValue>> {
        let text = [b"{", self.bytes()].concat();
        String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok())
    }

    /// Returns the tail of a frame from another node; `None` unless it is an object with members.
    pub fn from_frame(frame: &RawValue) -> Option<Self> {
        let tail = frame.get().strip_prefix('{')?;
        (!tail.trim_start().starts_with('}')).then(|| Self(tail.as_bytes().into()))
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the length in bytes, which is the size in an outbox.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Always `false`, because a tail ends with a brace.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `pong`, outside the sequence.
pub fn pong() -> FrameBody {
    FrameBody(br#""type":"pong"}"#.as_slice().into())
}

/// Outcome of opening or resuming a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResumeOutcome {
    /// The page did not exist.
    New,
    /// All frames after the last seen one follow.
    Recovered,
    /// Frames were lost; `seq` restarts.
    Reset,
}

/// Limits that a client must know.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FrameLimitsInfo {
    /// Maximum size of a client's frame, in bytes.
    pub max_frame: usize,
    /// Maximum number of frames per second.
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

/// The response to `hello`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "registered")]
pub struct Registered<'a> {
    /// Id of the browser.
    pub connection_id: Address,
    /// Id of the session: the master page and its iframes.
    pub session_id: Address,
    /// Id of this page.
    pub page_id: Address,
    /// User of the page; absent when anonymous.
    pub user: Option<&'a str>,
    /// Node that holds the socket.
    pub node: NodeNumber,
    /// Lane of the node.
    pub lane: &'a str,
    /// Release of the node.
    pub release: &'a str,
    /// Token for resuming the page.
    pub token: &'a str,
    /// Outcome of opening or resuming the page.
    pub recovered: ResumeOutcome,
    /// Last `seq` that the client has according to the server; the next frame has `seq + 1`.
    pub seq: u64,
    /// Position in the durable messages.
    pub pos: u64,
    /// Number of the client's frames that were processed.
    pub received: u64,
    /// Interval of the server's WebSocket pings, in milliseconds.
    pub ping_ms: u64,
    /// Limits that the client must not exceed.
    pub limits: FrameLimitsInfo,
    /// What a page may do without a role.
    pub allow: &'a Allow,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ClientFrame, ErrorCode};

    fn text(tail: &FrameBody) -> String {
        format!("{{{}", std::str::from_utf8(tail.bytes()).unwrap())
    }

    #[test]
    fn a_message_keeps_the_raw_payload() {
        let payload: Box<RawValue> = serde_json::from_str(r#"{"b":1,  "a":2}"#).unwrap();
        assert_eq!(
            text(&FrameBody::message(&payload, None, None)),
            r#"{"type":"message","payload":{"b":1,  "a":2}}"#
        );
    }

    #[test]
    fn the_golden_vectors_of_move_hold() {
        let golden = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/move.json"));
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        for vector in golden["move"].as_array().unwrap() {
            let after = Duration::from_millis(vector["retry_after_ms"].as_u64().unwrap());
            assert_eq!(
                text(&FrameBody::move_to(vector["url"].as_str(), after)),
                vector["text"].as_str().unwrap()
            );
        }
    }

    #[test]
    fn an_error_echoes_the_id_as_it_came() {
        let (_, id) = ClientFrame::parse(r#"{"type":"ping","id":1e2}"#).unwrap();
        let error = CommandError::new(ErrorCode::NoExecutor, "nobody");
        assert_eq!(
            text(&FrameBody::error(id.as_ref(), &error)),
            r#"{"type":"error","id":1e2,"code":"no_executor","message":"nobody","retryable":true}"#
        );
    }
}
