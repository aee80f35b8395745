//! The objects of resident pages: the row that says which worker has an object, and what an object has kept.
//!
//! Owns: the shape of the row, and what its next worker does with it. Never: the objects, or the order of reads and writes;
//! those are the worker's.
//!
//! A worker that makes an object has written the row first, by compare-and-set, so one worker has the object. The revision
//! of that write is the term of the object: the writes of the object to its state trees carry it, and those of an earlier
//! term are refused.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::engine::Entry;
use crate::wire::{self, MoveReason};
use crate::worker::WorkerId;

/// How long a row is kept after its last write. The worker of a living object writes it again after half of this time.
pub const ROW_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Maximum size of what an object keeps when it moves, in bytes of JSON.
pub const MAX_SAVED: usize = 192 * 1024;

/// What an object has kept for the next executor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedObject {
    /// Why it left.
    pub why: MoveReason,
    /// Raw JSON; `None` when it has kept nothing, or could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    /// Whether its page was without a socket.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_away: bool,
}

/// The value of the row `resident.<pool>.<page>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectRow {
    /// The worker that has the object, or the last one that had it.
    pub worker: WorkerId,
    /// Class of the object.
    pub class: String,
    /// Term of the worker: the revision at which it took the page over. Absent in that first write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// What the object has kept; absent while the object lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<SavedObject>,
}

/// What a worker does that gets a message for a page whose object it does not have.
#[derive(Debug)]
pub enum Arrival {
    /// It makes the first object of the page.
    Open,
    /// It makes the object again from what the one before it has kept.
    Restore(SavedObject),
    /// It makes the object again without its state: the one before it was lost with an executor or a lease of this worker.
    Rebuild,
    /// It asks this worker for the object first.
    Ask(WorkerId),
}

impl ObjectRow {
    /// Parses a row. Returns `None` when it is not a row of a known release.
    pub fn of(entry: &Entry) -> Option<Self> {
        serde_json::from_slice(&entry.value).ok()
    }

    /// Returns the value of its entry, encoded as JSON.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Returns what the worker `me` does with the row of a page.
    pub fn arrival(row: Option<&Self>, me: WorkerId) -> Arrival {
        match row {
            None => Arrival::Open,
            Some(Self { saved: Some(saved), .. }) => Arrival::Restore(saved.clone()),
            // an earlier epoch of this worker has no object that it could give up, and this worker does not answer to itself
            Some(row) if row.worker.id == me.id => Arrival::Rebuild,
            Some(row) => Arrival::Ask(row.worker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Key;

    const ME: WorkerId = WorkerId { id: Key::from_bits(7), epoch: 3 };

    #[test]
    fn a_stored_row_keeps_its_shape() {
        let row = ObjectRow { worker: ME, class: "Board".to_owned(), term: None, saved: None };
        let text = r#"{"worker":{"id":"0000000000000000000007","epoch":3},"class":"Board"}"#;
        assert_eq!(row.encode(), text);
        let value = RawValue::from_string("{\"n\": 1}".to_owned()).ok();
        let saved = SavedObject { why: MoveReason::Drain, value, is_away: false };
        let left = ObjectRow { term: Some(4), saved: Some(saved), ..row };
        let text = concat!(
            r#"{"worker":{"id":"0000000000000000000007","epoch":3},"class":"Board","term":4,"#,
            r#""saved":{"why":"drain","value":{"n": 1}}}"#
        );
        assert_eq!(left.encode(), text);
    }

    #[test]
    fn a_living_object_is_asked_for_and_a_saved_one_restored() {
        let other = WorkerId { id: Key::from_bits(8), epoch: 4 };
        let row = ObjectRow { worker: other, class: "Board".to_owned(), term: None, saved: None };
        assert!(matches!(ObjectRow::arrival(None, ME), Arrival::Open));
        assert!(matches!(ObjectRow::arrival(Some(&row), ME), Arrival::Ask(worker) if worker == other));
        assert!(matches!(ObjectRow::arrival(Some(&row), other), Arrival::Rebuild));
        let again = WorkerId { epoch: 5, ..other };
        assert!(matches!(ObjectRow::arrival(Some(&row), again), Arrival::Rebuild), "after another lease");
        let saved = SavedObject { why: MoveReason::Idle, value: None, is_away: false };
        let left = ObjectRow { saved: Some(saved), ..row };
        for me in [ME, other] {
            let arrival = ObjectRow::arrival(Some(&left), me);
            assert!(matches!(arrival, Arrival::Restore(SavedObject { why: MoveReason::Idle, .. })));
        }
    }
}
