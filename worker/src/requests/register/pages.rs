//! `register.relabel`, `register.drop` and `register.subscribe`: the life of connections and pages.
//!
//! Owns: the shapes of these requests. Never: which items they change (`pagewire_cluster::register`).

use std::collections::BTreeMap;

use pagewire_cluster::register::{Fields, ItemEdit, ItemLevel, Register, Relabel, Removal};
use serde::Deserialize;
use serde_json::json;

use super::super::reply;
use super::{NamedItem, ids, key, level_and_id, page, refused};
use crate::handlers::HandlerResult;

/// `register.relabel`.
#[derive(Deserialize)]
pub(super) struct RelabelConnection {
    connection: String,
    user: String,
    #[serde(default)]
    fields: Fields,
    #[serde(default)]
    user_fields: Fields,
}

impl RelabelConnection {
    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let Self { connection, user, fields, user_fields } = self;
        let (connection, user) = (key(ItemLevel::Connection, &connection)?, key(ItemLevel::User, &user)?);
        let pages =
            register.relabel(Relabel { connection, user, fields, user_fields }).await.map_err(refused)?;
        reply(&json!({ "pages": ids(&pages) }))
    }
}

/// `register.drop`.
#[derive(Deserialize)]
pub(super) struct DropItem {
    #[serde(flatten)]
    item: NamedItem,
    #[serde(default)]
    cascade: bool,
}

impl DropItem {
    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let removal = Removal { item: self.item.key()?, cascade: self.cascade };
        let dropped = register.remove(removal).await.map_err(refused)?;
        let dropped: Vec<_> = dropped.iter().map(level_and_id).collect();
        reply(&json!({ "dropped": dropped }))
    }
}

/// `register.subscribe`.
#[derive(Deserialize)]
pub(super) struct Subscribe {
    page: String,
    #[serde(default)]
    tables: BTreeMap<String, bool>,
    #[serde(default)]
    paths: BTreeMap<String, bool>,
}

impl Subscribe {
    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let Self { page: id, tables, paths } = self;
        let edit = ItemEdit { tables, paths, ..ItemEdit::default() };
        register.write(&page(&id)?, &edit).await.map_err(refused)?;
        reply(&json!({}))
    }
}
