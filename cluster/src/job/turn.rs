//! The turn row of a user: which worker owns the user's assigned jobs, and which one of them may run.
//!
//! Owns: the shape of the row. Never: the order of reads and writes, which is the worker's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::Entry;
use crate::id::Key;
use crate::subject::{SubjectToken, job_key};
use crate::wire;
use crate::worker::{WorkerId, partition};

/// The attempt that a turn row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedAttempt {
    /// Id of the job.
    pub id: Key,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

/// The value of the row `turn.<pool>.<partition>.<user>`. A row that names an attempt has no TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRow {
    /// Owner of the user's jobs.
    pub worker: WorkerId,
    /// Term of the owner: the revision at which it took the user over, unchanged by its later writes. Absent in that
    /// first write, because its revision is the term. Terms of a user only grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The attempt that may run; it may have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<NamedAttempt>,
}

impl TurnRow {
    /// Returns the key of the row of a user.
    pub fn key(pool: &str, user: &str) -> String {
        job_key::turn(pool, partition(user), &SubjectToken::new(user))
    }

    /// Parses a row. Returns `None` when it is not a row of a known release.
    pub fn of(entry: &Entry) -> Option<Self> {
        serde_json::from_slice(&entry.value).ok()
    }

    /// Returns the value of its entry, encoded as JSON.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }
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
