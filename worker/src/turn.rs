//! What a worker knows of a turn row.

use pagewire_cluster::job::NamedAttempt;

/// A turn row of this worker, as it wrote or read the row last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Revision of the row.
    pub(crate) rev: u64,
    /// Term of this worker.
    pub(crate) term: u64,
    /// The attempt that the row names.
    pub(crate) named: Option<NamedAttempt>,
    /// Whether no write can claim the named attempt any more.
    pub(crate) settled: bool,
}
