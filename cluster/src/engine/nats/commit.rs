//! Commits of several keys as an atomic batch.
//!
//! Owns: the conversion of steps into the messages of a batch. Never: single writes.
//!
//! A message of a batch carries at most one expectation, about its own subject or about another one. A
//! conditional write carries the expectation about its own subject. A check is an expectation about another
//! subject, so it needs a message that carries it: an unconditional write, or else a delete marker on a
//! subject that no key can have.

use std::time::Instant;

use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::api::{Ack, read_ack};
use super::connection::Failure;
use super::headers;
use super::kv::{Store, check, first_expectation, is_key, next_expectation, put_headers};
use super::streams::MARKER_TTL;
use crate::engine::{Batch, Down, Expect, MAX_COMMIT, WriteError};

/// The header that names the subject of an expectation about another subject.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// The key of messages that only carry checks. No key contains `!`.
const CARRIER: &str = "!check";
/// The TTL of a carrier, the shortest possible, because a carrier has no content.
const CARRIER_TTL: std::time::Duration = std::time::Duration::from_secs(1);

/// A step with the current expectation about its key.
struct Step {
    key: String,
    expect: Expect,
    /// The expected sequence; `None` when the step has no condition.
    expected: Option<u64>,
    /// The headers and payload to write; `None` for a check.
    write: Option<(HeaderMap, Bytes)>,
}

impl Step {
    fn new(batch: Batch) -> Result<Self, WriteError> {
        let (key, expect, write) = match batch {
            Batch::Put(put) => {
                check(&put)?;
                let headers = put_headers(&put);
                (put.key, put.expect, Some((headers, put.value)))
            }
            // an absent key needs no deletion, only a check
            Batch::Delete { key, expect: Expect::Absent } => (key, Expect::Absent, None),
            Batch::Delete { key, expect } => {
                (key, expect, Some((headers::deletion(MARKER_TTL), Bytes::new())))
            }
            Batch::Check { key, rev } => (key, Expect::Rev(rev), None),
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
fn steps(batch: Vec<Batch>) -> Result<Vec<Step>, WriteError> {
    if batch.is_empty() || batch.len() > MAX_COMMIT {
        return Err(WriteError::Invalid);
    }
    let steps = batch.into_iter().map(Step::new).collect::<Result<Vec<_>, _>>()?;
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
fn parts(steps: &[Step], subject: impl Fn(&str) -> String) -> Vec<Part> {
    let mut checks = steps.iter().filter(|step| step.write.is_none());
    let mut parts = Vec::with_capacity(steps.len());
    let ride = |headers: &mut HeaderMap, check: &Step| {
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

impl Store {
    pub(super) async fn commit(&self, batch: Vec<Batch>) -> Result<u64, WriteError> {
        let mut steps = steps(batch)?;
        let deadline = self.deadline();
        loop {
            match self.send_batch(parts(&steps, |key| self.subject(key)), deadline).await {
                Ack::Written { seq } => return Ok(seq),
                Ack::Unknown => return Err(WriteError::Unknown),
                Ack::Down => return Err(WriteError::Down),
                Ack::Invalid => return Err(WriteError::Invalid),
                Ack::Busy => self.pause(deadline, &Ack::Busy).await.map_err(|Down| WriteError::Down)?,
                Ack::Mismatch => {
                    if !self.correct(&mut steps, deadline).await? {
                        // the expectations hold now: a conflicting write in flight has ended
                        self.pause(deadline, &Ack::Mismatch).await.map_err(|Down| WriteError::Down)?;
                    }
                }
            }
        }
    }

    /// Checks every condition after a mismatch, because the mismatch does not name the failed one. Returns
    /// the conflict as an error, or whether an expectation was corrected to the sequence of a delete marker.
    async fn correct(&self, steps: &mut [Step], deadline: Instant) -> Result<bool, WriteError> {
        let mut corrected = false;
        for step in steps.iter_mut().filter(|step| step.expected.is_some()) {
            let stored = self.latest(&step.key, deadline).await;
            // nothing was written, so the conflict is certain even if the leader is unavailable now
            let stored = stored.map_err(|Down| WriteError::Conflict { actual: None })?;
            let holds = matches!(
                (&stored, step.expect),
                (Some(super::kv::Stored::Entry(entry)), Expect::Rev(rev)) if entry.rev == rev
            );
            if !holds {
                let next = Some(next_expectation(step.expect, stored.as_ref())?);
                corrected |= std::mem::replace(&mut step.expected, next) != next;
            }
        }
        Ok(corrected)
    }

    /// Sends a batch. Only the last message is acknowledged; then either all messages are stored or none.
    async fn send_batch(&self, parts: Vec<Part>, deadline: Instant) -> Ack {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let last = parts.len();
        for (at, mut part) in parts.into_iter().enumerate().map(|(at, part)| (at + 1, part)) {
            part.headers.insert(NATS_BATCH_ID, id.as_str());
            part.headers.insert(NATS_BATCH_SEQUENCE, HeaderValue::from(at));
            let subject = self.subject(&part.key);
            let within = deadline.saturating_duration_since(Instant::now());
            if at == last {
                part.headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
                return read_ack(self.control.ask(subject, Some(part.headers), part.payload, within).await);
            }
            match self.control.send(subject, None, Some(part.headers), part.payload, within).await {
                Ok(()) => {}
                Err(Failure::TooLarge) => return Ack::Invalid,
                // without its last message nothing of the batch is stored
                Err(_) => return Ack::Down,
            }
        }
        Ack::Invalid
    }
}
