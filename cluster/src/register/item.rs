//! An item, and its row.
//!
//! Owns: what a row contains: the fields as its meta, the data as its value. Never: how it changes (`edit`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{MAX_DATA, MAX_FIELDS, RegisterError};
use crate::engine::{Entry, MAX_META};
use crate::wire;

/// The fields of an item, which every process keeps: one flat JSON object.
pub type Fields = Map<String, Value>;

/// The data of an item by name. The values are not read here.
pub type Data = BTreeMap<String, Box<RawValue>>;

/// Subscriptions of a page: the tables or prefixes, each with the position of the log since when.
pub(super) type Subscriptions = BTreeMap<String, u64>;

/// What every process knows of an item: the meta of its row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ItemHead {
    /// The id, because a key cannot be parsed back.
    pub(super) id: Arc<str>,
    /// When the item was created, in milliseconds since the Unix epoch.
    pub(super) created: u64,
    /// Position of the log at that time: nothing older is for a page.
    pub(super) since: u64,
    /// Another number after each change of the data: one more than the revision that the last change has replaced, or than the
    /// position of the log at which the item was created. 0 if an older release has written the row.
    #[serde(default)]
    pub(super) data_mark: u64,
    /// The fields.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) fields: Fields,
    /// The tables of which a page gets the events.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tables: Subscriptions,
    /// The prefixes of the changes of its user that a page gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) paths: Subscriptions,
}

impl ItemHead {
    /// Reads the meta of a row. `None` for a row of an unknown shape.
    pub(super) fn decode(meta: &Bytes) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }

    /// Returns the text of a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }
}

/// An item.
#[derive(Debug, Clone)]
pub struct Item {
    pub(super) head: ItemHead,
    /// The data.
    pub data: Data,
}

impl Item {
    /// Returns the fields.
    pub const fn fields(&self) -> &Fields {
        &self.head.fields
    }

    /// Returns when the item was created, in milliseconds since the Unix epoch.
    pub const fn created(&self) -> u64 {
        self.head.created
    }

    /// Returns the meta and the value of the row.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Fields`] and [`RegisterError::Data`] if they are too large.
    pub(super) fn encode(&self) -> Result<(Bytes, Bytes), RegisterError> {
        let (meta, value) = (wire::encode(&self.head), wire::encode(&self.data));
        let fields = wire::encode(&self.head.fields).len();
        if fields > MAX_FIELDS || meta.len() > MAX_META {
            return Err(RegisterError::Fields);
        }
        if value.len() > MAX_DATA {
            return Err(RegisterError::Data);
        }
        Ok((meta, value))
    }
}

/// An item at a revision.
#[derive(Debug, Clone)]
pub struct ItemVersion {
    /// The revision.
    pub revision: u64,
    /// The item.
    pub item: Item,
}

impl ItemVersion {
    /// Reads a row. `None` for a row of an unknown shape.
    pub(super) fn decode(entry: &Entry) -> Option<Self> {
        let (head, data) = (ItemHead::decode(&entry.meta)?, serde_json::from_slice(&entry.value).ok()?);
        Some(Self { revision: entry.rev, item: Item { head, data } })
    }
}
