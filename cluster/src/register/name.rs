//! The names of registers and of their items.
//!
//! Owns: which names exist, and the keys of their rows. Never: what an item contains.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::RegisterError;
use crate::id::Key;
use crate::subject::{SubjectToken, register_key};

/// Longest name of a register, in bytes.
const MAX_NAME: usize = 32;
/// Longest id of an item, in bytes.
const MAX_ID: usize = 200;

/// The name of a register: 1 to 32 lower case letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegisterName(Arc<str>);

impl RegisterName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Name`] for any other text.
    pub fn new(name: &str) -> Result<Self, RegisterError> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_allowed);
        if fits { Ok(Self(name.into())) } else { Err(RegisterError::Name) }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegisterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The level of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemLevel {
    /// The one item of the whole application; it has no id.
    Global,
    /// A user.
    User,
    /// A browser.
    Connection,
    /// A page.
    Page,
}

impl ItemLevel {
    const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::User => "user",
            Self::Connection => "connection",
            Self::Page => "page",
        }
    }
}

/// The level and the id of an item. The id is any text of 1 to 200 bytes, and empty for the global item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemKey {
    /// The level.
    pub level: ItemLevel,
    /// The id.
    pub id: Arc<str>,
}

impl ItemKey {
    /// Checks an id.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Id`] if the id is missing, too long, or one of the global item.
    pub fn new(level: ItemLevel, id: &str) -> Result<Self, RegisterError> {
        let fits = match level {
            ItemLevel::Global => id.is_empty(),
            _ => (1..=MAX_ID).contains(&id.len()),
        };
        if fits { Ok(Self { level, id: id.into() }) } else { Err(RegisterError::Id) }
    }

    /// Returns the key of the row.
    pub(super) fn row(&self, register: &RegisterName) -> String {
        register_key::item(register.as_str(), self.level.name(), &SubjectToken::new(&self.id))
    }

    /// Returns the key of the row that says how far a page has taken the log.
    pub(super) fn cursor(&self, register: &RegisterName) -> String {
        register_key::cursor(register.as_str(), SubjectToken::new(&self.id))
    }
}

/// Returns the key of a new row of the log.
pub(super) fn entry_row(register: &RegisterName) -> String {
    register_key::entry(register.as_str(), Key::random())
}

/// Returns the register and the level that the key of the row of an item names.
pub(super) fn item_of(key: &str) -> Option<(&str, ItemLevel)> {
    let mut tokens = key.strip_prefix(register_key::ITEMS)?.split('.');
    let (register, level) = (tokens.next()?, tokens.next()?);
    let levels = [ItemLevel::Global, ItemLevel::User, ItemLevel::Connection, ItemLevel::Page];
    Some((register, levels.into_iter().find(|known| known.name() == level)?))
}

/// Returns the key of the cursor of a page, given the key of the row of the page; `None` for other rows.
pub(super) fn cursor_of(key: &str) -> Option<String> {
    let (register, level) = item_of(key)?;
    let (_, page) = key.rsplit_once('.')?;
    (level == ItemLevel::Page).then(|| register_key::cursor(register, page))
}

/// Returns the register that the key of a row of the log names.
pub(super) fn log_of(key: &str) -> Option<&str> {
    key.strip_prefix(register_key::LOG)?.split('.').next()
}
