//! Several keys at once: an atomic batch.
//!
//! Owns: how steps become the messages of a batch. Never: single writes.
//!
//! A message of a batch carries at most one expectation, about its own subject or about another one. A step
//! that writes conditionally expects its own. A check expects another subject's, so it needs a message to ride
//! on: a write without a condition of its own, or else a mark on a subject that no key can have.

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

/// The header for an expectation about another subject than the message's own.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// Where checks ride; `!` is in no key.
const CARRIER: &str = "!check";
/// A carrier says nothing and goes as soon as the server can.
const CARRIER_TTL: std::time::Duration = std::time::Duration::from_secs(1);

/// A step with what it expects of its key now.
struct Step {
    key: String,
    expect: Expect,
    /// The sequence to name; `None` when the step has no condition.
    expected: Option<u64>,
    /// What is written; `None` for a check.
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
            // what must be absent needs no deletion
            Batch::Delete { key, expect: Expect::Absent } => (key, Expect::Absent, None),
            Batch::Delete { key, expect } => {
                (key, expect, Some((headers::deletion(MARKER_TTL), Bytes::new())))
            }
            Batch::Check { key, rev } => (key, Expect::Rev(rev), None),
        };
        if !is_key(&key) {
            return Err(WriteError::Invalid);
        }
        // an impossible expectation is found to be one below, with what stands there
        let expected = first_expectation(expect).unwrap_or(Some(u64::MAX));
        Ok(Self { key, expect, expected, write })
    }
}

/// Validated steps.
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

/// The messages of a batch; `subject` makes a key's subject.
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
                        // it holds now: whoever was in between is gone
                        self.pause(deadline, &Ack::Mismatch).await.map_err(|Down| WriteError::Down)?;
                    }
                }
            }
        }
    }

    /// After a mismatch that does not say whose: looks at every condition. The conflict, or whether an
    /// expectation was corrected to the mark of a deletion.
    async fn correct(&self, steps: &mut [Step], deadline: Instant) -> Result<bool, WriteError> {
        let mut corrected = false;
        for step in steps.iter_mut().filter(|step| step.expected.is_some()) {
            let stored = self.latest(&step.key, deadline).await;
            // nothing was written: the conflict is certain even if the leader is gone by now
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

    /// Sends a batch; only its last message is acknowledged, and then all of it is stored, or none.
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
                // without its last message a batch is nothing
                Err(_) => return Ack::Down,
            }
        }
        Ack::Invalid
    }
}
