//! The messages between a supervisor and a child, and their frames.
//!
//! Owns: how they are written and parsed. Never: sockets, or what a message causes.

use std::borrow::Cow;

use bytes::Bytes;
use pagewire_cluster::wire::{HandlerError, MoveReason};
use pagewire_cluster::worker::ExecMode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::page_class::PageClass;
use crate::handlers::{HandlerOptions, ObjectRole, Serial};

/// Version of the wire that this release speaks.
pub(super) const PROTOCOL: u32 = 1;
/// Maximum size of the body of a frame, in bytes.
pub(super) const MAX_FRAME: usize = 1 << 20;
/// Size of the length before each body, in bytes.
const LENGTH: usize = 4;
/// The largest id that JSON programs of every language can represent.
const MAX_ID: u64 = (1 << 53) - 1;

/// Why a message of a child breaks the rules of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WireError(pub(super) String);

/// A message does not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameTooLarge;

/// A message to a child.
#[derive(Debug, Serialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub(super) enum SupervisorMessage<'a> {
    Welcome(&'a Welcome),
    Call(CallMessage<'a>),
    Job(JobMessage<'a>),
    Rpc(RpcMessage<'a>),
    Page(PageMessage<'a>),
    Cancel {
        id: u64,
        why: CancelReason,
    },
    Reply {
        id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a HandlerError>,
    },
    Ping,
    Drain {
        within_ms: u64,
    },
}

/// A child is accepted.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) protocol: u32,
    pub(super) worker: String,
    pub(super) pool: String,
    pub(super) lane: String,
    pub(super) release: String,
    pub(super) max_frame: usize,
    pub(super) heartbeat_ms: u64,
    pub(super) drain_ms: u64,
    pub(super) slots: u32,
}

/// For whom work runs.
#[derive(Debug, Default, Serialize)]
pub(super) struct CallerMembers<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) page: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct CallMessage<'a> {
    pub(super) id: u64,
    pub(super) method: &'a str,
    pub(super) params: &'a RawValue,
    pub(super) deadline_ms: u64,
    #[serde(flatten)]
    pub(super) caller: CallerMembers<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct JobMessage<'a> {
    pub(super) id: u64,
    pub(super) job: String,
    pub(super) method: &'a str,
    pub(super) params: &'a RawValue,
    pub(super) attempt: u32,
    pub(super) left: u32,
    pub(super) timeout_ms: u64,
    #[serde(flatten)]
    pub(super) caller: CallerMembers<'a>,
}

/// A method of the object of a resident page.
#[derive(Debug, Serialize)]
pub(super) struct RpcMessage<'a> {
    pub(super) id: u64,
    pub(super) class: &'a str,
    pub(super) method: &'a str,
    pub(super) params: &'a RawValue,
    pub(super) deadline_ms: u64,
    #[serde(flatten)]
    pub(super) caller: CallerMembers<'a>,
}

/// What happens to the object of a resident page.
#[derive(Debug, Serialize)]
pub(super) struct PageMessage<'a> {
    pub(super) id: u64,
    pub(super) event: &'static str,
    pub(super) class: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<MoveReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) saved: Option<&'a RawValue>,
    pub(super) deadline_ms: u64,
    #[serde(flatten)]
    pub(super) caller: CallerMembers<'a>,
}

/// Why work has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CancelReason {
    /// A person or a program has cancelled it, or its caller is gone.
    Cancelled,
    /// Its time is over.
    Deadline,
    /// The child has to end.
    Drain,
}

/// A message of a child.
#[derive(Debug)]
pub(super) enum ChildMessage {
    Ready(Ready),
    Result { id: u64, value: Box<RawValue> },
    Error { id: u64, failure: ReportedFailure },
    Stopped { id: u64 },
    Snooze { id: u64, after_ms: u64 },
    Progress { id: u64, progress: f64, message: Option<String> },
    Request(ChildRequest),
    Log(LogLine),
    Pong { lag_ms: u64 },
    Unknown { t: String, id: Option<u64> },
}

/// The first message of a child.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Ready {
    pub(super) protocol: Vec<u32>,
    pub(super) token: String,
    pub(super) pid: u32,
    #[serde(default)]
    pub(super) sdk: String,
    pub(super) methods: Vec<Method>,
    /// The classes of its resident pages.
    #[serde(default)]
    pub(super) pages: Vec<PageClass>,
    #[serde(default)]
    pub(super) slots: Option<u32>,
    /// What it does beside running handlers; names that are not known are ignored.
    #[serde(default)]
    pub(super) features: Vec<String>,
}

/// A handler of a child.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Method {
    pub(super) name: String,
    #[serde(default)]
    pub(super) mode: Option<String>,
    #[serde(default)]
    pub(super) serial: Option<String>,
    #[serde(default)]
    pub(super) timeout_ms: Option<u64>,
    #[serde(default)]
    pub(super) retries: Option<u32>,
    /// Whether it belongs to a class of resident pages.
    #[serde(skip)]
    pub(super) object: ObjectRole,
}

impl Method {
    /// Returns how the handler is run.
    pub(super) fn options(&self) -> HandlerOptions {
        let serial = match self.serial.as_deref() {
            Some("user") => Serial::User,
            Some("page") => Serial::Page,
            _ => Serial::None,
        };
        // a mode of a newer release is none; `inline` is none either, because a child does not run in the node
        let mode = self.mode.as_deref().and_then(|mode| ExecMode::parse(mode).ok());
        let affinity = mode.and_then(ExecMode::affinity);
        HandlerOptions { serial, stops: true, affinity, retries: self.retries, object: self.object }
    }
}

impl Ready {
    /// Returns all handlers, those of classes of resident pages included.
    ///
    /// # Errors
    ///
    /// [`WireError`] for a class with a `.` in its name.
    pub(super) fn handlers(&self) -> Result<Vec<Method>, WireError> {
        if let Some(class) = self.pages.iter().find(|class| class.name.contains('.')) {
            return Err(WireError(format!("the name of a class of pages has no dot: {:?}", class.name)));
        }
        let of_classes = self.pages.iter().flat_map(PageClass::handlers);
        Ok(self.methods.iter().cloned().chain(of_classes).collect())
    }
}

/// An error that a handler has returned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ReportedFailure {
    #[serde(flatten)]
    pub(super) error: HandlerError,
    #[serde(default)]
    pub(super) after_ms: Option<u64>,
    #[serde(default)]
    pub(super) trace: Option<String>,
}

/// A request of a handler, or of an application.
#[derive(Debug, Deserialize)]
pub(super) struct ChildRequest {
    pub(super) id: u64,
    /// `None` for one in the name of the application that the child serves.
    #[serde(default)]
    pub(super) work: Option<u64>,
    pub(super) method: String,
    #[serde(default = "no_params")]
    pub(super) params: Box<RawValue>,
}

/// A line for the log.
#[derive(Debug, Deserialize)]
pub(super) struct LogLine {
    pub(super) level: String,
    pub(super) message: String,
    /// As the child wrote them: they are only shown.
    #[serde(default)]
    pub(super) fields: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) work: Option<u64>,
}

fn no_params() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// Writes a message as a frame.
pub(super) fn encode(message: &SupervisorMessage<'_>) -> Result<Bytes, FrameTooLarge> {
    let mut frame = vec![0; LENGTH];
    // never an error: the messages are maps with text keys, and a vector takes everything
    serde_json::to_writer(&mut frame, message).map_err(|_| FrameTooLarge)?;
    let length = frame.len() - LENGTH;
    if length > MAX_FRAME {
        return Err(FrameTooLarge);
    }
    frame[..LENGTH].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame.into())
}

/// Returns the length of the body after these bytes.
///
/// # Errors
///
/// [`WireError`] for a length that no frame has; the reserved bit makes it too large.
pub(super) fn body_length(prefix: [u8; LENGTH]) -> Result<usize, WireError> {
    match u32::from_be_bytes(prefix) as usize {
        length if length > MAX_FRAME => {
            Err(WireError(format!("a frame of {length} bytes; a frame has at most {MAX_FRAME}")))
        }
        length => Ok(length),
    }
}

impl ChildMessage {
    /// Parses the body of a frame.
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow)]
            t: Cow<'a, str>,
            #[serde(default)]
            id: Option<u64>,
            /// Read here, because most messages are results.
            #[serde(borrow, default, deserialize_with = "present")]
            value: Option<&'a RawValue>,
        }
        let Kind { t, id, value } = read(body, "a message")?;
        if id.is_some_and(|id| id > MAX_ID) {
            return Err(WireError(format!("{t}: an id is at most {MAX_ID}")));
        }
        match (&*t, id, value) {
            ("result", Some(id), Some(value)) => Ok(Self::Result { id, value: value.to_owned() }),
            _ => Self::parse_type(&t, id, body),
        }
    }

    fn parse_type(t: &str, id: Option<u64>, body: &[u8]) -> Result<Self, WireError> {
        #[derive(Deserialize)]
        struct ResultMembers {
            value: Box<RawValue>,
        }
        #[derive(Deserialize)]
        struct SnoozeMembers {
            after_ms: u64,
        }
        #[derive(Deserialize)]
        struct ProgressMembers {
            progress: f64,
            #[serde(default)]
            message: Option<String>,
        }
        #[derive(Deserialize)]
        struct PongMembers {
            #[serde(default)]
            lag_ms: u64,
        }
        let id_of = || id.ok_or_else(|| WireError(format!("{t} without an id")));
        Ok(match t {
            "ready" => Self::Ready(read(body, t)?),
            "result" => Self::Result { id: id_of()?, value: read::<ResultMembers>(body, t)?.value },
            "error" => {
                let failure: ReportedFailure = read(body, t)?;
                let failure = ReportedFailure { error: failure.error.cut(), ..failure };
                Self::Error { id: id_of()?, failure }
            }
            "stopped" => Self::Stopped { id: id_of()? },
            "snooze" => Self::Snooze { id: id_of()?, after_ms: read::<SnoozeMembers>(body, t)?.after_ms },
            "progress" => {
                let ProgressMembers { progress, message } = read(body, t)?;
                Self::Progress { id: id_of()?, progress, message }
            }
            "request" => Self::Request(read(body, t)?),
            "log" => Self::Log(read(body, t)?),
            "pong" => Self::Pong { lag_ms: read::<PongMembers>(body, t)?.lag_ms },
            _ => Self::Unknown { t: t.to_owned(), id },
        })
    }
}

/// Reads a member that is there, also if it is null.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(member: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(member).map(Some)
}

fn read<'de, T: Deserialize<'de>>(body: &'de [u8], what: &str) -> Result<T, WireError> {
    serde_json::from_slice(body).map_err(|error| WireError(format!("{what}: {error}")))
}
