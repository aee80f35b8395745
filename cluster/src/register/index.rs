//! The index of the items of a register, as this process has applied them. Pure.
//!
//! Owns: the fields of all items, and the items that belong together. Never: their data.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::item::{Fields, ItemHead};
use super::{ItemKey, ItemLevel};
use crate::table;

/// An item of the index.
#[derive(Debug, Clone)]
pub struct IndexedItem {
    /// Level and id.
    pub key: ItemKey,
    /// Revision of the item.
    pub revision: u64,
    pub(super) head: Arc<ItemHead>,
}

impl IndexedItem {
    /// Returns the fields.
    pub fn fields(&self) -> &Fields {
        &self.head.fields
    }

    /// Returns when the item was created, in milliseconds since the Unix epoch.
    pub fn created(&self) -> u64 {
        self.head.created
    }
}

/// Conditions on the fields of items; all have to hold.
#[derive(Debug, Clone, Default)]
pub struct ItemFilter {
    /// Fields with exactly this value.
    pub equal: Fields,
    /// Fields with a text that begins with this one.
    pub prefix: BTreeMap<String, String>,
}

impl ItemFilter {
    fn holds(&self, fields: &Fields) -> bool {
        let begins = |(name, prefix): (&String, &String)| {
            fields.get(name).and_then(Value::as_str).is_some_and(|text| text.starts_with(prefix))
        };
        self.equal.iter().all(|(name, value)| fields.get(name) == Some(value))
            && self.prefix.iter().all(begins)
    }
}

/// The fields of all items of a register.
#[derive(Debug, Default)]
pub(super) struct ItemIndex {
    /// By the key of the row.
    rows: HashMap<String, IndexedItem>,
    /// The rows of the pages of each connection, and of the connections of each user.
    below: HashMap<ItemKey, BTreeSet<String>>,
    /// Number of pages that follow each table.
    followed: HashMap<String, usize>,
}

impl ItemIndex {
    /// Applies a row that was written, unless a later one is known.
    pub(super) fn put(&mut self, row: String, level: ItemLevel, revision: u64, head: ItemHead) {
        if self.rows.get(&row).is_some_and(|known| known.revision >= revision) {
            return;
        }
        self.delete(&row);
        let key = ItemKey { level, id: head.id.clone() };
        let item = IndexedItem { key, revision, head: Arc::new(head) };
        if let Some(above) = above(&item) {
            self.below.entry(above).or_default().insert(row.clone());
        }
        for table in item.head.tables.keys() {
            *self.followed.entry(table.clone()).or_default() += 1;
        }
        self.rows.insert(row, item);
    }

    /// Applies the deletion of a row.
    pub(super) fn delete(&mut self, row: &str) {
        let Some(item) = self.rows.remove(row) else { return };
        table::shrink(&mut self.rows);
        if let Some(above) = above(&item)
            && let Some(below) = self.below.get_mut(&above)
        {
            below.remove(row);
            if below.is_empty() {
                self.below.remove(&above);
            }
        }
        for name in item.head.tables.keys() {
            if let Some(count) = self.followed.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.followed.remove(name);
                }
            }
        }
    }

    /// Returns an item.
    pub(super) fn get(&self, row: &str) -> Option<&IndexedItem> {
        self.rows.get(row)
    }

    /// Returns the pages of a connection, or the connections of a user.
    pub(super) fn below(&self, of: &ItemKey) -> impl Iterator<Item = &IndexedItem> {
        self.below.get(of).into_iter().flatten().filter_map(|row| self.rows.get(row))
    }

    /// Returns the items of a level that a filter describes, sorted by their ids, at most `limit`.
    pub(super) fn list(&self, level: ItemLevel, filter: &ItemFilter, limit: usize) -> Vec<IndexedItem> {
        let is_wanted = |item: &&IndexedItem| item.key.level == level && filter.holds(&item.head.fields);
        let mut found: Vec<_> = self.rows.values().filter(is_wanted).cloned().collect();
        found.sort_unstable_by(|a, b| a.key.id.cmp(&b.key.id));
        found.truncate(limit);
        found
    }

    /// Returns all pages.
    pub(super) fn pages(&self) -> impl Iterator<Item = &IndexedItem> {
        self.rows.values().filter(|item| item.key.level == ItemLevel::Page)
    }

    /// Whether a page follows a table.
    pub(super) fn is_followed(&self, table: &str) -> bool {
        self.followed.contains_key(table)
    }
}

/// Returns the item that an item belongs to.
fn above(item: &IndexedItem) -> Option<ItemKey> {
    let of = |level, field| item.head.text(field).map(|id| ItemKey { level, id: id.into() });
    match item.key.level {
        ItemLevel::Page => of(ItemLevel::Connection, "connection"),
        ItemLevel::Connection => of(ItemLevel::User, "user"),
        ItemLevel::User | ItemLevel::Global => None,
    }
}
