//! Errors of reading and changing a register.
//!
//! Owns: the causes. Never: how an error is sent to a process.

use super::{MAX_DATA, MAX_FIELDS, MAX_MESSAGE, MAX_NAMED_PAGES};
use crate::code::ErrorCode;
use crate::engine::Unavailable;

/// A rejected or failed request for a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Not the name of a register.
    #[error("the name of a register has 1 to 32 lower case letters, digits and `-`")]
    Name,
    /// Not the id of an item of that level.
    #[error("an id has 1 to 200 bytes, and the global item has none")]
    Id,
    /// The item does not exist.
    #[error("there is no such item")]
    Unknown,
    /// The item exists, or is not at the expected revision.
    #[error("the item is at revision {revision}")]
    Conflict {
        /// Current revision of the item; 0 for an item that does not exist.
        revision: u64,
    },
    /// The fields are too large.
    #[error("the fields of an item have at most {MAX_FIELDS} bytes as JSON")]
    Fields,
    /// The data are too large.
    #[error("the data of an item have at most {MAX_DATA} bytes as JSON")]
    Data,
    /// The message is too large.
    #[error("what is published at once has at most {MAX_MESSAGE} bytes as JSON")]
    Message,
    /// A publication names too many pages.
    #[error("a publication names at most {MAX_NAMED_PAGES} pages")]
    Pages,
    /// A field that the server writes itself.
    #[error("the fields `tables` and `paths` are written by `register.subscribe` only")]
    Reserved,
    /// Other writers were faster too often.
    #[error("too many writes to this item at once")]
    Overloaded,
    /// The engine is unavailable; nothing was written.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
    /// The engine did not report the outcome of the write.
    #[error("the write may or may not have happened: read the item again")]
    Uncertain,
}

impl RegisterError {
    /// Returns the code for programs.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Name | Self::Id | Self::Reserved => ErrorCode::Malformed,
            Self::Unknown => ErrorCode::Unknown,
            Self::Conflict { .. } => ErrorCode::Conflict,
            Self::Fields | Self::Data | Self::Message | Self::Pages => ErrorCode::TooLarge,
            Self::Overloaded => ErrorCode::RateLimited,
            Self::Unavailable => ErrorCode::Unavailable,
            Self::Uncertain => ErrorCode::Timeout,
        }
    }
}

impl From<Unavailable> for RegisterError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}
