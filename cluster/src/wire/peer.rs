//! The requests from one node to another.
//!
//! Owns: one shape per request, and the type of its response ([`PeerCall`]). Never: how a request is sent or handled.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::kind;
use super::peer_response::{
    ClosedPages, ExecutorPush, HandoverReply, PageStatus, PeerResponse, PushCounts, RolloutState,
    WaitingJobsList,
};
use super::work::JobNotification;
use crate::id::{Address, Key, NodeNumber, Scope};

/// A request from one node to another. Its JSON contains its `type`.
pub trait PeerCall: Serialize {
    /// The response.
    type Response: PeerResponse;
}

/// A request as a node receives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PeerRequest {
    /// A message for pages.
    Deliver(PageMessage),
    /// The handover of a page.
    Handover(HandoverRequest),
    /// Frames that arrived at the old holder of a page.
    Forward(ForwardedFrames),
    /// The status of a page.
    #[serde(rename = "ask")]
    PageStatus(PageStatusQuery),
    /// A login.
    Identify(IdentifyPages),
    /// The state of a rollout.
    Rollout(RolloutQuery),
    /// An update of a page's job.
    Job(Box<JobNotification>),
    /// A message of an executor for pages.
    #[serde(rename = "executor_push")]
    ExecutorPush(Box<ExecutorMessage>),
    /// The permanent end of pages.
    Unregister(ClosePages),
    /// The jobs that wait.
    WaitingJobs(WaitingJobsQuery),
    /// The end of the node, after its pages have moved.
    Drain(DrainNode),
    /// A sign of life.
    #[serde(rename = "alive")]
    Ping,
    /// A type of a newer release.
    #[serde(other)]
    Unknown,
}

/// Delivers a message to the pages of a scope on this node. The response is `None` for a page that is not here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "deliver")]
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
    /// Whether the payload is an [`ObjectNotice`](super::ObjectNotice). A node of an older release delivers it as a message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_notice: bool,
}

/// Delivers a message of an executor to the pages of a scope in the whole cluster. The node that receives it sends it on,
/// because a worker has no view of the pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "executor_push")]
pub struct ExecutorMessage {
    /// Pages that receive the message.
    pub to: Scope,
    /// Raw JSON, byte for byte as the handler returned it.
    pub payload: Box<RawValue>,
    /// Id of the worker.
    pub worker: Key,
    /// Epoch of its incarnation; the message of one that is dead is refused.
    pub epoch: u64,
    /// Whether the payload is an [`ObjectNotice`](super::ObjectNotice). A node of an older release delivers it as a message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_notice: bool,
}

/// Freezes a page and hands it over, because another node has won its row.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "handover")]
pub struct HandoverRequest {
    /// The page.
    pub page: Key,
    /// Its new holder; all frames that still arrive are forwarded there.
    pub to: NodeNumber,
    /// Generation of the page at the new holder.
    pub generation: u32,
    /// Revision of the page's row.
    #[serde(default)]
    pub rev: u64,
    /// Sequence number of the last frame that the client has received.
    pub seq: u64,
}

/// Takes frames that arrived at the old holder of a page. The response is `None` for a page that is not here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "forward")]
pub struct ForwardedFrames {
    /// The page.
    pub page: Key,
    /// Complete frames without a sequence number.
    pub frames: Vec<Box<RawValue>>,
}

/// Returns the status of a page; the response is `None` for a page that is not here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "ask")]
pub struct PageStatusQuery {
    /// The page.
    pub page: Key,
}

/// Sets the user of the pages of a connection, because the connection has logged in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "identify")]
pub struct IdentifyPages {
    /// The connection.
    pub connection: Key,
    /// The user.
    pub user: String,
}

/// Returns the applied state of the rollout of a pool. The reply may wait for the revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "rollout")]
pub struct RolloutQuery {
    /// The pool.
    pub pool: String,
    /// The revision to wait for; 0 for none.
    pub revision: u64,
}

/// Closes the pages of a scope permanently; the response is their number. An older release replies `unsupported` and
/// closes the pages when its watch shows that their session is ending, if it supports that.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "unregister")]
pub struct ClosePages {
    /// Pages to close.
    pub scope: Scope,
}

/// Returns the jobs that wait, as the reconciler of the node sees them; none unless the node leads. An older release
/// replies `unsupported`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "waiting_jobs")]
pub struct WaitingJobsQuery {}

/// Orders the node to drain and stop, as a signal does. The response comes when it has begun. An older node replies
/// `unsupported`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "drain")]
pub struct DrainNode {}

/// Confirms that the node is alive in this epoch.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename = "alive")]
pub struct Alive {}

macro_rules! peer_calls {
    ($($request:ty => $response:ty),+ $(,)?) => {$(
        impl PeerCall for $request {
            type Response = $response;
        }
    )+};
}
peer_calls! {
    PageMessage => Option<PushCounts>,
    HandoverRequest => HandoverReply,
    ForwardedFrames => Option<PushCounts>,
    PageStatusQuery => Option<PageStatus>,
    IdentifyPages => (),
    RolloutQuery => RolloutState,
    JobNotification => Option<PushCounts>,
    ClosePages => ClosedPages,
    WaitingJobsQuery => WaitingJobsList,
    ExecutorMessage => ExecutorPush,
    DrainNode => (),
    Alive => (),
}

/// Parses a request. A known type with invalid members is `None`, because its sender is broken and not newer.
pub fn decode_request(bytes: &[u8]) -> Option<PeerRequest> {
    let (kind, text) = kind(bytes)?;
    // not through the tagged enum: its search for the tag would parse the raw payload
    match kind.as_ref() {
        "deliver" => serde_json::from_str(text).map(PeerRequest::Deliver).ok(),
        "executor_push" => serde_json::from_str(text).map(PeerRequest::ExecutorPush).ok(),
        "job" => serde_json::from_str(text).map(PeerRequest::Job).ok(),
        "forward" => serde_json::from_str(text).map(PeerRequest::Forward).ok(),
        _ => serde_json::from_str(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ending, HandlerError, JobUpdate, encode};
    use super::*;

    fn read_back(request: &impl Serialize) -> String {
        format!("{:?}", decode_request(&encode(request)).unwrap())
    }

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_request_reads_back_as_written() {
        let page = Key::from_bits(7);
        let payload = raw(r#"{"z":1,  "a":2}"#);
        let frames = ForwardedFrames { page, frames: vec![payload.clone()] };
        assert_eq!(read_back(&frames), format!("Forward({frames:?})"));
        let message = PageMessage {
            to: Scope::User("a.b".into()),
            seen: Some(9),
            payload,
            from: None,
            is_notice: false,
        };
        assert_eq!(read_back(&message), format!("Deliver({message:?})"));
        let sent =
            ExecutorMessage { to: Scope::All, payload: raw("1e2"), worker: page, epoch: 3, is_notice: false };
        assert_eq!(read_back(&sent), format!("ExecutorPush({sent:?})"));
        let to = NodeNumber::new(2).unwrap();
        let handover = HandoverRequest { page, to, generation: 3, rev: 9, seq: 17 };
        assert_eq!(read_back(&handover), format!("Handover({handover:?})"));
        let status = PageStatusQuery { page };
        assert_eq!(read_back(&status), format!("PageStatus({status:?})"));
        let login = IdentifyPages { connection: page, user: "*".into() };
        assert_eq!(read_back(&login), format!("Identify({login:?})"));
        let rollout = RolloutQuery { pool: "default".into(), revision: 7 };
        assert_eq!(read_back(&rollout), format!("Rollout({rollout:?})"));
        let closing = ClosePages { scope: Scope::User("*".into()) };
        assert_eq!(read_back(&closing), format!("Unregister({closing:?})"));
        assert_eq!(read_back(&WaitingJobsQuery {}), "WaitingJobs(WaitingJobsQuery)");
        assert_eq!(read_back(&DrainNode {}), "Drain(DrainNode)");
        assert_eq!(read_back(&Alive {}), "Ping");
        let error = HandlerError { code: "failed".into(), message: "no".into(), retryable: false };
        let value = Some(raw(r#"{"z":1,  "a":2}"#));
        let news = JobUpdate::Ended(Box::new(Ending { state: "failed".into(), value, error: Some(error) }));
        let job = JobNotification { page, frame: raw("1e2"), job: page, news };
        assert_eq!(read_back(&job), format!("Job({job:?})"));
    }

    #[test]
    fn the_shapes_of_requests_are_those_of_earlier_releases() {
        let page = Key::from_bits(7);
        assert_eq!(encode(&Alive {}), r#"{"type":"alive"}"#);
        assert_eq!(encode(&PageStatusQuery { page }), r#"{"type":"ask","page":"0000000000000000000007"}"#);
        let message =
            PageMessage { to: Scope::All, seen: Some(9), payload: raw("1e2"), from: None, is_notice: false };
        assert_eq!(encode(&message), r#"{"type":"deliver","to":"all","seen":9,"payload":1e2}"#);
    }

    #[test]
    fn a_request_of_a_newer_release_is_recognised_as_such() {
        assert!(matches!(decode_request(br#"{"type":"juggle","balls":3}"#), Some(PeerRequest::Unknown)));
        assert!(decode_request(br#"{"type":"handover"}"#).is_none());
    }
}
