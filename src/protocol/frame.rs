//! Client → server frames.
//!
//! A frame is parsed in two steps over the same bytes: first the envelope (`type`, `id`), so that an error can name
//! the `id`, then the fields of its type. Payloads stay raw JSON.

use std::borrow::Cow;

use pagewire_cluster::id::{Address, Level, Scope};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{CommandError, ErrorCode, PatchFrame, PathRef, SetData, TOO_DEEP, is_too_deep, read};

/// Maximum length of the `id` of a frame, in bytes of JSON.
const MAX_FRAME_ID: usize = 130;

/// The id that a client gives a frame: a JSON string or number, echoed unchanged.
#[derive(Debug, Clone)]
pub struct FrameId(Box<RawValue>);

impl FrameId {
    /// Returns the JSON text.
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// Returns the raw JSON value.
    pub fn raw(&self) -> &RawValue {
        &self.0
    }
}

impl<'de> Deserialize<'de> for FrameId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let scalar = raw.get().starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        if scalar && raw.get().len() <= MAX_FRAME_ID {
            Ok(Self(raw))
        } else {
            Err(serde::de::Error::custom("an id is a string of at most 128 bytes or a number"))
        }
    }
}

/// The target pages of a message; exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One page.
    #[schema(value_type = String)]
    Page(Address),
    /// All pages of a session.
    #[schema(value_type = String)]
    Session(Address),
    /// All pages of a connection.
    #[schema(value_type = String)]
    Connection(Address),
    /// All pages of a user.
    User(String),
    /// All pages of a topic.
    Topic(String),
    /// All pages; `true`. Only programs may use it.
    All(bool),
}

impl Target {
    /// Returns the set of pages.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] for `all: false`.
    pub fn scope(self) -> Result<Scope, CommandError> {
        Ok(match self {
            Self::Page(address) => Scope::Page(address),
            Self::Session(address) => Scope::Session(address.key),
            Self::Connection(address) => Scope::Connection(address.key),
            Self::User(user) => Scope::User(user),
            Self::Topic(topic) => Scope::Topic(topic),
            Self::All(true) => Scope::All,
            Self::All(false) => {
                return Err(CommandError::new(ErrorCode::Malformed, "all must be true or absent"));
            }
        })
    }
}

/// `send`: a message to pages.
#[derive(Debug, Deserialize)]
pub struct SendFrame {
    /// Recipients.
    pub to: Target,
    /// Any JSON.
    pub payload: Box<RawValue>,
}

/// `broadcast_session`: a message to all pages of the sender's session.
#[derive(Debug, Deserialize)]
pub struct BroadcastSession {
    /// Any JSON.
    pub payload: Box<RawValue>,
}

/// `call`: a call of an executor's method.
#[derive(Debug, Deserialize)]
pub struct CallFrame {
    /// Name of the handler.
    pub method: String,
    /// Any JSON; `null` when missing.
    pub params: Option<Box<RawValue>>,
    /// `inline`, `any` or `assigned`.
    pub exec_mode: Option<String>,
    /// Pool of the workers.
    pub pool: Option<String>,
    /// The client's timeout, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// `job`: durable work.
#[derive(Debug, Deserialize)]
pub struct SubmitJob {
    /// Name of the handler.
    pub kind: String,
    /// Any JSON; `null` when missing.
    pub data: Option<Box<RawValue>>,
    /// `any` or `assigned`.
    pub exec_mode: Option<String>,
    /// Pool of the workers.
    pub pool: Option<String>,
    /// Earliest start, RFC 3339.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub run_at: Option<OffsetDateTime>,
    /// Maximum number of retries after a failure.
    pub retries: Option<u32>,
    /// A second job with the same key is the same job.
    pub idempotency_key: Option<String>,
}

/// `subscribe`: subscribes the page to a topic.
#[derive(Debug, Deserialize)]
pub struct Subscribe {
    /// Name of the topic.
    pub topic: String,
    /// Token of a user (JWT) that names the topic; needed unless the topic is open to all.
    pub token: Option<String>,
}

/// `unsubscribe`: ends the subscription to a topic.
#[derive(Debug, Deserialize)]
pub struct Unsubscribe {
    /// Name of the topic.
    pub topic: String,
}

/// `rollout`: chooses the lane of the page's user in a pool.
#[derive(Debug, Deserialize)]
pub struct ChooseLane {
    /// The pool; the default one when missing.
    pub pool: Option<String>,
    /// The lane, which may be the base; `null` or missing for no choice.
    pub lane: Option<String>,
}

/// `auth`: a new token for this page's connection.
#[derive(Debug, Deserialize)]
pub struct AuthFrame {
    /// Token of a user (JWT).
    pub token: String,
}

/// `ack`: acknowledges all frames up to `seq`.
#[derive(Debug, Deserialize)]
pub struct AckFrame {
    /// Last `seq` seen.
    pub seq: u64,
}

/// A frame after `hello`.
#[derive(Debug)]
pub enum ClientFrame {
    /// Sets a new token.
    Auth(AuthFrame),
    /// Sends a message to pages.
    Send(SendFrame),
    /// Sends a message to the sender's session.
    BroadcastSession(BroadcastSession),
    /// Calls a method of an executor.
    Call(CallFrame),
    /// Submits durable work.
    Job(SubmitJob),
    /// Cancels the call or job with the id of this frame.
    Cancel,
    /// Writes a value into a tree.
    Set(Level, SetData),
    /// Changes a tree.
    Patch(PatchFrame),
    /// Reads a path of a tree.
    GetData(PathRef),
    /// Watches a path of a tree.
    Watch(PathRef),
    /// Ends watching a path of a tree.
    Unwatch(PathRef),
    /// Subscribes to a topic.
    Subscribe(Subscribe),
    /// Ends the subscription to a topic.
    Unsubscribe(Unsubscribe),
    /// Chooses a lane.
    Rollout(ChooseLane),
    /// Acknowledges frames.
    Ack(AckFrame),
    /// Requests a `pong`.
    Ping,
}

/// A frame that could not be parsed.
#[derive(Debug)]
pub struct InvalidFrame {
    /// Id of the frame, if it could be parsed.
    pub id: Option<FrameId>,
    /// Error to send.
    pub error: CommandError,
}

#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(default)]
    id: Option<FrameId>,
}

impl ClientFrame {
    /// Parses a frame after `hello` and returns it with its id.
    ///
    /// # Errors
    ///
    /// [`InvalidFrame`] with [`ErrorCode::Malformed`] when the text is not a valid frame, or with
    /// [`ErrorCode::Unsupported`] when its type is unknown.
    pub fn parse(text: &str) -> Result<(Self, Option<FrameId>), Box<InvalidFrame>> {
        let envelope: Envelope<'_> = read(text.as_bytes())
            .map_err(|error| Box::new(InvalidFrame { id: None, error: malformed(error) }))?;
        match shallow(text).and_then(|()| Self::parse_kind(envelope.kind.as_deref(), text.as_bytes())) {
            Ok(frame) => Ok((frame, envelope.id)),
            Err(error) => Err(Box::new(InvalidFrame { id: envelope.id, error })),
        }
    }

    fn parse_kind(kind: Option<&str>, text: &[u8]) -> Result<Self, CommandError> {
        let Some(kind) = kind else {
            return Err(CommandError::new(ErrorCode::Malformed, "a frame must have a type"));
        };
        match kind {
            "auth" => read(text).map(Self::Auth),
            "send" => read(text).map(Self::Send),
            "broadcast_session" => read(text).map(Self::BroadcastSession),
            "call" => read(text).map(Self::Call),
            "job" => read(text).map(Self::Job),
            "cancel" => Ok(Self::Cancel),
            "set_user_data" => read(text).map(|set| Self::Set(Level::User, set)),
            "set_connection_data" => read(text).map(|set| Self::Set(Level::Connection, set)),
            "set_session_data" => read(text).map(|set| Self::Set(Level::Session, set)),
            "set_page_data" => read(text).map(|set| Self::Set(Level::Page, set)),
            "patch" => read(text).map(Self::Patch),
            "get_data" => read(text).map(Self::GetData),
            "watch" => read(text).map(Self::Watch),
            "unwatch" => read(text).map(Self::Unwatch),
            "subscribe" => read(text).map(Self::Subscribe),
            "unsubscribe" => read(text).map(Self::Unsubscribe),
            "rollout" => read(text).map(Self::Rollout),
            "ack" => read(text).map(Self::Ack),
            "ping" => Ok(Self::Ping),
            "hello" => return Err(CommandError::new(ErrorCode::Malformed, "hello must be sent only once")),
            _ => {
                return Err(CommandError::new(ErrorCode::Unsupported, "this server does not know this type"));
            }
        }
        .map_err(malformed)
    }

    /// Returns whether the server counts the frame as processed (`registered.received`): all frames but `ack` and
    /// `ping`.
    pub const fn counted(&self) -> bool {
        !matches!(self, Self::Ack(_) | Self::Ping)
    }
}

/// Nothing that its readers could not parse is taken.
pub(super) fn shallow(text: &str) -> Result<(), CommandError> {
    match is_too_deep(text.as_bytes()) {
        true => Err(CommandError::new(ErrorCode::Malformed, TOO_DEEP)),
        false => Ok(()),
    }
}

pub(super) fn malformed(error: String) -> CommandError {
    CommandError::new(ErrorCode::Malformed, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Hello;
    use super::*;

    #[test]
    fn a_refusal_names_the_id_of_the_frame() {
        let refused = ClientFrame::parse(r#"{"type":"send","id":"a7"}"#).unwrap_err();
        assert_eq!(refused.id.map(|id| id.json().to_owned()).as_deref(), Some(r#""a7""#));
        assert_eq!(refused.error.code, ErrorCode::Malformed);
        assert_eq!(refused.error.message, r#"the member "to" is missing"#);
        let refused = ClientFrame::parse(r#"{"type":"jump","id":7}"#).unwrap_err();
        assert_eq!(refused.id.map(|id| id.json().to_owned()).as_deref(), Some("7"));
        assert_eq!(refused.error.code, ErrorCode::Unsupported);
    }

    #[test]
    fn a_payload_stays_as_it_was_written() {
        let text = r#"{"type":"send","to":{"user":"a.b"},"payload":{"z":1,  "a":[1e3]}}"#;
        let (ClientFrame::Send(send), None) = ClientFrame::parse(text).unwrap() else { panic!("a send") };
        assert_eq!(send.payload.get(), r#"{"z":1,  "a":[1e3]}"#);
        assert_eq!(send.to, Target::User("a.b".to_owned()));
    }

    #[test]
    fn a_frame_that_is_nested_too_deep_is_refused_with_its_id() {
        let nested = |levels: usize| {
            let payload = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"type":"broadcast_session","id":7,"payload":{payload}}}"#)
        };
        assert!(ClientFrame::parse(&nested(63)).is_ok());
        let refused = ClientFrame::parse(&nested(64)).unwrap_err();
        assert_eq!(refused.id.map(|id| id.json().to_owned()).as_deref(), Some("7"));
        assert_eq!((refused.error.code, &*refused.error.message), (ErrorCode::Malformed, TOO_DEEP));
        let hello = format!(r#"{{"watch":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(Hello::parse(&hello).unwrap_err().message, TOO_DEEP);
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC{0,60}", kind in "[a-z_]{0,9}") {
            let _ = ClientFrame::parse(&text);
            let _ = ClientFrame::parse(&format!(r#"{{"type":"{kind}","id":{text}}}"#));
            let _ = Hello::parse(&text);
        }
    }
}
