//! Every message between processes, each next to its reply.
//!
//! Owns: the JSON shapes of the messages. Each change must consider three cases: an old reader with new data, a new
//! reader with old data, and both during a rollout. Unknown members are ignored; the reply to an unknown type is
//! `unsupported`.

mod latch;
mod peer;
mod peer_response;
mod resident;
mod work;

use bytes::Bytes;
use serde::Serialize;

pub use latch::{AbortLatch, LatchMessage, LatchReply, SignedLatch};
pub use peer::{
    Alive, ClosePages, DrainNode, ExecutorMessage, ForwardedFrames, HandoverRequest, IdentifyPages,
    PageMessage, PageStatusQuery, PeerCall, PeerRequest, RolloutQuery, WaitingJobsQuery, decode_request,
};
pub(crate) use peer_response::decode_response;
pub use peer_response::encode_response;
pub use peer_response::{
    ClosedPages, ExecutorPush, HandedOver, HandoverReply, LaneCount, PageJob, PageStatus, PeerResponse,
    PinnedLanes, PushCounts, RolloutState, UnfinishedJobs, WaitingJobs, WaitingJobsList, WatchedPath,
};
pub use resident::{
    MoveReason, ObjectGiven, ObjectNotice, ObjectRequest, ObjectState, PageEvent, ResidentClass, split_method,
};
pub(crate) use work::present;
pub use work::{
    CallAnswer, Cancel, ClaimsQuery, Ending, HandlerError, JobEvent, JobNotification, JobOffer, JobUpdate,
    NewJobAnswer, Progress, Wake, WorkerCall,
};

/// Encodes a message as JSON. Serialising these shapes cannot fail: string keys, no foreign `Serialize`.
pub fn encode(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).map(Bytes::from).unwrap_or_default()
}

/// Encodes a message like [`encode`], with a buffer for about `bytes` bytes.
pub fn encode_long(message: &impl Serialize, bytes: usize) -> Bytes {
    let mut json = Vec::with_capacity(bytes);
    match serde_json::to_writer(&mut json, message) {
        Ok(()) => json.into(),
        Err(_) => Bytes::new(),
    }
}

/// Returns the value of `type` and the text of a message.
fn kind(bytes: &[u8]) -> Option<(std::borrow::Cow<'_, str>, &str)> {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let Envelope { kind } = serde_json::from_str(text).ok()?;
    Some((kind, text))
}
