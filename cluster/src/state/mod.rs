//! State trees of users, connections, sessions and pages, replicated to every node.
//!
//! Owns: the trees ([`Entity`](crate::id::Entity)) in the bucket `state`: paths, the total order of writes to a tree, the feed of
//! changes. Never: who may read or write a tree, or how a page is notified.
//!
//! A [`Tree`] is one JSON object. Its revision is that of its entry: it grows and is not consecutive. Any process
//! writes any tree. Each process has one writer per tree with at most one engine call in flight. Writes that arrive
//! meanwhile form the next batch, and one compare-and-set makes a batch a version ([`StateStore::write`]). The meta of
//! a version names the revision it is based on and what changed.
//!
//! One meta-only watch per process is the only feed of changes. A process keeps a replica of a tree only while it has
//! followers of it ([`StateStore::follow`]). A version that is based on the replica's revision is applied to the
//! replica; on any other event the tree is read and compared. A follower receives a snapshot and then every change
//! once, at its path or below ([`StateStore::feed`]).
//!
//! A write may carry a [`Fence`]: a tree refuses the write of an owner that another one has replaced. A tree that is
//! removed keeps its fences for an hour, as a version that exists for writers only ([`StateStore::stamp`]).
//!
//! Pure: `path` `value` `tree` `diff` `change` (trees) · `record` `fence` `batch` `writer` `cache` (writing) ·
//! `feed/{update,replica,subscriptions}` (following). Shells: `store`, `feed`.

mod batch;
mod cache;
mod change;
mod diff;
mod error;
mod feed;
mod fence;
mod gc;
mod path;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod tree_key;
mod value;
mod writer;

pub use batch::{DraftWrite, Operation};
pub use change::{Edit, TreeChange, TreeEvent};
pub use diff::diff;
pub use error::StateError;
pub use feed::{TreeNotification, TreeUpdate};
pub use fence::{Fence, MAX_FENCES};
pub use gc::OrphanTracker;

pub use path::{ClientPath, Path};
pub use store::{ReadValue, StateStore};
pub use tree::Tree;

/// Maximum size of a tree as JSON, in bytes.
pub const MAX_TREE: usize = 256 * 1024;
/// Size in bytes above which a tree is logged as large, because every version is written whole.
pub const LARGE_TREE: usize = 64 * 1024;
/// Maximum number of levels of a tree.
pub const MAX_DEPTH: usize = 32;
/// Maximum length of a key of a branch, in bytes.
pub const MAX_KEY: usize = 256;
/// Maximum number of changes in one patch.
pub const MAX_CHANGES: usize = 1000;
/// Maximum number of writes that wait for one tree in one process.
pub const MAX_WAITING: usize = 1024;
/// Maximum memory of the writes that wait for one tree in one process, in bytes.
pub const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
