//! Single keys on JetStream: read, write, delete.
//!
//! Owns: the conversion of an expectation into a conditional publish, and of its reply into an outcome.
//! Never: pages (`listing`), batches (`batch`) or consumers (`watch`).
//!
//! Avoids: the server refuses to create a key over the marker of its expiry (nats-server#6711); the bucket type of
//! async-nats then creates the key without its TTL, has no conditional put with a TTL, and treats another writer in
//! flight (10164) as a failure. Writes are therefore raw publishes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::{HeaderMap, HeaderValue, Message as Raw, StatusCode, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::api::{JetStreamFailure, NOTHING_STORED, RetryReason, api, store};
use super::connect::jitter;
use super::connection::{NatsConnection, RequestFailure};
use super::headers::{self, Marker};
use super::streams::{MARKER_TTL, Streams};
use crate::engine::{
    Bucket, Consistency, Entry, MAX_META, MAX_VALUE, Precondition, Put, Unavailable, WriteError,
};

/// The longest pause before repeating a write that was refused for a temporary reason.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest key, in bytes. A server closes the connection after a line of more than 4,096 bytes, and the
/// line contains more than the key.
pub(super) const LONGEST_KEY: usize = 2048;

/// One bucket on the control connection.
#[derive(Clone)]
pub(super) struct KvStream {
    pub(super) control: NatsConnection,
    pub(super) streams: Arc<Streams>,
    pub(super) bucket: Bucket,
}

/// A message stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoredEntry {
    Entry(Entry),
    /// A delete marker; it has a sequence of its own.
    Marker {
        seq: u64,
        marker: Marker,
    },
}

impl StoredEntry {
    pub(super) fn new(key: String, seq: u64, map: &HeaderMap, value: Bytes) -> Self {
        match headers::marker(map) {
            Some(marker) => Self::Marker { seq, marker },
            None => Self::Entry(headers::stored(key, seq, map, value)),
        }
    }

    pub(super) fn live(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Marker { .. } => None,
        }
    }
}

/// Returns whether a key is legal as the end of a subject, so that it stays inside its bucket.
pub(super) fn is_key(key: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/' | b'_' | b'=');
    key.len() <= LONGEST_KEY && key.split('.').all(|token| !token.is_empty() && token.bytes().all(legal))
}

/// Checks a put against the limits.
pub(super) fn check(put: &Put) -> Result<(), WriteError> {
    let within = is_key(&put.key) && put.value.len() <= MAX_VALUE && put.meta.len() <= MAX_META;
    let whole_seconds = put.ttl.is_none_or(|ttl| ttl.as_secs() > 0 && ttl.subsec_nanos() == 0);
    if within && whole_seconds { Ok(()) } else { Err(WriteError::Invalid) }
}

/// Creates the headers of a put.
pub(super) fn put_headers(put: &Put) -> HeaderMap {
    let mut map = headers::entry(put.op, &put.meta);
    if let Some(ttl) = put.ttl {
        headers::expire(&mut map, ttl);
    }
    map
}

/// Returns the sequence that a conditional publish names first; 0 means that nothing was ever stored.
/// Expecting revision 0 is a conflict and not absence, because nothing is ever stored at revision 0.
pub(super) fn first_expectation(expect: Precondition) -> Result<Option<u64>, WriteError> {
    match expect {
        Precondition::Any => Ok(None),
        Precondition::Absent => Ok(Some(0)),
        Precondition::Rev(0) => Err(WriteError::Conflict { actual: None }),
        Precondition::Rev(rev) => Ok(Some(rev)),
    }
}

/// Returns the sequence to expect after a mismatch, or the conflict. A key with only a delete marker is
/// absent too; the next publish then names the sequence of the marker.
pub(super) fn next_expectation(
    expect: Precondition,
    stored: Option<&StoredEntry>,
) -> Result<u64, WriteError> {
    match (expect, stored) {
        (_, Some(StoredEntry::Entry(entry))) => Err(WriteError::Conflict { actual: Some(entry.rev) }),
        (Precondition::Absent, Some(StoredEntry::Marker { seq, .. })) => Ok(*seq),
        (Precondition::Absent, None) => Ok(0),
        (Precondition::Any | Precondition::Rev(_), _) => Err(WriteError::Conflict { actual: None }),
    }
}

impl KvStream {
    /// Returns the subject of a key.
    pub(super) fn subject(&self, key: &str) -> String {
        self.streams.key(self.bucket, key)
    }

    /// Returns the name of the stream.
    pub(super) fn stream(&self) -> String {
        self.streams.bucket(self.bucket)
    }

    /// Returns the deadline of an operation that starts now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.control.timing.operation
    }

    pub(super) async fn get(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Entry>, Unavailable> {
        if !is_key(key) {
            return Ok(None);
        }
        let deadline = self.deadline();
        let stored = match consistency {
            Consistency::Latest => self.latest(key, deadline).await?,
            Consistency::Any => self.read_nearest(key, deadline).await?,
        };
        Ok(stored.and_then(StoredEntry::live))
    }

    /// Reads a key from the leader, which has every acknowledged write.
    pub(super) async fn latest(
        &self,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<StoredEntry>, Unavailable> {
        let request = json!({ "last_by_subj": self.subject(key) });
        self.request_leader(&request, deadline).await
    }

    /// Reads one message from the leader.
    pub(super) async fn request_leader(
        &self,
        request: &serde_json::Value,
        deadline: Instant,
    ) -> Result<Option<StoredEntry>, Unavailable> {
        #[derive(Deserialize)]
        struct GetResponse {
            message: Found,
        }
        #[derive(Deserialize)]
        struct Found {
            subject: String,
            seq: u64,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
        }
        let method = format!("STREAM.MSG.GET.{}", self.stream());
        // during an election no server replies, not even with an error; the read is idempotent, so it is
        // repeated
        let attempt_timeout = self.control.timing.operation / 5;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match api::<GetResponse>(&self.control, &method, request, remaining.min(attempt_timeout)).await {
                Ok(GetResponse { message }) => {
                    let key = message.subject[self.streams.keys(self.bucket).len()..].to_owned();
                    let map = headers::parse(&BASE64.decode(message.hdrs).unwrap_or_default());
                    let value = BASE64.decode(message.data).unwrap_or_default();
                    return Ok(Some(StoredEntry::new(key, message.seq, &map, value.into())));
                }
                Err(JetStreamFailure::Refusal(refusal)) if refusal.err_code == NOTHING_STORED => {
                    return Ok(None);
                }
                Err(JetStreamFailure::Failure(RequestFailure::NotSent | RequestFailure::Lost)) => {
                    return Err(Unavailable);
                }
                Err(error) => self.pause(deadline, &error).await?,
            }
        }
    }

    /// Reads a key from any replica.
    async fn read_nearest(&self, key: &str, deadline: Instant) -> Result<Option<StoredEntry>, Unavailable> {
        let subject = format!("$JS.API.DIRECT.GET.{}.{}", self.stream(), self.subject(key));
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.control.request(subject.clone(), None, Bytes::new(), remaining).await {
                Ok(raw) if raw.status == Some(StatusCode::NOT_FOUND) => return Ok(None),
                Ok(raw) => return self.direct(raw).map(|(_, stored)| Some(stored)).ok_or(Unavailable),
                Err(RequestFailure::NoResponder) => {
                    self.pause(deadline, &RequestFailure::NoResponder).await?
                }
                Err(_) => return Err(Unavailable),
            }
        }
    }

    /// Converts the reply to a direct read into a key and its message. Returns `None` if the reply is
    /// malformed.
    pub(super) fn direct(&self, raw: Raw) -> Option<(String, StoredEntry)> {
        let map = raw.headers?;
        let seq = headers::number(&map, &async_nats::header::NATS_SEQUENCE)?;
        let subject = headers::text(&map, &async_nats::header::NATS_SUBJECT)?;
        let key = subject.strip_prefix(&self.streams.keys(self.bucket))?.to_owned();
        Some((key.clone(), StoredEntry::new(key, seq, &map, raw.payload)))
    }

    /// Waits a moment before the next attempt. Returns [`Unavailable`] when the deadline leaves no time for one.
    pub(super) async fn pause(
        &self,
        deadline: Instant,
        why: &impl std::fmt::Debug,
    ) -> Result<(), Unavailable> {
        if Instant::now() + PAUSE >= deadline {
            tracing::debug!(?why, bucket = self.bucket.name(), "JetStream is not available");
            return Err(Unavailable);
        }
        tokio::time::sleep(jitter(PAUSE)).await;
        Ok(())
    }

    /// Waits like [`KvStream::pause`] before a write is repeated.
    pub(super) async fn pause_write(&self, deadline: Instant, why: RetryReason) -> Result<(), WriteError> {
        self.pause(deadline, &why).await.map_err(|Unavailable| WriteError::Down)
    }

    pub(super) async fn put(&self, put: &Put) -> Result<u64, WriteError> {
        check(put)?;
        self.write(&put.key, || put_headers(put), &put.value, put.expect).await
    }

    pub(super) async fn delete(&self, key: &str, expect: Precondition) -> Result<(), WriteError> {
        if !is_key(key) {
            return Err(WriteError::Invalid);
        }
        if expect == Precondition::Absent {
            let stored = self.latest(key, self.deadline()).await.map_err(|Unavailable| WriteError::Down)?;
            return next_expectation(expect, stored.as_ref()).map(drop);
        }
        self.write(key, || headers::deletion(MARKER_TTL), &Bytes::new(), expect).await.map(drop)
    }

    /// Repeats a conditional publish until it has an outcome.
    async fn write(
        &self,
        key: &str,
        headers: impl Fn() -> HeaderMap,
        payload: &Bytes,
        expect: Precondition,
    ) -> Result<u64, WriteError> {
        let deadline = self.deadline();
        let subject = Subject::from(self.subject(key));
        let mut expected = match first_expectation(expect) {
            Ok(expected) => expected,
            Err(_) => return Err(Box::pin(self.conflict(key, deadline)).await),
        };
        let mut within = self.control.timing.operation;
        loop {
            let mut headers = headers();
            if let Some(seq) = expected {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(seq));
            }
            let ack = store(&self.control, subject.clone(), headers, payload.clone(), within).await;
            within = deadline.saturating_duration_since(Instant::now());
            match ack.settle() {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(why @ RetryReason::Busy) => self.pause_write(deadline, why).await?,
                ControlFlow::Continue(why @ RetryReason::Mismatch) => {
                    // boxed, so that this rare case does not enlarge the future of every put
                    let stored = Box::pin(self.latest(key, deadline)).await;
                    // nothing was written, so the conflict is certain even if the leader is unavailable now
                    let stored = stored.map_err(|Unavailable| WriteError::Conflict { actual: None })?;
                    let next = next_expectation(expect, stored.as_ref())?;
                    if expected == Some(next) {
                        self.pause_write(deadline, why).await?;
                    }
                    expected = Some(next);
                }
            }
        }
    }

    /// Returns the conflict with the current revision of the key.
    async fn conflict(&self, key: &str, deadline: Instant) -> WriteError {
        match self.latest(key, deadline).await {
            Ok(stored) => {
                WriteError::Conflict { actual: stored.and_then(StoredEntry::live).map(|entry| entry.rev) }
            }
            Err(Unavailable) => WriteError::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::nats::NatsOptions;
    use crate::engine::nats::connect::{ConnectionTasks, connect};
    use crate::engine::nats::fake::Fake;
    use crate::timing::Timing;

    fn entry(rev: u64) -> StoredEntry {
        StoredEntry::new("k".to_owned(), rev, &HeaderMap::new(), Bytes::new())
    }

    #[test]
    fn only_keys_that_stay_inside_their_bucket_are_legal() {
        for good in ["a", "page.AbC-_=/9", "a.b.c"] {
            assert!(is_key(good), "{good}");
        }
        let long = "x".repeat(LONGEST_KEY + 1);
        for bad in ["", ".", "a.", ".a", "a..b", "*", "a.>", "a b", "a|b", "ä", "a\r\nb", &long] {
            assert!(!is_key(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_read_that_met_no_leader_is_asked_again() {
        let fake = Fake::start("2.15.1", 1024 * 1024);
        let options = NatsOptions {
            urls: vec![fake.url()],
            replicas: 1,
            cluster: "c".to_owned(),
            client_name: "n".to_owned(),
            timing: Timing::TEST,
        };
        let mut tasks = ConnectionTasks::default();
        let control = connect(&options, "control", &mut tasks).await.unwrap();
        let store = KvStream { control, streams: Arc::new(Streams::new("c", 1)), bucket: Bucket::Cluster };
        assert_eq!(store.get("k", Consistency::Latest).await, Ok(None));
    }

    #[test]
    fn absent_is_expected_over_the_mark_of_a_deletion_by_its_own_revision() {
        let marker = StoredEntry::new("k".to_owned(), 9, &headers::deletion(MARKER_TTL), Bytes::new());
        assert_eq!(next_expectation(Precondition::Absent, Some(&marker)), Ok(9));
        assert_eq!(next_expectation(Precondition::Absent, None), Ok(0));
        let conflict = |actual| Err(WriteError::Conflict { actual });
        assert_eq!(next_expectation(Precondition::Absent, Some(&entry(3))), conflict(Some(3)));
        assert_eq!(next_expectation(Precondition::Rev(2), Some(&entry(3))), conflict(Some(3)));
        assert_eq!(
            next_expectation(Precondition::Rev(2), Some(&marker)),
            conflict(None),
            "a mark is no revision"
        );
        assert_eq!(next_expectation(Precondition::Rev(2), None), conflict(None));
    }

    #[test]
    fn a_time_to_live_is_whole_seconds() {
        let put = |ttl| Put { ttl: Some(ttl), ..Put::new("k", "", Precondition::Any) };
        assert!(check(&put(Duration::from_secs(1))).is_ok());
        for bad in [Duration::ZERO, Duration::from_millis(999), Duration::from_millis(1500)] {
            assert_eq!(check(&put(bad)), Err(WriteError::Invalid));
        }
    }
}
