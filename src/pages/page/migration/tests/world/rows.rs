//! The row of the page with its history, and the versions that each node has seen.

use super::NODES;

/// The node that won the page, its generation, and the old holder that may hand the page over.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) node: usize,
    pub(super) generation: u32,
    pub(super) prev: Option<usize>,
}

/// All versions; the revision of the newest is their number.
pub(super) struct Rows {
    versions: Vec<Row>,
    seen: [usize; NODES],
}

impl Rows {
    pub(super) fn new(first: Row) -> Self {
        Self { versions: vec![first], seen: [0; NODES] }
    }

    pub(super) fn now(&self) -> Row {
        self.versions[self.versions.len() - 1]
    }

    pub(super) fn rev(&self) -> u64 {
        self.versions.len() as u64
    }

    /// Writes a version and returns its revision.
    pub(super) fn write(&mut self, row: Row) -> u64 {
        self.versions.push(row);
        self.rev()
    }

    /// The next version that a node sees, up to a revision.
    pub(super) fn see(&mut self, node: usize, rev: u64) -> Option<(u64, Row)> {
        let seen = self.seen[node];
        if seen as u64 >= rev {
            return None;
        }
        self.seen[node] += 1;
        Some((self.seen[node] as u64, self.versions[seen]))
    }
}
