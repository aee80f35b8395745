//! Every message between processes, each beside its answer.
//!
//! Owns: their JSON shapes. A change here answers three questions: old reader and new data, new reader and old
//! data, mid-rollout. Unknown members are ignored, unknown types answered [`PeerResponse::Unsupported`].

mod work;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{Address, Key, NodeNumber};

pub(crate) use work::present;
pub use work::{
    CallAnswer, Cancel, ClaimsQuery, Ending, HandlerError, JobEvent, JobNotification, JobUpdate, Progress,
    Wake, WorkerCall,
};

/// Whose pages a delivery is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One page, wherever its address says.
    Page(Address),
    /// All pages of a session.
    Session(Key),
    /// All pages of a connection.
    Connection(Key),
    /// All pages of a user.
    User(String),
    /// All pages that have subscribed to it.
    Topic(String),
    /// All pages.
    All,
}

/// What one node asks another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PeerRequest {
    /// Deliver a message to your pages of a scope. Answer: [`PeerResponse::Delivered`], for a page also
    /// [`PeerResponse::Unknown`].
    Deliver(PageMessage),
    /// Another node has won the row of your page: freeze it and hand it over. Answer: [`PeerResponse::HandedOver`],
    /// [`PeerResponse::Incomplete`] when the client would miss frames, [`PeerResponse::Unknown`].
    Handover {
        /// The page.
        page: Key,
        /// Its new holder, to whom everything that still arrives is forwarded.
        to: NodeNumber,
        /// The generation of the new holder.
        generation: u32,
        /// The revision of its row.
        #[serde(default)]
        rev: u64,
        /// The last number that the client has seen.
        seq: u64,
    },
    /// Frames that arrived at the old holder of your page. Answer: [`PeerResponse::Delivered`] or [`PeerResponse::Unknown`].
    Forward {
        /// The page.
        page: Key,
        /// Whole frames without a number.
        frames: Vec<Box<RawValue>>,
    },
    /// How does this page of yours stand? Answer: [`PeerResponse::Standing`] or [`PeerResponse::Unknown`].
    Ask {
        /// The page.
        page: Key,
    },
    /// The connection belongs to this user now: re-label its pages. Answer: [`PeerResponse::Done`].
    Identify {
        /// The connection.
        connection: Key,
        /// The user.
        user: String,
    },
    /// What have you applied of the rollout of a pool? The answer may wait for the revision.
    /// Answer: [`PeerResponse::Rollout`].
    Rollout {
        /// The pool.
        pool: String,
        /// The revision to wait for; 0 for none.
        revision: u64,
    },
    /// Tell a page what became of its job. Answer: [`PeerResponse::Delivered`] or [`PeerResponse::Unknown`].
    Job(Box<JobNotification>),
    /// Close your pages of a scope for good. Answer: [`PeerResponse::Closed`]. An older release answers
    /// [`PeerResponse::Unsupported`] and closes them when it hears that their session is ending, if it knows that.
    Unregister {
        /// Whose pages.
        scope: Scope,
    },
    /// Are you alive in this epoch? Answer: [`PeerResponse::Done`].
    Alive,
    /// A type of a newer release.
    #[serde(other)]
    Unknown,
}

/// A message for pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PageMessage {
    /// Whose pages.
    pub to: Scope,
    /// The last page row that the sender has seen: while a page moves, that decides which of its nodes takes this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Raw JSON, as the sender wrote it.
    pub payload: Box<RawValue>,
    /// The page that sent it, if a page did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Address>,
}

/// How many pages a delivery met.
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

/// A page on its way to another node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandedOver {
    /// The number of the last frame that left for the client's old socket.
    pub last: u64,
    /// Whole frames that the client has not seen, without their numbers; the last one is numbered `last`.
    pub sent: Vec<Box<RawValue>>,
    /// Whole frames that have no number yet.
    pub waiting: Vec<Box<RawValue>>,
    /// How many of the client's frames were processed.
    pub received: u64,
    /// The ends of jobs that the page has been told, or that are among its frames: it is told each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<PageJob>,
    /// The jobs that it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<PageJob>,
    /// It may wait for more jobs than these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// What it watches of state trees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watches: Vec<WatchedPath>,
}

/// A path of a state tree that a page watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedPath {
    /// `user`, `connection`, `session` or `page`.
    pub level: String,
    /// Where.
    pub path: String,
    /// The revision that the page was told last.
    pub revision: u64,
}

/// A job and the page's own id of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PageJob {
    /// The job.
    pub job: Key,
    /// As the page wrote it.
    pub frame: String,
}

/// What a node has applied of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutState {
    /// The revision; 0 for none.
    pub revision: u64,
    /// What it has assigned by that revision.
    pub observed: Vec<LaneCount>,
    /// How long the revision took to be applied everywhere, in microseconds, from the node that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

/// How much work went to a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCount {
    /// The lane.
    pub lane: String,
    /// Calls and jobs.
    pub count: u64,
}

/// What the other node answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PeerResponse {
    /// Handed to this many pages.
    Delivered(PushCounts),
    /// This node does not hold that page.
    Unknown,
    /// Everything that the client has missed.
    HandedOver(HandedOver),
    /// The client has missed frames that nobody has any more.
    Incomplete,
    /// How a page stands.
    Standing {
        /// Its generation.
        generation: u32,
        /// Its client is known to have the newest token.
        confirmed: bool,
    },
    /// What it has applied.
    Rollout(RolloutState),
    /// Pages that are closed for good.
    Closed {
        /// How many.
        pages: u64,
    },
    /// Done.
    Done,
    /// This release does not know the question.
    #[serde(other)]
    Unsupported,
}

/// The bytes of a message. Serialising these shapes cannot fail: string keys, no foreign `Serialize`.
pub fn encode(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).map(Bytes::from).unwrap_or_default()
}

/// The same for a message of about that many bytes.
pub(crate) fn encode_long(message: &impl Serialize, bytes: usize) -> Bytes {
    let mut json = Vec::with_capacity(bytes);
    match serde_json::to_writer(&mut json, message) {
        Ok(()) => json.into(),
        Err(_) => Bytes::new(),
    }
}

/// Reads a question. A known type with wrong members is `None`: its sender is broken, not newer.
pub fn decode_question(bytes: &[u8]) -> Option<PeerRequest> {
    let (kind, text) = kind(bytes)?;
    // not through the tagged enum: looking for the tag would parse the raw payload
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

/// Reads an answer.
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
