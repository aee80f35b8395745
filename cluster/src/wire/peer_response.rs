//! The responses of a node to requests of other nodes.
//!
//! Owns: one type per response ([`PeerResponse`]), and its form on the wire. Never: how a response is sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{HandlerError, encode, kind};
use crate::id::Key;

/// A response of a node.
pub trait PeerResponse: Sized + Send + 'static {
    /// Returns the form on the wire.
    fn into_reply(self) -> Reply;

    /// Returns the response in a reply; `None` for a reply to another request, or from a node that does not support
    /// this one.
    fn from_reply(reply: Reply) -> Option<Self>;
}

/// The form of every response on the wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The message was delivered to this many pages.
    Delivered(PushCounts),
    /// This node does not hold the page.
    Unknown,
    /// The state of the page with all frames that the client has missed.
    HandedOver(HandedOver),
    /// The client has missed frames that no node has any more.
    Incomplete,
    /// The status of a page.
    #[serde(rename = "standing")]
    PageStatus(PageStatus),
    /// The applied state of the rollout.
    Rollout(RolloutState),
    /// The pages were closed permanently.
    Closed(ClosedPages),
    /// The jobs that wait.
    WaitingJobs(WaitingJobsList),
    /// The request was refused; nothing was done.
    Refused(HandlerError),
    /// The request was processed.
    Done,
    /// This release does not support the request.
    #[serde(other)]
    Unsupported,
}

/// Number of pages that a delivery found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushCounts {
    /// Pages with an open socket.
    pub reached: u64,
    /// Pages in their resume window.
    pub held: u64,
}

impl std::ops::AddAssign for PushCounts {
    fn add_assign(&mut self, other: Self) {
        self.reached += other.reached;
        self.held += other.held;
    }
}

/// The state of a page that moves to another node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandedOver {
    /// Sequence number of the last frame that was sent to the client's old socket.
    pub last: u64,
    /// Complete frames that the client has not received, without their numbers; the last one has the number `last`.
    pub sent: Vec<Box<RawValue>>,
    /// Complete frames that have no number yet.
    pub waiting: Vec<Box<RawValue>>,
    /// Number of processed frames from the client.
    pub received: u64,
    /// Ends of jobs that the page has received or that are among its frames, so that each end is delivered once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<PageJob>,
    /// Jobs for which the page waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<PageJob>,
    /// Whether the page may wait for more jobs than these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Paths of state trees that the page watches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watches: Vec<WatchedPath>,
    /// The lanes that the calls of the page keep. An older release hands none over: then those in the row of the page stay.
    #[serde(default, skip_serializing_if = "PinnedLanes::is_empty")]
    pub pins: PinnedLanes,
}

/// The lane that the calls of a page keep in each pool.
pub type PinnedLanes = BTreeMap<String, String>;

/// A path of a state tree that a page watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedPath {
    /// `user`, `connection`, `session` or `page`.
    pub level: String,
    /// Path inside the tree.
    pub path: String,
    /// Revision that the page received last.
    pub revision: u64,
}

/// A job and the page's own request id for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PageJob {
    /// The job.
    pub job: Key,
    /// Request id, byte for byte as the page sent it.
    pub frame: String,
}

/// The state of a rollout that a node or worker has applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutState {
    /// The applied revision; 0 for none.
    pub revision: u64,
    /// Work that the process has assigned with that revision.
    pub observed: Vec<LaneCount>,
    /// How long it took until all nodes and workers had applied the revision, in microseconds, measured by the node that
    /// published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// The node or worker that reported it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest: Option<String>,
}

/// Amount of work that was assigned to a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCount {
    /// The lane.
    pub lane: String,
    /// Number of calls and jobs.
    pub count: u64,
}

/// The jobs that wait, as the leader sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingJobsList {
    /// One entry per worker group and mode with waiting jobs.
    #[serde(default)]
    pub groups: Vec<WaitingJobs>,
    /// One entry per worker group with jobs that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<UnfinishedJobs>,
}

/// The jobs of a worker group that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedJobs {
    /// Pool of the jobs.
    pub pool: String,
    /// Lane of the jobs; for an assigned job see [`WaitingJobs::lane`].
    pub lane: String,
    /// Those that wait for any worker of the lane, now or later.
    pub free: u64,
    /// Those that wait for the assigned workers of their users, whose lane is decided when they begin.
    pub assigned: u64,
    /// Those of the waiting ones that have been tried before.
    pub tried: u64,
    /// Those that run.
    pub running: u64,
}

/// The jobs of one worker group and mode that wait for a worker although their time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingJobs {
    /// Pool of the jobs.
    pub pool: String,
    /// Lane of the jobs. The lane of an assigned job is that of its last attempt, or the one that its user was in when
    /// the job was submitted.
    pub lane: String,
    /// Whether only the assigned workers of their users may run them.
    pub assigned: bool,
    /// Number of jobs.
    pub count: u64,
    /// When the oldest one could have begun, in milliseconds since the Unix epoch.
    pub oldest_due: u64,
}

/// The status of a page at its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageStatus {
    /// Generation of the page.
    pub generation: u32,
    /// Whether the client is known to have the newest token.
    pub confirmed: bool,
}

/// The number of pages that a node has closed permanently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPages {
    /// Number of closed pages.
    pub pages: u64,
}

/// The response to the message of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorPush {
    /// The message was delivered to this many pages.
    Delivered(PushCounts),
    /// The message was not delivered.
    Refused(HandlerError),
}

impl PeerResponse for ExecutorPush {
    fn into_reply(self) -> Reply {
        match self {
            Self::Delivered(counts) => Reply::Delivered(counts),
            Self::Refused(error) => Reply::Refused(error),
        }
    }

    fn from_reply(reply: Reply) -> Option<Self> {
        match reply {
            Reply::Delivered(counts) => Some(Self::Delivered(counts)),
            Reply::Refused(error) => Some(Self::Refused(error)),
            _ => None,
        }
    }
}

/// The response of the old holder of a page.
#[derive(Debug, Clone)]
pub enum HandoverReply {
    /// The state of the page with all frames that the client has missed.
    Complete(HandedOver),
    /// The client has missed frames that no node has any more.
    Incomplete,
    /// The page is not here.
    Unknown,
}

impl PeerResponse for HandoverReply {
    fn into_reply(self) -> Reply {
        match self {
            Self::Complete(page) => Reply::HandedOver(page),
            Self::Incomplete => Reply::Incomplete,
            Self::Unknown => Reply::Unknown,
        }
    }

    fn from_reply(reply: Reply) -> Option<Self> {
        match reply {
            Reply::HandedOver(page) => Some(Self::Complete(page)),
            Reply::Incomplete => Some(Self::Incomplete),
            Reply::Unknown => Some(Self::Unknown),
            _ => None,
        }
    }
}

impl PeerResponse for () {
    fn into_reply(self) -> Reply {
        Reply::Done
    }

    fn from_reply(reply: Reply) -> Option<Self> {
        matches!(reply, Reply::Done).then_some(())
    }
}

/// Implements [`PeerResponse`] for the content of one variant of [`Reply`].
macro_rules! content {
    ($($variant:ident($content:ty)),+) => {$(
        impl PeerResponse for $content {
            fn into_reply(self) -> Reply {
                Reply::$variant(self)
            }

            fn from_reply(reply: Reply) -> Option<Self> {
                match reply {
                    Reply::$variant(content) => Some(content),
                    _ => None,
                }
            }
        }
    )+};
}
content!(
    Delivered(PushCounts),
    PageStatus(PageStatus),
    Rollout(RolloutState),
    Closed(ClosedPages),
    WaitingJobs(WaitingJobsList)
);

/// `None`: the page is not here.
impl<T: PeerResponse> PeerResponse for Option<T> {
    fn into_reply(self) -> Reply {
        self.map_or(Reply::Unknown, T::into_reply)
    }

    fn from_reply(reply: Reply) -> Option<Self> {
        match reply {
            Reply::Unknown => Some(None),
            reply => T::from_reply(reply).map(Some),
        }
    }
}

/// Encodes a response; `None` is the reply to a request that this release does not support.
pub fn encode_response<R: PeerResponse>(response: Option<R>) -> Bytes {
    encode(&response.map_or(Reply::Unsupported, R::into_reply))
}

/// Parses a reply: `None` when it is broken, `Some(None)` when it is no response to this request.
pub(crate) fn decode_response<R: PeerResponse>(bytes: &[u8]) -> Option<Option<R>> {
    let (kind, text) = kind(bytes)?;
    let reply = match kind.as_ref() {
        // not through the tagged enum: its search for the tag would parse the raw frames
        "handed_over" => serde_json::from_str(text).map(Reply::HandedOver).ok()?,
        _ => serde_json::from_str(text).ok()?,
    };
    Some(R::from_reply(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_handed_over_keeps_its_frames_as_they_were_written() {
        let frame: Box<RawValue> = serde_json::from_str(r#"{"type":"message",  "payload":1e2}"#).unwrap();
        let handed = HandedOver {
            last: 7,
            sent: vec![frame.clone()],
            waiting: vec![frame],
            received: 3,
            ends: Vec::new(),
            waits: Vec::new(),
            partial: false,
            watches: Vec::new(),
            pins: [("default".to_owned(), "canary".to_owned())].into(),
        };
        let bytes = encode_response(Some(HandoverReply::Complete(handed)));
        let Some(Some(HandoverReply::Complete(read))) = decode_response(&bytes) else { panic!("a page") };
        assert_eq!((read.last, read.received, read.sent.len()), (7, 3, 1));
        assert_eq!(read.pins["default"], "canary");
        assert_eq!(read.waiting[0].get(), r#"{"type":"message",  "payload":1e2}"#);
    }

    #[test]
    fn replies_have_the_shapes_of_earlier_releases_and_foreign_ones_are_no_response() {
        let counts = PushCounts { reached: 1, held: 2 };
        let bytes = encode_response(Some(Some(counts)));
        assert_eq!(bytes, r#"{"type":"delivered","reached":1,"held":2}"#);
        assert_eq!(decode_response(&bytes), Some(Some(Some(counts))));
        assert_eq!(decode_response::<Option<PushCounts>>(br#"{"type":"unknown"}"#), Some(Some(None)));
        let group =
            WaitingJobs { pool: "p".into(), lane: "l".into(), assigned: true, count: 2, oldest_due: 7 };
        let bytes = encode_response(Some(WaitingJobsList { groups: vec![group.clone()], lanes: vec![] }));
        let shape = concat!(
            r#"{"type":"waiting_jobs","groups":[{"pool":"p","lane":"l","assigned":true,"#,
            r#""count":2,"oldest_due":7}]}"#
        );
        assert_eq!(bytes, shape);
        assert_eq!(
            decode_response(&bytes),
            Some(Some(WaitingJobsList { groups: vec![group], lanes: vec![] }))
        );
        assert_eq!(decode_response::<ClosedPages>(br#"{"type":"unsupported"}"#), Some(None));
        assert_eq!(decode_response::<()>(br#"{"type":"juggled"}"#), Some(None));
        assert_eq!(decode_response::<()>(b"no JSON"), None);
        let status = PageStatus { generation: 3, confirmed: true };
        assert_eq!(encode_response(Some(status)), r#"{"type":"standing","generation":3,"confirmed":true}"#);
        assert_eq!(encode_response(Some(())), r#"{"type":"done"}"#);
        assert_eq!(encode_response::<()>(None), r#"{"type":"unsupported"}"#);
    }
}
