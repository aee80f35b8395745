//! The wire format of JetStream: requests in JSON, and the content of acknowledgements.
//!
//! Owns: the shape of the API and the meaning of its error codes. Never: retries, or the meaning of a write.

use std::time::Duration;

use async_nats::{HeaderMap, Message as Raw, Subject};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::{Connection, Failure};

/// The stream does not exist.
pub(super) const STREAM_NOT_FOUND: u32 = 10059;
/// The stream exists with another configuration.
pub(super) const STREAM_EXISTS: u32 = 10058;
/// Nothing is stored under this subject or sequence.
pub(super) const NOTHING_STORED: u32 = 10037;

/// An error response of JetStream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    /// A code in the style of an HTTP status.
    pub(super) code: u16,
    /// The specific error code of JetStream.
    pub(super) err_code: u32,
    pub(super) description: String,
}

impl Refusal {
    /// Returns whether the error is temporary: nothing was done, and a retry may succeed. Either a leader is
    /// being elected, a limit of requests in flight is reached (10167, 10210), a replica is behind (10163),
    /// or a batch lost its leader (10176).
    fn passes(&self) -> bool {
        matches!(self.code, 429 | 503) || matches!(self.err_code, 10163 | 10167 | 10176 | 10210)
    }
}

/// The reason why an API request has no result.
#[derive(Debug)]
pub(super) enum ApiError {
    Failure(Failure),
    Refusal(Refusal),
    /// The response is malformed.
    Nonsense,
}

/// Sends one request of the JetStream API.
pub(super) async fn api<T: DeserializeOwned>(
    connection: &Connection,
    method: &str,
    body: &Value,
    within: Duration,
) -> Result<T, ApiError> {
    let subject = format!("$JS.API.{method}");
    let raw = connection.ask(subject, None, body.to_string().into(), within).await;
    let answer: Value =
        serde_json::from_slice(&raw.map_err(ApiError::Failure)?.payload).map_err(|_| ApiError::Nonsense)?;
    if let Some(error) = answer.get("error") {
        return Err(ApiError::Refusal(Refusal::deserialize(error).unwrap_or_default()));
    }
    serde_json::from_value(answer).map_err(|_| ApiError::Nonsense)
}

/// The outcome of a publish into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
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

/// Interprets the reply to a publish.
pub(super) fn read_ack(answer: Result<Raw, Failure>) -> Ack {
    #[derive(Deserialize)]
    struct PubAck {
        #[serde(default)]
        seq: u64,
        error: Option<Refusal>,
    }
    let raw = match answer {
        Ok(raw) => raw,
        // no stream listens between two leaders; nothing was stored
        Err(Failure::NoResponder) => return Ack::Busy,
        Err(Failure::NotSent) => return Ack::Down,
        Err(Failure::TooLarge) => return Ack::Invalid,
        Err(Failure::Lost | Failure::Silence) => return Ack::Unknown,
    };
    let Ok(ack) = serde_json::from_slice::<PubAck>(&raw.payload) else { return Ack::Unknown };
    match ack.error {
        None if ack.seq > 0 => Ack::Written { seq: ack.seq },
        None => Ack::Unknown,
        Some(Refusal { err_code: 10071, .. }) => Ack::Mismatch,
        // another conditional write to this key is in flight, and its outcome decides this one
        Some(Refusal { err_code: 10164, .. }) => Ack::Busy,
        Some(refusal) if refusal.passes() => Ack::Busy,
        Some(refusal) => {
            tracing::warn!(
                code = refusal.err_code,
                reason = refusal.description,
                "JetStream refused a write"
            );
            if refusal.code == 400 { Ack::Invalid } else { Ack::Unknown }
        }
    }
}

/// Publishes into a stream and waits for the acknowledgement.
pub(super) async fn store(
    connection: &Connection,
    subject: Subject,
    headers: HeaderMap,
    payload: Bytes,
    within: Duration,
) -> Ack {
    let answer = connection.ask(subject, Some(headers), payload, within).await;
    read_ack(answer)
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

    fn answer(json: &str) -> Result<Raw, Failure> {
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

    fn refused(code: u16, err_code: u32) -> Ack {
        read_ack(answer(&format!(
            r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"x"}},"stream":"s","seq":0}}"#
        )))
    }

    #[test]
    fn an_acknowledgement_says_whether_something_was_stored() {
        assert_eq!(read_ack(answer(r#"{"stream":"s","seq":7}"#)), Ack::Written { seq: 7 });
        assert_eq!(refused(400, 10071), Ack::Mismatch);
        assert_eq!(refused(400, 10164), Ack::Busy, "somebody else's write in flight is not a conflict yet");
        assert_eq!(refused(503, 10008), Ack::Busy);
        assert_eq!(refused(429, 10167), Ack::Busy);
        assert_eq!(refused(400, 10176), Ack::Busy);
        assert_eq!(refused(400, 10165), Ack::Invalid);
        assert_eq!(refused(500, 10194), Ack::Unknown);
        assert_eq!(read_ack(answer("")), Ack::Unknown);
        assert_eq!(read_ack(Err(Failure::NotSent)), Ack::Down);
        assert_eq!(read_ack(Err(Failure::NoResponder)), Ack::Busy);
        assert_eq!(read_ack(Err(Failure::Lost)), Ack::Unknown);
        assert_eq!(read_ack(Err(Failure::Silence)), Ack::Unknown);
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
