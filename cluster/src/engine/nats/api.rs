//! The wire format of JetStream: requests in JSON, and the content of acknowledgements.
//!
//! Owns: the shape of the API and the meaning of its error codes. Never: retries, or the meaning of a write.
//!
//! Avoids: async-nats recognises only 10071 as a refused expectation of a publish. 10164, another write to the key
//! in flight, becomes `Other`, so that a caller cannot tell a retry from a failure.

use std::ops::ControlFlow;
use std::time::Duration;

use async_nats::{HeaderMap, Message as Raw, Subject};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::{NatsConnection, RequestFailure};
use crate::engine::WriteError;

/// The stream does not exist.
pub(super) const STREAM_NOT_FOUND: u32 = 10059;
/// The stream exists with another configuration.
pub(super) const STREAM_EXISTS: u32 = 10058;
/// Too few servers of the cluster are known, which is so while its servers start.
const NO_PEERS: u32 = 10005;
/// JetStream is not enabled for this account.
const NOT_ENABLED: u32 = 10076;
/// Nothing is stored under this subject or sequence.
pub(super) const NOTHING_STORED: u32 = 10037;

/// An error response of JetStream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct JetStreamError {
    /// A code in the style of an HTTP status.
    pub(super) code: u16,
    /// The specific error code of JetStream.
    pub(super) err_code: u32,
    pub(super) description: String,
}

impl JetStreamError {
    /// Returns whether the error is temporary: nothing was done, and a retry may succeed. Either a leader is
    /// being elected, a limit of requests in flight is reached (10167, 10210), a replica is behind (10163),
    /// or a batch lost its leader (10176).
    fn passes(&self) -> bool {
        matches!(self.code, 429 | 503) || matches!(self.err_code, 10163 | 10167 | 10176 | 10210)
    }

    /// Returns whether a stream may be created later, because the servers of the cluster have just started.
    pub(super) fn passes_at_start(&self) -> bool {
        (matches!(self.code, 429 | 503) && self.err_code != NOT_ENABLED) || self.err_code == NO_PEERS
    }
}

/// The reason why an API request has no result.
#[derive(Debug)]
pub(super) enum JetStreamFailure {
    Failure(RequestFailure),
    Refusal(JetStreamError),
    /// The response is malformed.
    InvalidResponse,
}

/// Sends one request of the JetStream API.
pub(super) async fn api<T: DeserializeOwned>(
    connection: &NatsConnection,
    method: &str,
    body: &Value,
    within: Duration,
) -> Result<T, JetStreamFailure> {
    let subject = format!("$JS.API.{method}");
    let raw = connection.request(subject, None, body.to_string().into(), within).await;
    let reply: Value = serde_json::from_slice(&raw.map_err(JetStreamFailure::Failure)?.payload)
        .map_err(|_| JetStreamFailure::InvalidResponse)?;
    if let Some(error) = reply.get("error") {
        return Err(JetStreamFailure::Refusal(JetStreamError::deserialize(error).unwrap_or_default()));
    }
    serde_json::from_value(reply).map_err(|_| JetStreamFailure::InvalidResponse)
}

/// The outcome of a publish into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishResult {
    /// The message is stored.
    Written {
        /// The sequence of the message.
        seq: u64,
    },
    /// The expected sequence differs from the last sequence of the subject.
    Mismatch,
    /// Nothing was stored; a retry may succeed in a moment.
    Busy,
    /// The message was not sent; nothing was stored.
    Down,
    /// The stream never accepts this message.
    Invalid,
    /// The message may have been stored.
    Unknown,
}

/// The reason why a conditional write is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryReason {
    Busy,
    Mismatch,
}

impl PublishResult {
    /// Returns the outcome of the write, or the reason to repeat it.
    pub(super) fn settle(self) -> ControlFlow<Result<u64, WriteError>, RetryReason> {
        match self {
            Self::Written { seq } => ControlFlow::Break(Ok(seq)),
            Self::Unknown => ControlFlow::Break(Err(WriteError::Unknown)),
            Self::Down => ControlFlow::Break(Err(WriteError::Down)),
            Self::Invalid => ControlFlow::Break(Err(WriteError::Invalid)),
            Self::Busy => ControlFlow::Continue(RetryReason::Busy),
            Self::Mismatch => ControlFlow::Continue(RetryReason::Mismatch),
        }
    }
}

/// Interprets the reply to a publish.
pub(super) fn read_ack(reply: Result<Raw, RequestFailure>) -> PublishResult {
    #[derive(Deserialize)]
    struct PubAck {
        #[serde(default)]
        seq: u64,
        error: Option<JetStreamError>,
    }
    let raw = match reply {
        Ok(raw) => raw,
        // no stream listens between two leaders; nothing was stored
        Err(RequestFailure::NoResponder) => return PublishResult::Busy,
        Err(RequestFailure::NotSent) => return PublishResult::Down,
        Err(RequestFailure::TooLarge) => return PublishResult::Invalid,
        Err(RequestFailure::Lost | RequestFailure::Silence) => return PublishResult::Unknown,
    };
    let Ok(ack) = serde_json::from_slice::<PubAck>(&raw.payload) else { return PublishResult::Unknown };
    match ack.error {
        None if ack.seq > 0 => PublishResult::Written { seq: ack.seq },
        None => PublishResult::Unknown,
        Some(JetStreamError { err_code: 10071, .. }) => PublishResult::Mismatch,
        // another conditional write to this key is in flight, and its outcome decides this one
        Some(JetStreamError { err_code: 10164, .. }) => PublishResult::Busy,
        Some(refusal) if refusal.passes() => PublishResult::Busy,
        Some(refusal) => {
            tracing::warn!(
                code = refusal.err_code,
                reason = refusal.description,
                "JetStream refused a write"
            );
            if refusal.code == 400 { PublishResult::Invalid } else { PublishResult::Unknown }
        }
    }
}

/// Publishes into a stream and waits for the acknowledgement.
pub(super) async fn store(
    connection: &NatsConnection,
    subject: Subject,
    headers: HeaderMap,
    payload: Bytes,
    within: Duration,
) -> PublishResult {
    let reply = connection.request(subject, Some(headers), payload, within).await;
    read_ack(reply)
}

/// The fields of the reply subject of a delivered message:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`. The newer form has a
/// domain and an account before the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) attempt: u64,
    pub(super) stream_seq: u64,
    pub(super) consumer_seq: u64,
    pub(super) pending: u64,
}

impl Delivered {
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?;
        let before = match tokens.bytes().filter(|byte| *byte == b'.').count() + 1 {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let number = |at: usize| tokens.split('.').nth(before + at)?.parse().ok();
        Some(Self {
            attempt: number(0)?,
            stream_seq: number(1)?,
            consumer_seq: number(2)?,
            pending: number(4)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(json: &str) -> Result<Raw, RequestFailure> {
        Ok(Raw {
            subject: "s".into(),
            reply: None,
            payload: json.to_owned().into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        })
    }

    fn refused(code: u16, err_code: u32) -> PublishResult {
        read_ack(reply(&format!(
            r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"x"}},"stream":"s","seq":0}}"#
        )))
    }

    #[test]
    fn an_acknowledgement_says_whether_something_was_stored() {
        assert_eq!(read_ack(reply(r#"{"stream":"s","seq":7}"#)), PublishResult::Written { seq: 7 });
        assert_eq!(refused(400, 10071), PublishResult::Mismatch);
        assert_eq!(
            refused(400, 10164),
            PublishResult::Busy,
            "another writer's write in flight is not a conflict yet"
        );
        assert_eq!(refused(503, 10008), PublishResult::Busy);
        assert_eq!(refused(429, 10167), PublishResult::Busy);
        assert_eq!(refused(400, 10176), PublishResult::Busy);
        assert_eq!(refused(400, 10165), PublishResult::Invalid);
        assert_eq!(refused(500, 10194), PublishResult::Unknown);
        assert_eq!(read_ack(reply("")), PublishResult::Unknown);
        assert_eq!(read_ack(Err(RequestFailure::NotSent)), PublishResult::Down);
        assert_eq!(read_ack(Err(RequestFailure::NoResponder)), PublishResult::Busy);
        assert_eq!(read_ack(Err(RequestFailure::Lost)), PublishResult::Unknown);
        assert_eq!(read_ack(Err(RequestFailure::Silence)), PublishResult::Unknown);
    }

    #[test]
    fn a_cluster_whose_servers_have_not_met_yet_is_waited_for_and_one_without_jetstream_is_not() {
        let refusal = |code, err_code| JetStreamError { code, err_code, description: String::new() };
        assert!(refusal(400, 10005).passes_at_start(), "peer offline");
        assert!(refusal(503, 10008).passes_at_start());
        assert!(!refusal(503, 10076).passes_at_start());
        assert!(!refusal(400, 10052).passes_at_start(), "a wrong configuration");
    }

    #[test]
    fn both_forms_of_acknowledgement_subjects_are_read() {
        let expected = Delivered { attempt: 2, stream_seq: 30, consumer_seq: 4, pending: 5 };
        assert_eq!(Delivered::parse("$JS.ACK.st.co.2.30.4.1700000000.5"), Some(expected));
        assert_eq!(Delivered::parse("$JS.ACK._.acc.st.co.2.30.4.1700000000.5"), Some(expected));
        assert_eq!(Delivered::parse("$JS.ACK._.acc.st.co.2.30.4.1700000000.5.x"), Some(expected));
        assert_eq!(Delivered::parse("$JS.ACK.st.co.2.30.4"), None);
        assert_eq!(Delivered::parse("$JS.ACK.st.co.x.30.4.1.5"), None);
        assert_eq!(Delivered::parse("pw.c.inbox.1"), None);
    }
}
