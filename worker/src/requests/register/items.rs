//! `register.read`, `register.write` and `register.list`: items.
//!
//! Owns: the shapes of items and changes. Never: how a change is applied (`pagewire_cluster::register`).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use pagewire_cluster::register::{
    Creation, Data, Fields, IndexedItem, ItemEdit, ItemFilter, ItemKey, ItemLevel, ItemVersion, MAX_PARTS,
    Register, RegisterError,
};
use pagewire_cluster::wire::HandlerError;
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};

use super::super::members::Members;
use super::super::reply;
use super::{bounded, ids, key, page, refused};
use crate::handlers::HandlerResult;

/// Most items in one list with data.
const MAX_WITH_DATA: usize = 1000;

/// An item in an answer.
#[derive(Serialize)]
struct ItemView {
    level: ItemLevel,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: Arc<str>,
    revision: u64,
    created_ms: u64,
    fields: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

impl ItemView {
    fn stored(key: &ItemKey, stored: ItemVersion) -> Self {
        let ItemVersion { revision, item } = stored;
        Self {
            level: key.level,
            id: key.id.clone(),
            revision,
            created_ms: item.created(),
            fields: item.fields().clone(),
            data: Some(item.data),
        }
    }

    fn indexed(item: &IndexedItem) -> Self {
        Self {
            level: item.key.level,
            id: item.key.id.clone(),
            revision: item.revision,
            created_ms: item.created(),
            fields: item.fields().clone(),
            data: None,
        }
    }
}

/// An item to read, unless it is at this revision.
#[derive(Deserialize)]
struct WantedItem {
    level: ItemLevel,
    #[serde(default)]
    id: String,
    revision: Option<u64>,
}

/// An item that was read.
#[derive(Serialize)]
#[serde(untagged)]
enum ReadItem {
    Item(ItemView),
    Same { level: ItemLevel, id: Arc<str>, revision: u64, same: bool },
}

/// `register.read`.
pub(super) struct ReadItems {
    items: Vec<WantedItem>,
    pages_of: Vec<String>,
    news_of: Vec<String>,
}

impl ReadItems {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let items = members.optional("items")?.unwrap_or_default();
        let pages_of = members.optional("pages_of")?.unwrap_or_default();
        Ok(Self { items, pages_of, news_of: members.optional("news_of")?.unwrap_or_default() })
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        bounded("items", self.items.len() + self.pages_of.len() + self.news_of.len(), MAX_PARTS)?;
        let position = register.position();
        let items = try_join_all(self.items.iter().map(|wanted| read(register, wanted))).await?;
        let mut pages = BTreeMap::new();
        for connection in &self.pages_of {
            let below = register.below(&key(ItemLevel::Connection, connection)?);
            pages.insert(connection, ids(&below).into_iter().map(str::to_owned).collect::<Vec<_>>());
        }
        let news = self.news(register).await?;
        reply(&ReadAnswer { items, pages, news, position })
    }

    /// Returns those of the pages for which `register.take` is due. A page that does not exist is not among them.
    async fn news(&self, register: &Register) -> Result<Vec<&str>, HandlerError> {
        let mut found = Vec::new();
        for id in &self.news_of {
            match register.has_news(&page(id)?).await {
                Ok(true) => found.push(id.as_str()),
                Ok(false) | Err(RegisterError::Unknown) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(found)
    }
}

/// The answer to `register.read`.
#[derive(Serialize)]
struct ReadAnswer<'a> {
    items: Vec<Option<ReadItem>>,
    /// The pages of each connection.
    pages: BTreeMap<&'a String, Vec<String>>,
    /// Those of the pages of `news_of` for which `register.take` is due.
    news: Vec<&'a str>,
    /// Position of the log that is applied here.
    position: u64,
}

async fn read(register: &Register, wanted: &WantedItem) -> Result<Option<ReadItem>, HandlerError> {
    let key = key(wanted.level, &wanted.id)?;
    let Some(stored) = register.read(&key).await.map_err(refused)? else { return Ok(None) };
    let ItemKey { level, id } = key.clone();
    Ok(Some(match stored.revision {
        revision if wanted.revision == Some(revision) => ReadItem::Same { level, id, revision, same: true },
        _ => ReadItem::Item(ItemView::stored(&key, stored)),
    }))
}

/// How a change creates an item.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CreationName {
    New,
    Replace,
}

/// A change of an item. Not flattened, because the data are not read here.
#[derive(Deserialize)]
struct ItemChange {
    level: ItemLevel,
    #[serde(default)]
    id: String,
    create: Option<CreationName>,
    if_revision: Option<u64>,
    #[serde(default)]
    fields: Fields,
    #[serde(default)]
    keep_max: BTreeMap<String, Number>,
    #[serde(default)]
    data: Data,
    #[serde(default)]
    unset: Vec<String>,
    #[serde(default)]
    delete: bool,
}

impl ItemChange {
    fn edit(self) -> Result<(ItemKey, ItemEdit), HandlerError> {
        let Self { level, id, create, if_revision, fields, keep_max, data, unset, delete } = self;
        let create = create.map(|name| match name {
            CreationName::New => Creation::New,
            CreationName::Replace => Creation::Replace,
        });
        let edit =
            ItemEdit { create, if_revision, fields, keep_max, data, unset, delete, ..ItemEdit::default() };
        Ok((key(level, &id)?, edit))
    }
}

/// `register.write`.
pub(super) struct WriteItems {
    ops: Vec<ItemChange>,
}

impl WriteItems {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        Ok(Self { ops: members.required("ops")? })
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        bounded("ops", self.ops.len(), MAX_PARTS)?;
        // nothing is written if a part is malformed
        let edits = self.ops.into_iter().map(ItemChange::edit).collect::<Result<Vec<_>, _>>()?;
        let mut results = Vec::with_capacity(edits.len());
        for (key, edit) in edits {
            match register.write(&key, &edit).await {
                Ok(revision) => results.push(json!({ "revision": revision })),
                Err(error) => {
                    results.push(json!({ "error": refused(error) }));
                    break;
                }
            }
        }
        reply(&json!({ "results": results }))
    }
}

/// `register.list`.
pub(super) struct ListItems {
    level: ItemLevel,
    filter: ItemFilter,
    with_data: bool,
}

impl ListItems {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let level = members.required("level")?;
        let equal = members.optional("where")?.unwrap_or_default();
        let filter = ItemFilter { equal, prefix: members.optional("prefix")?.unwrap_or_default() };
        Ok(Self { level, filter, with_data: members.optional("with_data")?.unwrap_or_default() })
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let found = register.list(self.level, &self.filter);
        if !self.with_data {
            return reply(&Listed { items: found.iter().map(ItemView::indexed).collect() });
        }
        bounded("items", found.len(), MAX_WITH_DATA)?;
        let read = try_join_all(found.iter().map(|item| register.read(&item.key))).await.map_err(refused)?;
        // an item that has ended meanwhile is left out
        let stored = found.iter().zip(read).filter_map(|(item, stored)| Some((&item.key, stored?)));
        reply(&Listed { items: stored.map(|(key, stored)| ItemView::stored(key, stored)).collect() })
    }
}

/// The answer to `register.list`.
#[derive(Serialize)]
struct Listed {
    items: Vec<ItemView>,
}
