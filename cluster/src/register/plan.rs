//! Changes of several items. Pure.
//!
//! Owns: which items a login or the end of an item concerns. Never: writing them (`registers`).

use std::sync::Arc;

use serde_json::Value;

use super::edit::{Creation, ItemEdit};
use super::index::ItemIndex;
use super::item::Fields;
use super::{ItemKey, ItemLevel, RegisterName};

/// A connection that belongs to another user from now on.
#[derive(Debug, Clone)]
pub struct Relabel {
    /// The connection.
    pub connection: ItemKey,
    /// The user.
    pub user: ItemKey,
    /// Fields to set in the connection.
    pub fields: Fields,
    /// Fields of the item of the user, if it is created.
    pub user_fields: Fields,
}

impl Relabel {
    /// Returns the edits in the order in which they are written: the user, the pages, the connection, and the user before if
    /// no other connection has it.
    pub(super) fn edits(self, index: &ItemIndex, register: &RegisterName) -> Vec<(ItemKey, ItemEdit)> {
        let Self { connection, user, mut fields, user_fields } = self;
        let name = Value::from(&*user.id);
        let of_user = || Fields::from_iter([("user".to_owned(), name.clone())]);
        let before = index.get(&connection.row(register)).and_then(|item| item.head.text("user"));
        let before = before.map(|id| ItemKey { level: ItemLevel::User, id: id.into() });
        let mut edits = Vec::new();
        if index.get(&user.row(register)).is_none() {
            let created =
                ItemEdit { create: Some(Creation::New), fields: user_fields, ..ItemEdit::default() };
            edits.push((user.clone(), created));
        }
        for page in index.below(&connection) {
            edits.push((page.key.clone(), ItemEdit { fields: of_user(), ..ItemEdit::default() }));
        }
        let others = |user: &ItemKey| index.below(user).any(|other| other.key != connection);
        let ended = before.filter(|before| *before != user && !others(before));
        fields.extend(of_user());
        edits.push((connection, ItemEdit { fields, ..ItemEdit::default() }));
        edits.extend(ended.map(|user| (user, ItemEdit::deletion())));
        edits
    }
}

/// An item that ends, with what belongs to it.
#[derive(Debug, Clone)]
pub struct Removal {
    /// The item.
    pub item: ItemKey,
    /// Whether the connection ends with its last page, and the user with its last connection.
    pub cascade: bool,
}

impl Removal {
    /// Returns the items that end, those below an item before it.
    pub(super) fn items(self, index: &ItemIndex, register: &RegisterName) -> Vec<ItemKey> {
        let Self { item, cascade } = self;
        let mut ended = Vec::new();
        collect(index, &item, &mut ended);
        let mut last = item;
        while cascade && let Some(above) = above(index, register, &last) {
            if index.below(&above).any(|other| other.key != last) {
                break;
            }
            ended.push(above.clone());
            last = above;
        }
        ended
    }
}

fn collect(index: &ItemIndex, item: &ItemKey, ended: &mut Vec<ItemKey>) {
    for below in index.below(item) {
        collect(index, &below.key, ended);
    }
    ended.push(item.clone());
}

/// Returns the item that an item belongs to.
fn above(index: &ItemIndex, register: &RegisterName, item: &ItemKey) -> Option<ItemKey> {
    let (level, field) = match item.level {
        ItemLevel::Page => (ItemLevel::Connection, "connection"),
        ItemLevel::Connection => (ItemLevel::User, "user"),
        ItemLevel::User | ItemLevel::Global => return None,
    };
    let id: Arc<str> = index.get(&item.row(register))?.head.text(field)?.into();
    Some(ItemKey { level, id })
}
