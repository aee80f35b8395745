//! The keys of trees.
//!
//! Owns: the key of the tree of an entity, and parsing it back. Never: who may read or write a tree.

use crate::id::{Entity, Key};
use crate::subject::{SubjectToken, state_key};

impl Entity {
    /// Parses a key of the bucket `state`. Returns `None` for user trees, because their keys cannot be parsed back.
    pub(crate) fn of_tree_key(key: &str) -> Option<Self> {
        let below = |prefix: &str| key.strip_prefix(prefix)?.parse::<Key>().ok();
        let connection = below(state_key::CONNECTIONS).map(Self::Connection);
        let session = || below(state_key::SESSIONS).map(Self::Session);
        connection.or_else(session).or_else(|| below(state_key::PAGES).map(Self::Page))
    }

    /// Returns the key of the tree in the bucket `state`.
    pub fn tree_key(&self) -> String {
        match self {
            Self::User(user) => state_key::user(&SubjectToken::new(user)),
            Self::Connection(connection) => state_key::connection(*connection),
            Self::Session(session) => state_key::session(*session),
            Self::Page(page) => state_key::page(*page),
        }
    }
}
