//! `state.get` and `state.patch`: the state trees.
//!
//! Owns: which tree a request names. Never: the fence of a write (`effects`).

use std::sync::Arc;

use pagewire_cluster::id::{Entity, Level};
use pagewire_cluster::state::{Edit, ReadValue};
use pagewire_cluster::wire::HandlerError;
use serde::Serialize;
use serde_json::{Value, json};

use super::members::{AnyKey, Members, checked_user, malformed};
use super::reply;
use crate::effects::Effects;
use crate::handlers::HandlerResult;
use crate::outgoing::WorkIdentity;

/// A tree that a request names; without an id, the one of a level that the work belongs to.
enum NamedTree {
    Named(Entity),
    Own(Level),
}

impl NamedTree {
    fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let level = members.required("level")?;
        let named = match level {
            Level::User => {
                let user =
                    members.optional::<String>("id")?.map(|user| checked_user("id", user)).transpose()?;
                user.map(|user| Entity::User(user.into()))
            }
            level => members.optional::<AnyKey>("id")?.map(|AnyKey(key)| match level {
                Level::Page => Entity::Page(key),
                Level::Session => Entity::Session(key),
                _ => Entity::Connection(key),
            }),
        };
        Ok(named.map_or(Self::Own(level), Self::Named))
    }

    fn entity(self, work: &WorkIdentity) -> Result<Entity, HandlerError> {
        let level = match self {
            Self::Named(entity) => return Ok(entity),
            Self::Own(level) => level,
        };
        let own = match level {
            Level::User => work.user.as_deref().map(|user| Entity::User(Arc::from(user))),
            Level::Connection => work.connection.map(Entity::Connection),
            Level::Session => work.session.map(Entity::Session),
            Level::Page => work.page.map(|page| Entity::Page(page.key)),
        };
        own.ok_or_else(|| malformed("id", format_args!("it is missing, and this belongs to no {level}")))
    }
}

/// `state.get`.
pub(super) struct ReadTree {
    tree: NamedTree,
    path: String,
}

#[derive(Serialize)]
struct TreeValue {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    revision: u64,
}

impl ReadTree {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let tree = NamedTree::parse(members)?;
        Ok(Self { tree, path: members.optional("path")?.unwrap_or_default() })
    }

    pub(super) async fn run(self, effects: &Effects, work: &WorkIdentity) -> HandlerResult {
        let ReadValue { value, revision } = effects.get(&self.tree.entity(work)?, &self.path).await?;
        reply(&TreeValue { value, revision })
    }
}

/// `state.patch`.
pub(super) struct PatchTree {
    tree: NamedTree,
    changes: Vec<Edit>,
    if_revision: Option<u64>,
}

impl PatchTree {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let (tree, changes) = (NamedTree::parse(members)?, members.required("changes")?);
        Ok(Self { tree, changes, if_revision: members.optional("if_revision")? })
    }

    pub(super) async fn run(self, effects: &Effects, work: &WorkIdentity) -> HandlerResult {
        let revision = effects.patch(&self.tree.entity(work)?, self.changes, self.if_revision).await?;
        reply(&json!({ "revision": revision }))
    }
}
