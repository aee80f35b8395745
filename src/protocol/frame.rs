//! Client → server frames.
//!
//! A frame is parsed in two steps over the same bytes: the envelope (`type`, `id`), so that a refusal can name
//! the `id`, then the fields of its type. Payloads stay raw JSON.

use std::borrow::Cow;

use pagewire_cluster::id::Address;
use pagewire_cluster::state::Level;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{At, CommandError, ErrorCode, Patch, SetData, TOO_DEEP, is_too_deep, read};

/// The longest `id` of a frame, in bytes of JSON.
const MAX_FRAME_ID: usize = 130;

/// The client's own id of a frame: a JSON string or number, echoed as it came.
#[derive(Debug, Clone)]
pub struct FrameId(Box<RawValue>);

impl FrameId {
    /// The JSON text.
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// The JSON itself.
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

/// The first frame of a socket.
#[derive(Debug, Default, Deserialize)]
pub struct Hello {
    /// To join a connection (browser) that exists.
    pub connection_id: Option<Address>,
    /// To join a session that exists.
    pub session_id: Option<Address>,
    /// To resume a page, with `resume`.
    pub page_id: Option<Address>,
    /// A user's token (JWT).
    pub token: Option<String>,
    /// What resuming needs.
    pub resume: Option<Resume>,
    /// What the page shows of state trees: it watches nothing else from here on. `None`: as before, if it is recovered.
    pub watch: Option<Vec<At>>,
    /// The ids of jobs whose end the page still waits for.
    #[serde(default)]
    pub pending: Vec<FrameId>,
}

/// The client's proof and position for resuming a page.
#[derive(Debug, Deserialize)]
pub struct Resume {
    /// The token of the last `registered`.
    pub token: String,
    /// The last `seq` seen, 0 for none.
    pub seq: u64,
}

/// Who gets a message: one member.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One page.
    Page(Address),
    /// All pages of a session.
    Session(Address),
    /// All pages of a connection.
    Connection(Address),
    /// All pages of a user.
    User(String),
    /// All pages of a topic.
    Topic(String),
}

/// `send`: a message to pages.
#[derive(Debug, Deserialize)]
pub struct Send {
    /// To whom.
    pub to: Target,
    /// Any JSON.
    pub payload: Box<RawValue>,
}

/// `broadcast_session`: a message to all pages of my session.
#[derive(Debug, Deserialize)]
pub struct BroadcastSession {
    /// Any JSON.
    pub payload: Box<RawValue>,
}

/// `call`: a method of an executor.
#[derive(Debug, Deserialize)]
pub struct Call {
    /// The handler's name.
    pub method: String,
    /// Any JSON; `null` when missing.
    pub params: Option<Box<RawValue>>,
    /// `inline`, `any` or `assigned`.
    pub exec_mode: Option<String>,
    /// Whose workers.
    pub pool: Option<String>,
    /// The client's limit, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// `job`: durable work.
#[derive(Debug, Deserialize)]
pub struct Job {
    /// The handler's name.
    pub kind: String,
    /// Any JSON; `null` when missing.
    pub data: Option<Box<RawValue>>,
    /// `any` or `assigned`.
    pub exec_mode: Option<String>,
    /// Whose workers.
    pub pool: Option<String>,
    /// Not before, RFC 3339.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub run_at: Option<OffsetDateTime>,
    /// How often it is tried again after a failure.
    pub retries: Option<u32>,
    /// The same key again is the same job.
    pub idempotency_key: Option<String>,
}

/// `subscribe`: from now on the page hears of a topic.
#[derive(Debug, Deserialize)]
pub struct Subscribe {
    /// Its name.
    pub topic: String,
    /// A user's token (JWT) that names it, where it is not open to all.
    pub token: Option<String>,
}

/// `unsubscribe`: no more.
#[derive(Debug, Deserialize)]
pub struct Unsubscribe {
    /// Its name.
    pub topic: String,
}

/// `auth`: a new token for this page's connection.
#[derive(Debug, Deserialize)]
pub struct Auth {
    /// A user's token (JWT).
    pub token: String,
}

/// `ack`: everything up to `seq` has arrived.
#[derive(Debug, Deserialize)]
pub struct Ack {
    /// The last `seq` seen.
    pub seq: u64,
}

/// A frame after `hello`.
#[derive(Debug)]
pub enum ClientFrame {
    /// A new token.
    Auth(Auth),
    /// A message to pages.
    Send(Send),
    /// A message to my session.
    BroadcastSession(BroadcastSession),
    /// A method of an executor.
    Call(Call),
    /// Durable work.
    Job(Job),
    /// A call or job that has this frame's id is wanted no more.
    Cancel,
    /// A value into a tree.
    Set(Level, SetData),
    /// Changes of a tree.
    Patch(Patch),
    /// What stands in a tree?
    GetData(At),
    /// From now on tell me.
    Watch(At),
    /// No more.
    Unwatch(At),
    /// A topic.
    Subscribe(Subscribe),
    /// No more.
    Unsubscribe(Unsubscribe),
    /// Frames have arrived.
    Ack(Ack),
    /// Are you there?
    Ping,
}

/// A frame that cannot be understood.
#[derive(Debug)]
pub struct InvalidFrame {
    /// The frame's own id, if that much could be read.
    pub id: Option<FrameId>,
    /// What is wrong with it.
    pub error: CommandError,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    id: Option<FrameId>,
}

impl Hello {
    /// Reads a `hello`, whose `type` may be missing.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let envelope: Envelope<'_> = read(text.as_bytes()).map_err(malformed)?;
        shallow(text)?;
        match envelope.kind.as_deref() {
            None | Some("hello") => read(text.as_bytes()).map_err(malformed),
            Some(_) => Err(CommandError::new(ErrorCode::Malformed, "the first frame is hello")),
        }
    }
}

impl ClientFrame {
    /// Reads a frame after `hello`, with its id.
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
            return Err(CommandError::new(ErrorCode::Malformed, "a frame has a type"));
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
            "ack" => read(text).map(Self::Ack),
            "ping" => Ok(Self::Ping),
            "hello" => return Err(CommandError::new(ErrorCode::Malformed, "hello comes once")),
            _ => {
                return Err(CommandError::new(ErrorCode::Unsupported, "this server does not know this type"));
            }
        }
        .map_err(malformed)
    }

    /// Whether the server counts it as processed (`registered.received`): everything but `ack` and `ping`.
    pub const fn counted(&self) -> bool {
        !matches!(self, Self::Ack(_) | Self::Ping)
    }
}

/// Nothing that its readers could not parse is taken.
fn shallow(text: &str) -> Result<(), CommandError> {
    match is_too_deep(text.as_bytes()) {
        true => Err(CommandError::new(ErrorCode::Malformed, TOO_DEEP)),
        false => Ok(()),
    }
}

fn malformed(error: String) -> CommandError {
    CommandError::new(ErrorCode::Malformed, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn a_hello_may_be_an_empty_object_or_name_its_type() {
        assert!(Hello::parse("{}").is_ok());
        assert!(Hello::parse(r#"{"type":"hello"}"#).is_ok());
        assert!(Hello::parse(r#"{"type":"send"}"#).is_err());
        assert!(Hello::parse(r#"{"page_id":"short|p01"}"#).is_err());
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
