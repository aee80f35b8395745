//! A change of an item. Pure.
//!
//! Owns: what an item is after a change. Never: writing it (`items`).

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::item::{Data, Fields, Item, ItemHead, ItemVersion, Subscriptions};
use super::{ItemKey, RegisterError};

/// The fields of a row that have members of their own.
const RESERVED: [&str; 2] = ["tables", "paths"];

/// How an item is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It must not exist.
    New,
    /// Whatever was there is gone.
    Replace,
}

/// A change of an item. The default changes nothing of an item that exists.
#[derive(Debug, Clone, Default)]
pub struct ItemEdit {
    /// Creates the item. Without it the item has to exist.
    pub create: Option<Creation>,
    /// The revision that the item has to have; 0 if it must not exist.
    pub if_revision: Option<u64>,
    /// Fields to set; `null` removes a field.
    pub fields: Fields,
    /// Numeric fields that are raised to these values, and never lowered.
    pub keep_max: BTreeMap<String, Number>,
    /// Data to set.
    pub data: Data,
    /// Names of data to remove.
    pub unset: Vec<String>,
    /// Tables that a page begins (`true`) or ends to follow.
    pub tables: BTreeMap<String, bool>,
    /// Prefixes of the changes of its user that a page begins or ends to follow.
    pub paths: BTreeMap<String, bool>,
    /// Deletes the item.
    pub delete: bool,
}

/// The time at which an edit is applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct EditTime {
    /// Milliseconds since the Unix epoch.
    pub(super) now: u64,
    /// Position of the log.
    pub(super) position: u64,
}

/// What has to be written.
#[derive(Debug)]
pub(super) enum ItemChange {
    /// Nothing: the item is so already, at this revision, or does not exist (0).
    Nothing(u64),
    /// The item.
    Put(Item),
    /// Its deletion.
    Delete,
}

impl ItemEdit {
    /// Returns an edit that deletes the item.
    pub fn deletion() -> Self {
        Self { delete: true, ..Self::default() }
    }

    /// Whether applying the edit twice is the same as applying it once, whatever another writer does in between.
    pub(super) fn is_repeatable(&self) -> bool {
        self.if_revision.is_none() && self.create != Some(Creation::New)
    }

    /// Returns what has to be written.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unknown`] and [`RegisterError::Conflict`] if the item is not as the edit expects it,
    /// [`RegisterError::Reserved`] for a field that is not one.
    pub(super) fn apply(
        &self,
        key: &ItemKey,
        present: Option<&ItemVersion>,
        time: EditTime,
    ) -> Result<ItemChange, RegisterError> {
        let revision = present.map_or(0, |stored| stored.revision);
        if self.if_revision.is_some_and(|expected| expected != revision) {
            return Err(RegisterError::Conflict { revision });
        }
        if self.delete {
            return Ok(if present.is_some() { ItemChange::Delete } else { ItemChange::Nothing(0) });
        }
        if self.fields.keys().any(|name| RESERVED.contains(&name.as_str())) {
            return Err(RegisterError::Reserved);
        }
        let created = || Item { head: head(key, time), data: Data::new() };
        let mut item = match (self.create, present) {
            (None, Some(stored)) => stored.item.clone(),
            (None, None) => return Err(RegisterError::Unknown),
            (Some(Creation::New), Some(_)) => return Err(RegisterError::Conflict { revision }),
            (Some(_), _) => created(),
        };
        let changed_data = self.change_data(&mut item.data);
        if changed_data || self.create.is_some() {
            // each mark before is at most the revision
            item.head.data_mark = revision.max(item.head.since) + 1;
        }
        let changed = self.change_head(&mut item.head, time.position) | changed_data;
        Ok(if self.create.is_none() && !changed {
            ItemChange::Nothing(revision)
        } else {
            ItemChange::Put(item)
        })
    }

    /// Changes the data of an item. Returns whether they are others now.
    fn change_data(&self, data: &mut Data) -> bool {
        let mut changed = false;
        for (name, value) in &self.data {
            let before = data.insert(name.clone(), value.clone());
            changed |= before.is_none_or(|before| before.get() != value.get());
        }
        for name in &self.unset {
            changed |= data.remove(name).is_some();
        }
        changed
    }

    /// Changes what every process knows of an item. Returns whether that is something else now.
    fn change_head(&self, head: &mut ItemHead, position: u64) -> bool {
        let mut changed = false;
        for (name, value) in &self.fields {
            changed |= match value {
                Value::Null => head.fields.remove(name).is_some(),
                value => head.fields.insert(name.clone(), value.clone()).as_ref() != Some(value),
            };
        }
        for (name, value) in &self.keep_max {
            changed |= raise(&mut head.fields, name, value);
        }
        changed |= subscribe(&mut head.tables, &self.tables, position);
        changed | subscribe(&mut head.paths, &self.paths, position)
    }
}

fn head(key: &ItemKey, time: EditTime) -> ItemHead {
    ItemHead {
        id: key.id.clone(),
        created: time.now,
        since: time.position,
        data_mark: 0,
        fields: Fields::new(),
        tables: Subscriptions::new(),
        paths: Subscriptions::new(),
    }
}

fn raise(fields: &mut Fields, name: &str, value: &Number) -> bool {
    let present = fields.get(name).and_then(Value::as_f64);
    let is_higher = present.is_none_or(|present| value.as_f64().is_some_and(|value| value > present));
    if is_higher {
        fields.insert(name.to_owned(), Value::Number(value.clone()));
    }
    is_higher
}

fn subscribe(present: &mut Subscriptions, wanted: &BTreeMap<String, bool>, position: u64) -> bool {
    let mut changed = false;
    for (name, begins) in wanted {
        changed |= match begins {
            true if present.contains_key(name) => false,
            true => present.insert(name.clone(), position).is_none(),
            false => present.remove(name).is_some(),
        };
    }
    changed
}
