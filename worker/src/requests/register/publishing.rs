//! `register.publish`, `register.take`, `register.withdraw` and `register.tables`: what is published to pages.
//!
//! Owns: the shapes of these requests. Never: which pages a publication is for (`pagewire_cluster::register`).

use pagewire_cluster::register::{ItemLevel, MAX_PARTS, Publication, Recipients, Register};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::members::malformed;
use super::super::reply;
use super::{bounded, key, page, refused};
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
#[derive(Deserialize)]
pub(super) struct Publish {
    entries: Vec<NewPublication>,
}

impl Publish {
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
#[derive(Deserialize)]
pub(super) struct Take {
    page: String,
    #[serde(default)]
    peek: bool,
}

impl Take {
    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        reply(&register.take(&page(&self.page)?, self.peek).await.map_err(refused)?)
    }
}

/// `register.withdraw`.
#[derive(Deserialize)]
pub(super) struct Withdraw {
    page: Option<String>,
    user: Option<String>,
    path: String,
}

impl Withdraw {
    pub(super) async fn run(self, register: &Register) -> HandlerResult {
        let of = match (self.page, self.user) {
            (Some(id), None) => page(&id)?,
            (None, Some(id)) => key(ItemLevel::User, &id)?,
            _ => return Err(malformed("params", "expected either page or user")),
        };
        let withdrawn = register.withdraw(&of, &self.path).await.map_err(refused)?;
        reply(&json!({ "withdrawn": withdrawn }))
    }
}

/// `register.tables`.
#[derive(Deserialize)]
pub(super) struct FollowedTables {
    tables: Vec<String>,
}

impl FollowedTables {
    pub(super) fn run(self, register: &Register) -> HandlerResult {
        reply(&json!({ "tables": register.followed(&self.tables) }))
    }
}
