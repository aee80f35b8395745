//! State trees: one truth at four levels.
//!
//! Owns: trees of users, connections, sessions and pages ([`Owner`]) in the bucket `state`: paths, the one order of
//! their writes, the feed of their changes. Never: who may read or write them, or how a page is told.
//!
//! A [`Tree`] is one JSON object. Its entry's revision is the tree's: it grows and is not consecutive. Any process
//! writes any tree: a writer per tree and process has one call under way, what is asked meanwhile is the next batch, and
//! one compare-and-set makes a batch a version ([`States::write`]). The version's meta says on which revision it was
//! made and what changed.
//!
//! One meta-only watch per process is the only feed of changes. A process keeps a replica of a tree only while somebody
//! here follows it ([`States::follow`]): a version that follows on the replica is applied to it, after anything else the
//! tree is read and compared. A follower is told a snapshot and then every change once, at its path or below
//! ([`States::feed`]).
//!
//! Pure: `path` `value` `tree` `diff` `change` (trees) · `record` `draft` `writer` `shelf` (writing) ·
//! `feed/{news,followed,followers}` (following). Shells: `states`, `feed`.

mod change;
mod diff;
mod draft;
mod feed;
mod orphans;
mod owner;
mod path;
mod record;
mod refusal;
mod shelf;
mod states;
#[cfg(test)]
mod tests;
mod tree;
mod value;
mod writer;

pub use change::{Change, Edit, Event};
pub use diff::diff;
pub use draft::{Act, Write};
pub use feed::{Delivery, News};
pub use orphans::Orphans;
pub use owner::{Level, Owner};
pub use path::{Locator, Path};
pub use refusal::Refusal;
pub use states::{Reading, States};
pub use tree::Tree;

/// The largest tree, in bytes as JSON.
pub const MAX_TREE: usize = 256 * 1024;
/// A tree above this size is worth a warning: every version is written whole.
pub const LARGE_TREE: usize = 64 * 1024;
/// The most levels of a tree.
pub const MAX_DEPTH: usize = 32;
/// The longest key of a branch, in bytes.
pub const MAX_KEY: usize = 256;
/// The most changes of one patch.
pub const MAX_CHANGES: usize = 1000;
/// The most writes that wait for a tree in one process.
pub const MAX_WAITING: usize = 1024;
/// The most bytes of them.
pub const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
