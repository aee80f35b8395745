//! What is published to pages, and which pages it is for. Pure.
//!
//! Owns: the shape of a row of the log, and whether a publication is for a page. Never: which of them a page has taken.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::item::{Fields, ItemHead};
use super::{MAX_MESSAGE, MAX_NAMED_PAGES, RegisterError};
use crate::engine::MAX_META;
use crate::wire;

/// The pages that a publication is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Recipients {
    /// One page.
    Page {
        /// Id of the page.
        page: Arc<str>,
    },
    /// These pages.
    Pages {
        /// Ids of the pages, at most [`MAX_NAMED_PAGES`].
        pages: Vec<Arc<str>>,
    },
    /// The pages of a connection.
    Connection {
        /// Id of the connection.
        connection: Arc<str>,
    },
    /// The pages of a user; with a path only those that follow a prefix of it.
    User {
        /// The user.
        user: Arc<str>,
        /// The path of the change.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// The pages that follow a table, the origin too.
    Table {
        /// Name of the table.
        table: String,
    },
    /// The pages with these fields.
    Where {
        /// Fields and their values.
        #[serde(rename = "where")]
        fields: Fields,
    },
    /// All pages.
    All {
        /// Always `true`.
        all: bool,
    },
}

impl Recipients {
    /// Whether a publication at this position of the log is for a page.
    pub(super) fn include(&self, page: &ItemHead, position: u64) -> bool {
        let is_after = |since: &u64| *since < position;
        if !is_after(&page.since) {
            return false;
        }
        let is_of_user = |user: &str| page.text("user") == Some(user);
        match self {
            Self::Page { page: id } => *id == page.id,
            Self::Pages { pages } => pages.contains(&page.id),
            Self::Connection { connection } => page.text("connection") == Some(connection),
            Self::User { user, path: None } => is_of_user(user),
            Self::User { user, path: Some(path) } => {
                let follows = |(prefix, since): (&String, &u64)| path.starts_with(prefix) && is_after(since);
                is_of_user(user) && page.paths.iter().any(follows)
            }
            Self::Table { table } => page.tables.get(table).is_some_and(is_after),
            Self::Where { fields } => fields.iter().all(|(name, value)| page.fields.get(name) == Some(value)),
            Self::All { all } => *all,
        }
    }

    fn is_valid(&self) -> bool {
        !matches!(self, Self::Pages { pages } if pages.len() > MAX_NAMED_PAGES)
    }
}

/// Something that is published to pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publication {
    /// The pages that it is for.
    pub to: Recipients,
    /// The changes that the pages get: any JSON.
    pub changes: Vec<Box<RawValue>>,
    /// The page that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Why it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Publication {
    /// Whether all changes are objects with a `path` that begins with this one.
    pub(super) fn is_below(&self, path: &str) -> bool {
        self.changes.iter().all(|change| {
            let found = serde_json::from_str::<ChangePath>(change.get());
            found.is_ok_and(|found| found.path.starts_with(path))
        })
    }
}

/// The path of a change, if it has one.
#[derive(Deserialize)]
struct ChangePath {
    path: String,
}

/// A publication that a page has taken, at its position of the log.
#[derive(Debug, Clone, Serialize)]
pub struct LogEntry {
    /// The position. The publications of one message have the same.
    pub position: u64,
    /// The publication.
    #[serde(flatten)]
    pub publication: Publication,
}

/// The meta of a row of the log: the recipients of its publications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EntryHead {
    /// Recipients of each publication; `None` if they do not fit here, so that the value has to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<Vec<Recipients>>,
}

impl EntryHead {
    /// Reads the meta of a row. `None` for a row of an unknown shape.
    pub(super) fn decode(meta: &Bytes) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }
}

/// Returns the meta and the value of a row of the log.
///
/// # Errors
///
/// [`RegisterError::Message`] and [`RegisterError::Pages`] if it is too large.
pub(super) fn encode(publications: &[Publication]) -> Result<(Bytes, Bytes), RegisterError> {
    if !publications.iter().all(|publication| publication.to.is_valid()) {
        return Err(RegisterError::Pages);
    }
    let value = wire::encode(&publications);
    if value.len() > MAX_MESSAGE {
        return Err(RegisterError::Message);
    }
    let to = publications.iter().map(|publication| publication.to.clone()).collect();
    let meta = wire::encode(&EntryHead { to: Some(to) });
    let meta = if meta.len() > MAX_META { wire::encode(&EntryHead { to: None }) } else { meta };
    Ok((meta, value))
}

/// Reads the value of a row of the log.
pub(super) fn decode(value: &Bytes) -> Option<Vec<Publication>> {
    serde_json::from_slice(value).ok()
}
