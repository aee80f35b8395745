//! `login.begin` and `login.end`: the users of an application of a mount become the users of its pages.
//!
//! Owns: how long a login is valid, and which pages end with it. Never: the token (`application`), or the cookie in an
//! answer of HTTP, which the application sets.

use std::time::Duration;

use pagewire_cluster::id::{Key, Scope};
use pagewire_cluster::registry::Registry;
use pagewire_cluster::timing::LOGIN_LONGEST;
use pagewire_cluster::wire::HandlerError;
use serde_json::json;

use super::members::{AnyKey, Members, checked_user, malformed};
use super::reply;
use crate::effects::Effects;
use crate::handlers::HandlerResult;

/// Seconds for which a login is valid if the application does not say it: a day.
const DEFAULT_S: u64 = 86_400;

/// `login.begin`.
pub(super) struct BeginLogin {
    user: String,
    valid_s: u64,
}

impl BeginLogin {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let user = checked_user("user", members.required("user")?)?;
        let valid_s = members.optional("valid_s")?.unwrap_or(DEFAULT_S);
        let fits = (1..=LOGIN_LONGEST.as_secs()).contains(&valid_s);
        if fits { Ok(Self { user, valid_s }) } else { Err(malformed("valid_s", "it is from 1 to 34560000")) }
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let logins = &effects.application_node()?.logins;
        let token = logins.issue(&self.user, Duration::from_secs(self.valid_s))?;
        reply(&json!({ "cookie": logins.cookie()?, "token": token, "valid_s": self.valid_s }))
    }
}

/// `login.end`.
pub(super) struct EndLogin {
    user: Option<String>,
    connection: Option<Key>,
    /// Whether all logins of the user end, and not only that of a browser.
    everywhere: bool,
}

impl EndLogin {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let user: Option<String> =
            members.optional("user")?.map(|user| checked_user("user", user)).transpose()?;
        let everywhere = members.optional("everywhere")?.unwrap_or_default();
        if everywhere && user.is_none() {
            return Err(malformed("user", "it says all logins of whom end"));
        }
        let connection = members.optional("connection")?.map(|AnyKey(key)| key);
        Ok(Self { user, connection: connection.filter(|_| !everywhere), everywhere })
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let node = effects.application_node()?;
        let cookie = match (self.everywhere, self.user.as_deref()) {
            // before the pages close, because browsers open them again at once
            (true, Some(user)) => {
                node.logins.end_all(user).await?;
                node.logins.cookie().ok()
            }
            _ => Some(node.logins.cookie()?),
        };
        let scope = self.scope(&node.registry);
        let closed = match scope {
            Some(scope) => node.pages.close(scope).await?,
            None => 0,
        };
        reply(&json!({ "cookie": cookie, "closed": closed }))
    }

    /// Returns the pages that end: those of the connection if it is the user's, else all of the user.
    fn scope(self, registry: &Registry) -> Option<Scope> {
        let user = self.user?;
        let owner = |key: Key| registry.view().connection(key).and_then(|seen| seen.user);
        let own = self.connection.filter(|key| owner(*key).as_deref() == Some(user.as_str()));
        Some(own.map_or_else(|| Scope::User(user), Scope::Connection))
    }
}
