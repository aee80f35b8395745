//! Every message between processes, each next to its reply.
//!
//! Owns: the JSON shapes of the messages. Each change must consider three cases: an old reader with new data, a new
//! reader with old data, and both during a rollout. Unknown members are ignored; the reply to an unknown type is
//! [`PeerResponse::Unsupported`].

mod work;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{Address, Key, NodeNumber, Scope};

pub(crate) use work::present;
pub use work::{
    CallAnswer, Cancel, ClaimsQuery, Ending, HandlerError, JobEvent, JobNotification, JobUpdate, Progress,
    Wake, WorkerCall,
};

/// A request from one node to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PeerRequest {
    /// Deliver a message to the pages of a scope on this node. Reply: [`PeerResponse::Delivered`], for a page also
    /// [`PeerResponse::Unknown`].
    Deliver(PageMessage),
    /// Freeze a page and hand it over, because another node has won its row. Reply: [`PeerResponse::HandedOver`],
    /// [`PeerResponse::Incomplete`] when the client would miss frames, or [`PeerResponse::Unknown`].
    Handover {
        /// The page.
        page: Key,
        /// Its new holder; all frames that still arrive are forwarded there.
        to: NodeNumber,
        /// Generation of the page at the new holder.
        generation: u32,
        /// Revision of the page's row.
        #[serde(default)]
        rev: u64,
        /// Sequence number of the last frame that the client has received.
        seq: u64,
    },
    /// Take frames that arrived at the old holder of a page. Reply: [`PeerResponse::Delivered`] or
    /// [`PeerResponse::Unknown`].
    Forward {
        /// The page.
        page: Key,
        /// Complete frames without a sequence number.
        frames: Vec<Box<RawValue>>,
    },
    /// Return the status of a page. Reply: [`PeerResponse::Standing`] or [`PeerResponse::Unknown`].
    Ask {
        /// The page.
        page: Key,
    },
    /// Set the user of the pages of a connection, because the connection has logged in. Reply: [`PeerResponse::Done`].
    Identify {
        /// The connection.
        connection: Key,
        /// The user.
        user: String,
    },
    /// Return the applied state of the rollout of a pool. The reply may wait for the revision. Reply:
    /// [`PeerResponse::Rollout`].
    Rollout {
        /// The pool.
        pool: String,
        /// The revision to wait for; 0 for none.
        revision: u64,
    },
    /// Notify a page of an update of its job. Reply: [`PeerResponse::Delivered`] or [`PeerResponse::Unknown`].
    Job(Box<JobNotification>),
    /// Close the pages of a scope permanently. Reply: [`PeerResponse::Closed`]. An older release replies
    /// [`PeerResponse::Unsupported`] and closes the pages when its watch shows that their session is ending, if it
    /// supports that.
    Unregister {
        /// Pages to close.
        scope: Scope,
    },
    /// Confirm that the node is alive in this epoch. Reply: [`PeerResponse::Done`].
    Alive,
    /// A type of a newer release.
    #[serde(other)]
    Unknown,
}

/// A message for pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PageMessage {
    /// Pages that receive the message.
    pub to: Scope,
    /// Revision of the last page row that the sender has seen. While a page moves, it decides which of the two nodes
    /// takes the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Raw JSON, byte for byte as the sender wrote it.
    pub payload: Box<RawValue>,
    /// Page that sent the message; `None` if the sender is not a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Address>,
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
}

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

/// The state of a rollout that a node has applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutState {
    /// The applied revision; 0 for none.
    pub revision: u64,
    /// Work that the node has assigned with that revision.
    pub observed: Vec<LaneCount>,
    /// How long it took until all nodes had applied the revision, in microseconds, measured by the node that published
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

/// Amount of work that was assigned to a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCount {
    /// The lane.
    pub lane: String,
    /// Number of calls and jobs.
    pub count: u64,
}

/// The reply of a node to a [`PeerRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PeerResponse {
    /// The message was delivered to this many pages.
    Delivered(PushCounts),
    /// This node does not hold the page.
    Unknown,
    /// The state of the page with all frames that the client has missed.
    HandedOver(HandedOver),
    /// The client has missed frames that no node has any more.
    Incomplete,
    /// The status of a page.
    Standing {
        /// Generation of the page.
        generation: u32,
        /// Whether the client is known to have the newest token.
        confirmed: bool,
    },
    /// The applied state of the rollout.
    Rollout(RolloutState),
    /// The pages were closed permanently.
    Closed {
        /// Number of closed pages.
        pages: u64,
    },
    /// The request was processed.
    Done,
    /// This release does not support the request.
    #[serde(other)]
    Unsupported,
}

/// Encodes a message as JSON. Serialising these shapes cannot fail: string keys, no foreign `Serialize`.
pub fn encode(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).map(Bytes::from).unwrap_or_default()
}

/// Encodes a message like [`encode`], with a buffer for about `bytes` bytes.
pub(crate) fn encode_long(message: &impl Serialize, bytes: usize) -> Bytes {
    let mut json = Vec::with_capacity(bytes);
    match serde_json::to_writer(&mut json, message) {
        Ok(()) => json.into(),
        Err(_) => Bytes::new(),
    }
}

/// Parses a request. A known type with invalid members is `None`, because its sender is broken and not newer.
pub fn decode_question(bytes: &[u8]) -> Option<PeerRequest> {
    let (kind, text) = kind(bytes)?;
    // not through the tagged enum: its search for the tag would parse the raw payload
    match kind.as_ref() {
        "deliver" => serde_json::from_str(text).map(PeerRequest::Deliver).ok(),
        "job" => serde_json::from_str(text).map(PeerRequest::Job).ok(),
        "forward" => {
            #[derive(Deserialize)]
            struct Members {
                page: Key,
                frames: Vec<Box<RawValue>>,
            }
            let Members { page, frames } = serde_json::from_str(text).ok()?;
            Some(PeerRequest::Forward { page, frames })
        }
        _ => serde_json::from_str(text).ok(),
    }
}

/// Parses a reply.
pub fn decode_answer(bytes: &[u8]) -> Option<PeerResponse> {
    let (kind, text) = kind(bytes)?;
    match kind.as_ref() {
        "handed_over" => serde_json::from_str(text).map(PeerResponse::HandedOver).ok(),
        _ => serde_json::from_str(text).ok(),
    }
}

fn kind(bytes: &[u8]) -> Option<(std::borrow::Cow<'_, str>, &str)> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let Envelope { kind } = serde_json::from_str(text).ok()?;
    Some((kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(question: &PeerRequest) -> String {
        format!("{:?}", decode_question(&encode(question)).unwrap())
    }

    #[test]
    fn every_question_reads_back_as_written() {
        let page = Key::from_bits(7);
        let payload: Box<RawValue> = serde_json::from_str(r#"{"z":1,  "a":2}"#).unwrap();
        for question in [
            PeerRequest::Forward { page, frames: vec![payload.clone()] },
            PeerRequest::Deliver(PageMessage {
                to: Scope::User("a.b".into()),
                seen: Some(9),
                payload,
                from: None,
            }),
            PeerRequest::Handover { page, to: NodeNumber::new(2).unwrap(), generation: 3, rev: 9, seq: 17 },
            PeerRequest::Ask { page },
            PeerRequest::Identify { connection: page, user: "*".into() },
            PeerRequest::Rollout { pool: "default".into(), revision: 7 },
            PeerRequest::Job(Box::new(JobNotification {
                page,
                frame: serde_json::from_str("1e2").unwrap(),
                job: page,
                news: JobUpdate::Ended(Box::new(Ending {
                    state: "failed".into(),
                    value: Some(serde_json::from_str(r#"{"z":1,  "a":2}"#).unwrap()),
                    error: Some(HandlerError {
                        code: "failed".into(),
                        message: "no".into(),
                        retryable: false,
                    }),
                })),
            })),
            PeerRequest::Unregister { scope: Scope::User("*".into()) },
            PeerRequest::Alive,
        ] {
            assert_eq!(read_back(&question), format!("{question:?}"));
        }
    }

    #[test]
    fn a_question_of_a_newer_release_is_recognised_as_such() {
        assert!(matches!(decode_question(br#"{"type":"juggle","balls":3}"#), Some(PeerRequest::Unknown)));
        assert!(decode_question(br#"{"type":"handover"}"#).is_none());
        assert!(matches!(decode_answer(br#"{"type":"juggled"}"#), Some(PeerResponse::Unsupported)));
    }

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
        };
        let Some(PeerResponse::HandedOver(read)) = decode_answer(&encode(&PeerResponse::HandedOver(handed)))
        else {
            panic!("a page")
        };
        assert_eq!((read.last, read.received, read.sent.len()), (7, 3, 1));
        assert_eq!(read.waiting[0].get(), r#"{"type":"message",  "payload":1e2}"#);
    }
}
