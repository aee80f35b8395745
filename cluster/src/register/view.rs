//! A register as this process has applied it. Pure.
//!
//! Owns: how an event of the watch changes the index and the log. Never: the watch (`registers`).

use std::collections::HashMap;
use std::sync::Arc;

use super::MAX_ENTRIES;
use super::entry::Recipients;
use super::index::ItemIndex;
use super::item::ItemHead;
use super::log::{EntryLog, LogRow};
use super::name::{item_of, log_of};
use crate::engine::Entry;

/// A register as this process has applied it.
#[derive(Debug, Default)]
pub(super) struct RegisterView {
    pub(super) index: ItemIndex,
    pub(super) log: EntryLog,
}

/// All registers as this process has applied them.
#[derive(Debug, Default)]
pub(super) struct Views(HashMap<String, RegisterView>);

impl Views {
    pub(super) fn get(&self, register: &str) -> Option<&RegisterView> {
        self.0.get(register)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn of(&mut self, register: &str) -> &mut RegisterView {
        self.0.entry(register.to_owned()).or_default()
    }

    /// Applies the row of an item. A row of an unknown shape is no item.
    pub(super) fn put_item(&mut self, entry: &Entry) {
        let Some((register, level)) = item_of(&entry.key) else { return };
        if let Some(head) = ItemHead::decode(&entry.meta) {
            self.of(register).index.put(entry.key.clone(), level, entry.rev, head);
        }
    }

    /// Applies a row of the log with the recipients of its publications.
    pub(super) fn put_entry(&mut self, entry: &Entry, to: Vec<Recipients>) {
        let Some(register) = log_of(&entry.key) else { return };
        let key: Arc<str> = entry.key.as_str().into();
        let row = LogRow { position: entry.rev, key, to: to.into() };
        self.of(register).log.push(row, MAX_ENTRIES);
    }

    /// Applies a deletion. `expired`: the row is gone because its time is over.
    pub(super) fn delete(&mut self, key: &str, expired: bool) {
        if let Some((register, _)) = item_of(key) {
            self.of(register).index.delete(key);
        } else if let Some(register) = log_of(key) {
            self.of(register).log.remove(key, expired);
        }
    }
}
