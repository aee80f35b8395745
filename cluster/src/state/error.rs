//! Errors of reading and changing a tree.
//!
//! Owns: the causes. Never: their codes, or how an error is sent to a caller.

use crate::code::ErrorCode;

/// A rejected or failed request for a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The text is not a path.
    #[error(
        "not a path: keys of 1 to 256 bytes with dots between them, at most 32; `#n` is the child at position n; \
         write `\\.`, `\\#` and `\\\\` for the characters themselves"
    )]
    Path,
    /// `#n` is beyond the last child.
    #[error("the path names child #{0}, which does not exist")]
    Child(usize),
    /// The new value of a whole tree is not an object.
    #[error("a whole tree can only be replaced by an object")]
    Root,
    /// The change has neither a value nor a deletion, or both.
    #[error("a change has either a value or `delete: true`")]
    Change,
    /// The tree would have more than [`MAX_DEPTH`](super::MAX_DEPTH) levels.
    #[error("a tree is at most 32 levels deep")]
    Depth,
    /// A key is longer than [`MAX_KEY`](super::MAX_KEY), or empty.
    #[error("a key has 1 to 256 bytes")]
    Key,
    /// The tree would be larger than [`MAX_TREE`](super::MAX_TREE).
    #[error("a tree has at most 256 KiB as JSON")]
    Size,
    /// Over what this writer may make of it.
    #[error("a page without a user may fill a tree up to {0} bytes as JSON (limits.anonymous_tree_bytes)")]
    Share(usize),
    /// The patch has more than [`MAX_CHANGES`](super::MAX_CHANGES) changes.
    #[error("a patch has at most 1,000 changes")]
    Changes,
    /// `if_revision` is not the tree's revision.
    #[error("the tree is at revision {revision}")]
    Conflict {
        /// Current revision of the tree; 0 for a tree that does not exist.
        revision: u64,
    },
    /// The tree has seen a later term of the same owner.
    #[error("another executor has taken this work over (term {term}): nothing was written")]
    Stale {
        /// Last term of the owner.
        term: u64,
    },
    /// Too many writes wait for this tree, or other writers were faster too often.
    #[error("too many writes to this tree at once")]
    Overloaded,
    /// The engine is unavailable; nothing was written.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
    /// The engine did not report the outcome of the write.
    #[error("the write may or may not have happened")]
    Uncertain,
}

impl StateError {
    /// Returns the code for programs, as in the browser protocol and the server API.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Path | Self::Root | Self::Change => ErrorCode::Malformed,
            Self::Child(_) => ErrorCode::Unknown,
            Self::Depth | Self::Key | Self::Size | Self::Share(_) | Self::Changes => ErrorCode::TooLarge,
            Self::Conflict { .. } => ErrorCode::Conflict,
            Self::Stale { .. } => ErrorCode::Stale,
            Self::Overloaded => ErrorCode::RateLimited,
            Self::Unavailable => ErrorCode::Unavailable,
            Self::Uncertain => ErrorCode::Timeout,
        }
    }
}
