//! `register.publish`, `register.take`, `register.withdraw` and `register.tables`: what is published to pages.
//!
//! Owns: the shapes of these requests. Never: which pages a publication is for (`pagewire_cluster::register`).

use pagewire_cluster::register::{ItemKey, ItemLevel, MAX_PARTS, Publication, Recipients, Register};
use pagewire_cluster::wire::HandlerError;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::members::{Members, malformed};
use super::super::reply;
use super::{bounded, key, named_page, page, refused};
use crate::handlers::HandlerResult;

/// A publication, as a request names it.
#[derive(Deserialize)]
struct NewPublication {
    to: Box<RawValue>,
    changes: Vec<Box<RawValue>>,
    origin: Option<String>,
    reason: Option<String>,
}

/// `register.publish`.
pub(super) struct Publish {
    entries: Vec<NewPublication>,
}

impl Publish {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        Ok(Self { entries: members.required("entries")? })
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        bounded("entries", self.entries.len(), MAX_PARTS)?;
        let mut publications = Vec::with_capacity(self.entries.len());
        for NewPublication { to, changes, origin, reason } in self.entries {
            let expected = "expected one of page, pages, connection, user, user and path, table, where, all";
            let to: Recipients =
                serde_json::from_str(to.get()).map_err(|_| malformed("entries.to", expected))?;
            publications.push(Publication { to, changes, origin, reason });
        }
        if publications.is_empty() {
            return reply(&json!({ "position": register.position(), "pages": [] }));
        }
        let (position, pages) = register.publish(&publications).await.map_err(refused)?;
        reply(&json!({ "position": position, "pages": pages }))
    }
}

/// `register.take`.
pub(super) struct Take {
    page: ItemKey,
    peek: bool,
    /// The position of the log that the answer must not be older than.
    position: Option<u64>,
}

impl Take {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let peek = members.optional("peek")?.unwrap_or_default();
        Ok(Self { page: named_page(members)?, peek, position: members.optional("position")? })
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        if let Some(position) = self.position {
            register.reach(position).await;
        }
        reply(&register.take(&self.page, self.peek).await.map_err(refused)?)
    }
}

/// `register.withdraw`.
pub(super) struct Withdraw {
    of: ItemKey,
    path: String,
}

impl Withdraw {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let of = match (members.optional::<String>("page")?, members.optional::<String>("user")?) {
            (Some(id), None) => page(&id)?,
            (None, Some(id)) => key(ItemLevel::User, &id)?,
            _ => return Err(malformed("params", "expected either page or user")),
        };
        Ok(Self { of, path: members.required("path")? })
    }

    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let withdrawn = register.withdraw(&self.of, &self.path).await.map_err(refused)?;
        reply(&json!({ "withdrawn": withdrawn }))
    }
}

/// `register.tables`.
pub(super) struct FollowedTables {
    tables: Vec<String>,
}

impl FollowedTables {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        Ok(Self { tables: members.required("tables")? })
    }

    pub(super) fn run(self, register: &Register) -> HandlerResult {
        reply(&json!({ "tables": register.followed(&self.tables) }))
    }
}
