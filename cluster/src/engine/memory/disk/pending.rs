//! The steps of the log that the store does not have yet. Pure.
//!
//! Owns: what is left of several changes of one row or work item. Never: writing them (`store`).

use std::collections::BTreeMap;

use super::{JournalChange, JournalEntry};
use crate::engine::Bucket;

/// The last change of each row and work item. A job changes its record three times and has one work item for a moment, so
/// one row is left of all of its steps.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    /// By the index of the bucket in [`Bucket::ALL`] and the key, in the order of the store.
    pub(super) rows: BTreeMap<(usize, String), JournalChange>,
    /// By number.
    pub(super) items: BTreeMap<u64, JournalChange>,
    /// The last revision of each bucket that has changed, in the order of [`Bucket::ALL`].
    pub(super) revisions: [Option<u64>; Bucket::ALL.len()],
}

impl PendingChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.items.is_empty()
    }

    /// Adds the changes of a step, which follows all steps before.
    pub(super) fn add(&mut self, step: JournalEntry) {
        let JournalEntry { place, mark, changes, .. } = step;
        let place = place.index();
        if let Some(revision) = self.revisions.get_mut(place).filter(|_| !changes.is_empty()) {
            *revision = Some(mark);
        }
        for change in changes {
            match &change {
                JournalChange::Put { entry, .. } => {
                    drop(self.rows.insert((place, entry.key.clone()), change));
                }
                JournalChange::Delete { key } => drop(self.rows.insert((place, key.clone()), change)),
                JournalChange::Item(item) => drop(self.items.insert(item.number, change)),
                JournalChange::Settled { number } => drop(self.items.insert(*number, change)),
            }
        }
    }
}
