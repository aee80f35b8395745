//! Reads and writes the rows of items.
//!
//! Owns: compare-and-set, and what becomes of a write with an unknown outcome. Never: what an item is after a change
//! (`edit`).

use super::edit::{EditTime, ItemChange, ItemEdit};
use super::item::{Item, ItemVersion};
use super::{ItemKey, RegisterError, RegisterName};
use crate::clock::ClusterClock;
use crate::engine::{Consistency, Entry, Kv, Precondition, Put, Resolution, Unavailable, WriteError};

/// Maximum attempts to change an item that others change at the same time.
const ATTEMPTS: usize = 32;

/// An item after a change.
#[derive(Debug)]
pub(super) enum Changed {
    /// It is at this revision, and nothing was written; 0 if it does not exist.
    Nothing(u64),
    /// It was written.
    Put(Entry),
    /// It was deleted.
    Deleted,
}

/// Why a write was not acknowledged.
enum Unwritten {
    /// The item has changed: apply the edit again.
    Again,
    Failed(RegisterError),
}

/// The rows of the items of one register.
pub(super) struct Items<'a> {
    pub(super) store: &'a Kv,
    pub(super) clock: &'a ClusterClock,
    pub(super) register: &'a RegisterName,
}

impl Items<'_> {
    /// Reads an item as last acknowledged.
    pub(super) async fn read(&self, key: &ItemKey) -> Result<Option<ItemVersion>, RegisterError> {
        let row = key.row(self.register);
        let Some(entry) = self.store.get(&row, Consistency::Latest).await? else { return Ok(None) };
        let stored = ItemVersion::decode(&entry);
        if stored.is_none() {
            tracing::error!(row, "an item of an unknown shape is neither read nor written");
        }
        stored.map(Some).ok_or(RegisterError::Unavailable)
    }

    /// Changes an item, again after each change of another writer.
    pub(super) async fn write(
        &self,
        key: &ItemKey,
        edit: &ItemEdit,
        position: u64,
    ) -> Result<Changed, RegisterError> {
        for _ in 0..ATTEMPTS {
            let present = self.read(key).await?;
            let time = EditTime { now: self.clock.now_ms(), position };
            let change = edit.apply(key, present.as_ref(), time)?;
            let revision = present.map_or(0, |stored| stored.revision);
            let written = match change {
                ItemChange::Nothing(revision) => return Ok(Changed::Nothing(revision)),
                ItemChange::Put(item) => self.put(key, &item, revision, edit.is_repeatable()).await,
                ItemChange::Delete => self.delete(key, revision, edit.is_repeatable()).await,
            };
            match written {
                Ok(changed) => return Ok(changed),
                Err(Unwritten::Again) => {}
                Err(Unwritten::Failed(error)) => return Err(error),
            }
        }
        Err(RegisterError::Overloaded)
    }

    async fn put(
        &self,
        key: &ItemKey,
        item: &Item,
        revision: u64,
        is_repeatable: bool,
    ) -> Result<Changed, Unwritten> {
        let (meta, value) = item.encode().map_err(Unwritten::Failed)?;
        let expect = if revision == 0 { Precondition::Absent } else { Precondition::Rev(revision) };
        let put = Put { meta, ..Put::new(key.row(self.register), value, expect) };
        let mut was_sent = false;
        // the same write once more, so that at most one of the two is stored
        for _ in 0..2 {
            match self.store.put(put.clone()).await {
                Ok(rev) => return Ok(written(&put, rev)),
                Err(WriteError::Conflict { .. }) if !was_sent => return Err(Unwritten::Again),
                Err(WriteError::Conflict { .. } | WriteError::Unknown) => was_sent = true,
                Err(WriteError::Down) if was_sent => {}
                Err(WriteError::Down) => return Err(Unwritten::Failed(RegisterError::Unavailable)),
                Err(WriteError::Invalid) => return Err(Unwritten::Failed(RegisterError::Data)),
            }
            match self.store.resolve_unknown(&put.key, put.op).await {
                Ok(Resolution::Written { rev }) => return Ok(written(&put, rev)),
                Ok(Resolution::Other { entry })
                    if entry.as_ref().map_or(0, |entry| entry.rev) == revision => {}
                // another writer has replaced the item, after this write or instead of it
                Ok(Resolution::Other { .. }) if is_repeatable => return Err(Unwritten::Again),
                Ok(Resolution::Other { .. }) | Err(Unavailable) => break,
            }
        }
        Err(Unwritten::Failed(RegisterError::Uncertain))
    }

    async fn delete(&self, key: &ItemKey, revision: u64, is_repeatable: bool) -> Result<Changed, Unwritten> {
        let row = key.row(self.register);
        // sent once more, because a deletion leaves nothing that names its writer
        for was_sent in [false, true] {
            match self.store.delete(&row, Precondition::Rev(revision)).await {
                Ok(()) => return Ok(Changed::Deleted),
                Err(WriteError::Conflict { .. }) if is_repeatable || !was_sent => {
                    return Err(Unwritten::Again);
                }
                Err(WriteError::Unknown) if is_repeatable => return Err(Unwritten::Again),
                Err(WriteError::Down | WriteError::Invalid) if !was_sent => {
                    return Err(Unwritten::Failed(RegisterError::Unavailable));
                }
                Err(_) => {}
            }
        }
        // the item was deleted by the first one of the two, or another writer was faster
        Err(Unwritten::Failed(RegisterError::Uncertain))
    }
}

fn written(put: &Put, rev: u64) -> Changed {
    let Put { key, value, meta, op, .. } = put.clone();
    Changed::Put(Entry { key, rev, op, meta, value })
}
