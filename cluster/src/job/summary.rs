//! The summary of a record, for a process that watches all records.
//!
//! Owns: its shape, which travels in the metadata of the record's entry. Never: the argument or the result of a job.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::{JobState, Record, is_zero};
use crate::engine::{Precondition, Put};
use crate::subject::job_key;
use crate::wire;
use crate::worker::{Affinity, WorkerGroup, WorkerId};

/// What the reconciler knows of a job without reading its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSummary {
    /// Current state.
    pub state: JobState,
    /// How often a worker has claimed the job.
    pub attempts: u32,
    /// Which worker may run the job.
    pub affinity: Affinity,
    /// Pool of the worker group.
    pub pool: String,
    /// Lane of the worker group.
    pub lane: String,
    /// Earliest time to run, in milliseconds since the Unix epoch.
    pub due: u64,
    /// Worker that runs the job, or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// How often an operator has run the job again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retried: u32,
}

impl RecordSummary {
    /// Returns the summary of a record.
    pub fn of(record: &Record) -> Self {
        let Record { state, attempts, affinity, due, worker, retried, .. } = *record;
        let (pool, lane) = (record.pool.clone(), record.lane.clone());
        Self { state, attempts, affinity, pool, lane, due, worker, retried }
    }

    /// Returns the worker group that may run the job.
    pub fn team(&self) -> WorkerGroup {
        WorkerGroup::new(self.pool.as_str(), self.lane.as_str())
    }

    /// Returns the metadata of an entry, encoded as JSON.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Parses the metadata of an entry. Returns `None` when it is not that of a known release.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }
}

impl Record {
    /// Builds the write of the record and of its summary, without a TTL.
    pub fn put(&self, expect: Precondition) -> Put {
        let meta = RecordSummary::of(self).encode();
        Put { meta, ..Put::new(job_key::job(self.id), self.encode(), expect) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Key;

    #[test]
    fn a_stored_summary_keeps_its_shape() {
        let text = concat!(
            r#"{"state":"running","attempts":1,"affinity":"free","pool":"p","lane":"l","due":5,"#,
            r#""worker":{"id":"0000000000000000000007","epoch":3}}"#
        );
        let worker = Some(WorkerId { id: Key::from_bits(7), epoch: 3 });
        let (state, affinity) = (JobState::Running, Affinity::Free);
        let summary = RecordSummary {
            state,
            attempts: 1,
            affinity,
            pool: "p".into(),
            lane: "l".into(),
            due: 5,
            worker,
            retried: 0,
        };
        assert_eq!(summary.encode(), text);
        assert_eq!(RecordSummary::decode(text.as_bytes()), Some(summary.clone()));
        let again = RecordSummary { retried: 2, ..summary };
        assert_eq!(again.encode(), text.replace("}}", r#"},"retried":2}"#));
    }
}
