//! `register.relabel`, `register.drop` and `register.subscribe`: the life of connections and pages.
//!
//! Owns: the shapes of these requests. Never: which items they change (`pagewire_cluster::register`).

use pagewire_cluster::register::{Fields, ItemEdit, ItemKey, ItemLevel, Register, Relabel, Removal};
use pagewire_cluster::wire::HandlerError;
use serde_json::json;

use super::super::members::Members;
use super::super::reply;
use super::{ids, key, level_and_id, named_item, named_page, refused};
use crate::handlers::HandlerResult;

/// `register.relabel`.
pub(super) struct RelabelConnection(Relabel);

impl RelabelConnection {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let connection = key(ItemLevel::Connection, &members.required::<String>("connection")?)?;
        let user = key(ItemLevel::User, &members.required::<String>("user")?)?;
        let fields: Fields = members.optional("fields")?.unwrap_or_default();
        let user_fields = members.optional("user_fields")?.unwrap_or_default();
        Ok(Self(Relabel { connection, user, fields, user_fields }))
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let pages = register.relabel(self.0).await.map_err(refused)?;
        reply(&json!({ "pages": ids(&pages) }))
    }
}

/// `register.drop`.
pub(super) struct DropItem(Removal);

impl DropItem {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let item = named_item(members)?;
        Ok(Self(Removal { item, cascade: members.optional("cascade")?.unwrap_or_default() }))
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let dropped = register.remove(self.0).await.map_err(refused)?;
        let dropped: Vec<_> = dropped.iter().map(level_and_id).collect();
        reply(&json!({ "dropped": dropped }))
    }
}

/// `register.subscribe`.
pub(super) struct Subscribe {
    page: ItemKey,
    edit: ItemEdit,
}

impl Subscribe {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let page = named_page(members)?;
        let tables = members.optional("tables")?.unwrap_or_default();
        let paths = members.optional("paths")?.unwrap_or_default();
        Ok(Self { page, edit: ItemEdit { tables, paths, ..ItemEdit::default() } })
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        register.write(&self.page, &self.edit).await.map_err(refused)?;
        reply(&json!({}))
    }
}
