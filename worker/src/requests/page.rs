//! `page.get`, `page.list` and `page.close`: the pages of the cluster, for the application of a mount.
//!
//! Owns: what an application sees of a page, and how many pages a list has. Never: how a page is closed (`application`).

use std::collections::BTreeMap;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::{Address, Key, Scope};
use pagewire_cluster::registry::{PageEntry, Registry, RowLookup};
use pagewire_cluster::wire::HandlerError;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::members::{AnyKey, Members, checked_user, malformed};
use super::{engine_unavailable, reply};
use crate::effects::Effects;
use crate::handlers::HandlerResult;

/// Most pages of one list.
const MOST: usize = 1000;

/// A page with what it belongs to.
#[derive(Serialize)]
struct PageView {
    page: Address,
    session: Address,
    connection: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// When it was first opened, in milliseconds since the Unix epoch.
    opened_ms: u64,
    /// Whether the token of the request is one of this page; missing without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<bool>,
}

impl PageView {
    fn of(key: Key, seen: &PageEntry) -> Self {
        let PageEntry { holder, session, connection, user, opened, .. } = seen;
        Self {
            page: Address { key, node: holder.node },
            session: *session,
            connection: *connection,
            user: user.as_deref().map(str::to_owned),
            opened_ms: *opened,
            proven: None,
        }
    }
}

/// What the pages belong to that a request names.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Owner {
    Page(AnyKey),
    Session(AnyKey),
    Connection(AnyKey),
    User(String),
}

impl Owner {
    /// Takes the only member of these that a request has.
    fn parse(members: &mut Members, names: &[&str]) -> Result<Self, HandlerError> {
        let found: BTreeMap<_, _> =
            names.iter().filter_map(|name| Some((*name, members.json(name)?))).collect();
        let text = serde_json::to_string(&found).unwrap_or_default();
        let one = || malformed("params", format_args!("expected one of {}", names.join(", ")));
        match found.len() {
            1 => serde_json::from_str(&text).map_err(|error| malformed("params", error)),
            _ => Err(one()),
        }
    }

    /// Returns the scope of the pages; a page is at any node.
    fn scope(self, registry: &Registry) -> Result<Scope, HandlerError> {
        Ok(match self {
            Self::Session(AnyKey(key)) => Scope::Session(key),
            Self::Connection(AnyKey(key)) => Scope::Connection(key),
            Self::User(user) => Scope::User(checked_user("user", user)?),
            Self::Page(AnyKey(key)) => {
                let node = registry.view().page(key).map(|seen| seen.holder.node);
                Scope::Page(Address { key, node: node.ok_or_else(|| unknown(key))? })
            }
        })
    }
}

/// `page.get`.
pub(super) struct GetPage {
    page: Key,
    token: Option<String>,
}

impl GetPage {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let AnyKey(page) = members.required("page")?;
        Ok(Self { page, token: members.optional("token")? })
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let node = effects.application_node()?;
        let mut found = find(&node.registry, self.page).await?.ok_or_else(|| unknown(self.page))?;
        if let Some(token) = self.token {
            found.proven = Some(node.pages.proves(&token, self.page).await?);
        }
        reply(&found)
    }
}

/// Returns a page, also one that has opened just now at another node.
async fn find(registry: &Registry, page: Key) -> Result<Option<PageView>, HandlerError> {
    if let Some(seen) = registry.view().page(page) {
        return Ok(Some(PageView::of(page, seen)));
    }
    let found = registry.find(page).await.map_err(engine_unavailable)?;
    let RowLookup::Page(row, _) = found else { return Ok(None) };
    Ok(Some(PageView {
        page: Address { key: page, node: row.node },
        session: row.session,
        connection: row.connection,
        user: row.user,
        opened_ms: row.opened,
        proven: None,
    }))
}

/// `page.list`.
pub(super) struct ListPages {
    owner: Owner,
    limit: usize,
}

impl ListPages {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let owner = Owner::parse(members, &["session", "connection", "user"])?;
        let limit = members.optional("limit")?.unwrap_or(MOST);
        let fits = (1..=MOST).contains(&limit);
        if fits { Ok(Self { owner, limit }) } else { Err(malformed("limit", "it is from 1 to 1000")) }
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let registry = &effects.application_node()?.registry;
        let scope = self.owner.scope(registry)?;
        let pages: Vec<_> = {
            let view = registry.view();
            view.pages_of(&scope).take(self.limit).map(|(key, seen)| PageView::of(key, seen)).collect()
        };
        reply(&json!({ "pages": pages }))
    }
}

/// `page.close`.
pub(super) struct ClosePages(Owner);

impl ClosePages {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        Owner::parse(members, &["page", "session", "connection", "user"]).map(Self)
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let node = effects.application_node()?;
        let scope = self.0.scope(&node.registry)?;
        let closed = node.pages.close(scope).await?;
        reply(&json!({ "closed": closed }))
    }
}

fn unknown(page: Key) -> HandlerError {
    HandlerError::new(ErrorCode::Unknown, format!("there is no page {page}"))
}
