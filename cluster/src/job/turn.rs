//! The turn row of a user: which worker owns the user's assigned jobs, and which one of them may run.
//!
//! Owns: the shape of the row, and what a worker knows of it. Never: the order of reads and writes (`turn_protocol`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::Entry;
use crate::id::Key;
use crate::wire;
use crate::worker::WorkerId;

/// The attempt that a turn row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamedAttempt {
    /// Id of the job.
    pub(super) id: Key,
    /// Number of the attempt, from 1.
    pub(super) attempt: u32,
}

/// The value of the row `turn.<pool>.<lane>.<user>`. A row that names an attempt has no TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TurnRow {
    /// Owner of the user's jobs.
    pub(super) worker: WorkerId,
    /// Term of the owner: the revision at which it took the user over, unchanged by its later writes. Absent in that
    /// first write, because its revision is the term. Terms of a user only grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) term: Option<u64>,
    /// The attempt that may run; it may have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<NamedAttempt>,
}

impl TurnRow {
    /// Parses a row. Returns `None` when it is not a row of a known release.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        serde_json::from_slice(&entry.value).ok()
    }

    pub(super) fn encode(&self) -> Bytes {
        wire::encode(self)
    }
}

/// A turn row of this worker, as it wrote or read the row last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Revision of the row.
    pub(super) rev: u64,
    /// Term of this worker.
    pub(super) term: u64,
    /// The attempt that the row names.
    pub(super) named: Option<NamedAttempt>,
    /// Whether no write can claim the named attempt any more.
    pub(super) settled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_row_keeps_its_shape() {
        let worker = WorkerId { id: Key::from_bits(7), epoch: 3 };
        let named = NamedAttempt { id: Key::from_bits(9), attempt: 2 };
        let row = TurnRow { worker, term: Some(11), job: Some(named) };
        let text = concat!(
            r#"{"worker":{"id":"0000000000000000000007","epoch":3},"term":11,"#,
            r#""job":{"id":"0000000000000000000009","attempt":2}}"#
        );
        assert_eq!(row.encode(), text);
        assert_eq!(serde_json::from_str::<TurnRow>(text).unwrap(), row);
        let taken = TurnRow { term: None, job: None, ..row };
        assert_eq!(taken.encode(), r#"{"worker":{"id":"0000000000000000000007","epoch":3}}"#);
    }
}
