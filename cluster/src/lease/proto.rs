//! The wire versions that a process supports, and whether it may join the living ones.
//!
//! Owns: the comparison of ranges. Never: what a version means (`wire`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::Entry;

/// The oldest wire version that this release supports.
pub const PROTO_MIN: u32 = 1;
/// The newest wire version that this release supports.
pub const PROTO_MAX: u32 = 1;

/// A range of wire versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proto {
    /// The oldest version.
    pub min: u32,
    /// The newest version.
    pub max: u32,
}

impl Default for Proto {
    fn default() -> Self {
        Self { min: PROTO_MIN, max: PROTO_MAX }
    }
}

impl Proto {
    /// Returns whether two processes have a version in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// Error: a process has no wire version in common with a living process of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "incompatible: this process supports the cluster protocol {own}, but {member} of the cluster supports {theirs}; \
     use a release in between, or stop the other processes first"
)]
pub struct Incompatible {
    /// The range of this process.
    pub own: Proto,
    /// The range of the living process.
    pub theirs: Proto,
    /// The key of its lease.
    pub member: String,
}

/// The fields that the lease rows of all kinds have.
#[derive(Debug, Deserialize)]
pub(super) struct RowHead {
    #[serde(default)]
    epoch: Option<u64>,
    #[serde(default)]
    proto: Option<Proto>,
}

impl RowHead {
    /// Returns the epoch of a lease row of any kind.
    pub(super) fn epoch(entry: &Entry) -> u64 {
        let head = serde_json::from_slice::<Self>(&entry.meta).ok();
        head.and_then(|head| head.epoch).unwrap_or(entry.rev)
    }
}

/// Returns why a process may not join: the first living process without a common version. `before` limits the check to
/// claims that are older than an epoch, so that of two processes that join at the same time one stays.
pub(super) fn refusal(own: Proto, rows: &[Entry], before: Option<u64>) -> Option<Incompatible> {
    rows.iter().find_map(|entry| {
        // a row without a range is of an unknown shape and shows no conflict
        let theirs = serde_json::from_slice::<RowHead>(&entry.meta).ok()?.proto?;
        let is_older = before.is_none_or(|epoch| RowHead::epoch(entry) < epoch);
        (is_older && !own.overlaps(theirs)).then(|| Incompatible { own, theirs, member: entry.key.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, rev: u64, meta: &str) -> Entry {
        let (op, meta) = (Default::default(), meta.to_owned().into());
        Entry { key: key.to_owned(), rev, op, meta, value: Default::default() }
    }

    #[test]
    fn ranges_overlap_when_they_have_a_version_in_common() {
        let range = |min, max| Proto { min, max };
        assert!(range(1, 2).overlaps(range(2, 3)) && range(1, 9).overlaps(range(3, 4)));
        assert!(!range(1, 2).overlaps(range(3, 4)) && !range(3, 4).overlaps(range(1, 2)));
    }

    #[test]
    fn a_process_without_a_common_version_is_refused_by_the_first_that_came_before_it() {
        let rows = [
            row("lease.p01", 8, r#"{"epoch":3,"proto":{"min":1,"max":2}}"#),
            row("worker.p.l.x", 5, r#"{"proto":{"min":4,"max":4}}"#),
            row("later", 6, r#"{"of":"a later release"}"#),
        ];
        let own = Proto { min: 2, max: 3 };
        let refused = refusal(own, &rows, None).unwrap();
        assert_eq!((refused.theirs, refused.member.as_str()), (Proto { min: 4, max: 4 }, "worker.p.l.x"));
        let text = refused.to_string();
        assert!(text.contains("2 to 3") && text.contains("4 to 4"), "{text}");
        assert_eq!(refusal(own, &rows, Some(5)), None, "the worker came later");
        assert!(refusal(own, &rows, Some(6)).is_some());
        assert_eq!(refusal(own, &rows[..1], None), None);
    }
}
