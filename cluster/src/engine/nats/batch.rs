//! Commits of several keys as an atomic batch.
//!
//! Owns: the conversion of steps into the messages of a batch. Never: single writes.
//!
//! Avoids: async-nats defines the headers of an atomic batch and has no client for it; `jetstream-extra`, which has
//! one, needs an older async-nats.
//!
//! A message of a batch carries at most one expectation, about its own subject or about another one. A
//! conditional write carries the expectation about its own subject. A check is an expectation about another
//! subject, so it needs a message that carries it: an unconditional write, or else a delete marker on a
//! subject that no key can have.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::api::{PublishResult, RetryReason, read_ack};
use super::connection::RequestFailure;
use super::headers;
use super::kv::{KvStream, StoredEntry, check, first_expectation, is_key, next_expectation, put_headers};
use super::streams::MARKER_TTL;
use crate::engine::{BatchOp, MAX_COMMIT, Precondition, Unavailable, WriteError};

/// The header that names the subject of an expectation about another subject.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// The key of messages that only carry checks. No key contains `!`.
const CARRIER: &str = "!check";
/// The TTL of a carrier, the shortest possible, because a carrier has no content.
const CARRIER_TTL: std::time::Duration = std::time::Duration::from_secs(1);

/// The batches that this process has sent.
static SENT: AtomicU64 = AtomicU64::new(0);

/// Returns how many atomic batches this process has sent to NATS. A server with file storage creates a store on disk for
/// each, so a path that many requests take must send none.
pub fn batches_sent() -> u64 {
    SENT.load(Ordering::Relaxed)
}

/// A step with the current expectation about its key.
struct CheckedOp {
    key: String,
    expect: Precondition,
    /// The expected sequence; `None` when the step has no condition.
    expected: Option<u64>,
    /// The headers and payload to write; `None` for a check.
    write: Option<(HeaderMap, Bytes)>,
}

impl CheckedOp {
    fn new(batch: BatchOp) -> Result<Self, WriteError> {
        let (key, expect, write) = match batch {
            BatchOp::Put(put) => {
                check(&put)?;
                let headers = put_headers(&put);
                (put.key, put.expect, Some((headers, put.value)))
            }
            // an absent key needs no deletion, only a check
            BatchOp::Delete { key, expect: Precondition::Absent } => (key, Precondition::Absent, None),
            BatchOp::Delete { key, expect } => {
                (key, expect, Some((headers::deletion(MARKER_TTL), Bytes::new())))
            }
            BatchOp::Check { key, rev } => (key, Precondition::Rev(rev), None),
        };
        if !is_key(&key) {
            return Err(WriteError::Invalid);
        }
        // an expectation that cannot hold becomes a mismatch, which then reports the current revision
        let expected = first_expectation(expect).unwrap_or(Some(u64::MAX));
        Ok(Self { key, expect, expected, write })
    }
}

/// Validates a batch and converts it into steps.
fn steps(batch: Vec<BatchOp>) -> Result<Vec<CheckedOp>, WriteError> {
    if batch.is_empty() || batch.len() > MAX_COMMIT {
        return Err(WriteError::Invalid);
    }
    let steps = batch.into_iter().map(CheckedOp::new).collect::<Result<Vec<_>, _>>()?;
    let keys: std::collections::HashSet<&str> = steps.iter().map(|step| step.key.as_str()).collect();
    if keys.len() == steps.len() { Ok(steps) } else { Err(WriteError::Invalid) }
}

/// One message of a batch, without the batch's own headers.
#[derive(Debug, Clone)]
struct Part {
    key: String,
    headers: HeaderMap,
    payload: Bytes,
}

/// Converts steps into the messages of a batch. `subject` converts a key into its subject.
fn parts(steps: &[CheckedOp], subject: impl Fn(&str) -> String) -> Vec<Part> {
    let mut checks = steps.iter().filter(|step| step.write.is_none());
    let mut parts = Vec::with_capacity(steps.len());
    let ride = |headers: &mut HeaderMap, check: &CheckedOp| {
        headers.insert(EXPECTED_SUBJECT, subject(&check.key));
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(check.expected.unwrap_or(0)));
    };
    for step in steps {
        let Some((headers, payload)) = &step.write else { continue };
        let mut headers = headers.clone();
        match step.expected {
            Some(seq) => headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(seq)),
            None => checks.next().into_iter().for_each(|check| ride(&mut headers, check)),
        }
        parts.push(Part { key: step.key.clone(), headers, payload: payload.clone() });
    }
    for check in checks {
        let mut headers = headers::deletion(CARRIER_TTL);
        ride(&mut headers, check);
        parts.push(Part { key: CARRIER.to_owned(), headers, payload: Bytes::new() });
    }
    parts
}

impl KvStream {
    pub(super) async fn commit(&self, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        Commit { kv: self, steps: steps(batch)?, deadline: self.deadline() }.run().await
    }
}

/// A commit until its deadline.
struct Commit<'a> {
    kv: &'a KvStream,
    steps: Vec<CheckedOp>,
    deadline: Instant,
}

impl Commit<'_> {
    /// Repeats the batch until it has an outcome.
    async fn run(mut self) -> Result<u64, WriteError> {
        loop {
            match self.send().await.settle() {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(why @ RetryReason::Busy) => {
                    self.kv.pause_write(self.deadline, why).await?
                }
                ControlFlow::Continue(why @ RetryReason::Mismatch) => {
                    if !self.correct().await? {
                        // the expectations hold now: a conflicting write in flight has ended
                        self.kv.pause_write(self.deadline, why).await?;
                    }
                }
            }
        }
    }

    /// Checks every condition after a mismatch, because the mismatch does not name the failed one. Returns
    /// the conflict as an error, or whether an expectation was corrected to the sequence of a delete marker.
    async fn correct(&mut self) -> Result<bool, WriteError> {
        let mut corrected = false;
        for step in self.steps.iter_mut().filter(|step| step.expected.is_some()) {
            let stored = self.kv.latest(&step.key, self.deadline).await;
            // nothing was written, so the conflict is certain even if the leader is unavailable now
            let stored = stored.map_err(|Unavailable| WriteError::Conflict { actual: None })?;
            let holds = matches!(
                (&stored, step.expect),
                (Some(StoredEntry::Entry(entry)), Precondition::Rev(rev)) if entry.rev == rev
            );
            if !holds {
                let next = Some(next_expectation(step.expect, stored.as_ref())?);
                corrected |= std::mem::replace(&mut step.expected, next) != next;
            }
        }
        Ok(corrected)
    }

    /// Sends a batch. Only the last message is acknowledged; then either all messages are stored or none.
    async fn send(&self) -> PublishResult {
        SENT.fetch_add(1, Ordering::Relaxed);
        let parts = parts(&self.steps, |key| self.kv.subject(key));
        let id = uuid::Uuid::new_v4().simple().to_string();
        let last = parts.len();
        for (at, mut part) in parts.into_iter().enumerate().map(|(at, part)| (at + 1, part)) {
            part.headers.insert(NATS_BATCH_ID, id.as_str());
            part.headers.insert(NATS_BATCH_SEQUENCE, HeaderValue::from(at));
            let subject = self.kv.subject(&part.key);
            let within = self.deadline.saturating_duration_since(Instant::now());
            if at == last {
                part.headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
                return read_ack(
                    self.kv.control.request(subject, Some(part.headers), part.payload, within).await,
                );
            }
            match self.kv.control.send(subject, None, Some(part.headers), part.payload, within).await {
                Ok(()) => {}
                Err(RequestFailure::TooLarge) => return PublishResult::Invalid,
                // without its last message nothing of the batch is stored
                Err(_) => return PublishResult::Down,
            }
        }
        PublishResult::Invalid
    }
}
