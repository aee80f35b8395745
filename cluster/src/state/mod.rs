//! State trees: one truth at four levels.
//!
//! Owns: trees of users, connections, sessions and pages ([`Owner`]) in the bucket `state`: paths, the one order of
//! their writes, the feed of their changes. Never: who may read or write them, or how a page is told.

mod change;
mod diff;
mod owner;
mod path;
mod refusal;
mod tree;
mod value;

pub use change::{Change, Edit, Event};
pub use diff::diff;
pub use owner::{Level, Owner};
pub use path::{Locator, Path};
pub use refusal::Refusal;
pub use tree::Tree;

/// The largest tree, in bytes as JSON.
pub const MAX_TREE: usize = 256 * 1024;
/// The most levels of a tree.
pub const MAX_DEPTH: usize = 32;
/// The longest key of a branch, in bytes.
pub const MAX_KEY: usize = 256;
/// The most changes of one patch.
pub const MAX_CHANGES: usize = 1000;
