//! A record with its revision, and the result of an event on it.
//!
//! Owns: how the record of an entry is parsed, and how a record travels in its work item. Never: reads and writes
//! (`records`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::transition::{Effect, TransitionError};
use crate::engine::{Entry, QueueMessage};
use crate::wire;

/// Maximum size of a record inside a work item, in bytes: the worker that pulls the item reads a larger one.
pub(super) const MAX_HINT: usize = 4 * 1024;

/// A record and its revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredJob {
    /// The record.
    pub record: Record,
    /// Revision of the record.
    pub rev: u64,
}

impl StoredJob {
    /// Parses an entry. Returns `None` if it is not a record of a known release.
    pub fn parse(entry: Entry) -> Option<Self> {
        let record = Record::decode(&entry.value);
        if record.is_none() {
            tracing::warn!(key = entry.key, "job record of an unknown shape ignored");
        }
        Some(Self { record: record?, rev: entry.rev })
    }

    /// Encodes the record for its work item, so that a worker can claim it without a read; empty if it is too large.
    pub fn hint(&self) -> Bytes {
        let hint = wire::encode(self);
        if hint.len() <= MAX_HINT { hint } else { Bytes::new() }
    }

    /// Parses the record in a work item, if there is one. The record may have changed since then: the claim is a
    /// compare-and-set on the revision at which it was enqueued, and reads the record when that revision is no longer
    /// current.
    pub fn hinted(hint: &QueueMessage) -> Option<Self> {
        serde_json::from_slice(&hint.payload).ok()
    }
}

/// A record after an event, and the effect to run.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The record after the event.
    pub stored: StoredJob,
    /// The effect to run.
    pub after: Effect,
}

/// Why a record was not changed.
#[derive(Debug)]
pub enum TransitionFailure {
    /// The event is not allowed in the current state of the record.
    Refused(TransitionError, Box<StoredJob>),
    /// The record does not exist.
    Gone,
    /// The engine does not reply; the change may have happened.
    Unavailable,
}
