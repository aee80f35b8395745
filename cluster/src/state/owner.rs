//! The owner of a tree.
//!
//! Owns: the four levels and the keys of their trees. Never: who may read or write them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Key;
use crate::subject::{SubjectToken, state_key};

/// The levels that have trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// An identity; anonymous pages have none.
    User,
    /// A browser or device.
    Connection,
    /// A master page and its iframes.
    Session,
    /// One tab or iframe.
    Page,
}

impl Level {
    /// All levels, the highest first.
    pub const ALL: [Self; 4] = [Self::User, Self::Connection, Self::Session, Self::Page];

    /// Returns the name used in every protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Connection => "connection",
            Self::Session => "session",
            Self::Page => "page",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The entity that a tree belongs to. Below the level of users the key does not contain the user, so that a
/// connection keeps its tree when a login changes its user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A user.
    User(String),
    /// A connection.
    Connection(Key),
    /// A session.
    Session(Key),
    /// A page.
    Page(Key),
}

impl Owner {
    /// Returns the level of the tree.
    pub const fn level(&self) -> Level {
        match self {
            Self::User(_) => Level::User,
            Self::Connection(_) => Level::Connection,
            Self::Session(_) => Level::Session,
            Self::Page(_) => Level::Page,
        }
    }

    /// Parses a key of the bucket `state`. Returns `None` for user trees, because their keys cannot be parsed back.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let below = |prefix: &str| key.strip_prefix(prefix)?.parse::<Key>().ok();
        let connection = below(state_key::CONNECTIONS).map(Self::Connection);
        let session = || below(state_key::SESSIONS).map(Self::Session);
        connection.or_else(session).or_else(|| below(state_key::PAGES).map(Self::Page))
    }

    /// Returns the key of the tree in the bucket `state`.
    pub fn key(&self) -> String {
        match self {
            Self::User(user) => state_key::user(&SubjectToken::new(user)),
            Self::Connection(connection) => state_key::connection(*connection),
            Self::Session(session) => state_key::session(*session),
            Self::Page(page) => state_key::page(*page),
        }
    }
}
