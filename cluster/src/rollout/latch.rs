//! Aborts of lanes that hold before a document says so. Pure.
//!
//! Owns: which latches a process holds, for which document one is valid, and when it ends. Never: how latches reach other
//! processes (`latches`), or how one becomes a revision (`latches::write`).
//!
//! A latch closes a lane and does nothing else: it gives no lane a user. It is valid for revisions of one document up to its own.
//! The revision after it ends it, because that revision contains the abort, or was written by someone who has decided
//! otherwise. So a latch that is sent again later has no effect.

use std::collections::BTreeMap;

use super::spec::RolloutSpec;
use crate::wire::{AbortLatch, SignedLatch};

/// Maximum number of latches that a process holds.
pub(super) const MAX_LATCHES: usize = 64;

/// The lanes of a pool that latches close, and the last revision for which each is closed.
pub(super) type ClosedLanes = BTreeMap<String, u64>;

/// A genuine latch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldLatch {
    /// What it says.
    pub(super) latch: AbortLatch,
    /// The same as its signer wrote it.
    pub(super) signed: SignedLatch,
}

/// What became of a latch that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// It is held from now on.
    New,
    /// It was held already, or one of a later revision.
    Known,
    /// The document has a later revision.
    Passed,
    /// It belongs to no document that this process has applied.
    Foreign,
    /// This process holds as many as it may.
    Full,
}

/// The latches that a process holds: at most one per pool and lane.
#[derive(Debug, Default)]
pub(super) struct LatchSet(BTreeMap<(String, String), HeldLatch>);

impl LatchSet {
    /// Holds a genuine latch, if it is valid for the document of its pool.
    pub(super) fn hold(&mut self, held: HeldLatch, document: Option<&RolloutSpec>) -> Holding {
        match document {
            None => return Holding::Foreign,
            Some(document) if document.origin != held.latch.origin => return Holding::Foreign,
            Some(document) if document.rev > held.latch.revision => return Holding::Passed,
            Some(_) => {}
        }
        let key = (held.latch.pool.clone(), held.latch.lane.clone());
        let known = self.0.get(&key).map(|known| known.latch.revision);
        if known.is_some_and(|known| known >= held.latch.revision) {
            return Holding::Known;
        }
        if known.is_none() && self.0.len() >= MAX_LATCHES {
            return Holding::Full;
        }
        self.0.insert(key, held);
        Holding::New
    }

    /// Drops the latches that a document ends.
    pub(super) fn apply(&mut self, document: &RolloutSpec) {
        self.0.retain(|_, held| held.latch.pool != document.pool || is_valid(&held.latch, document));
    }

    /// Drops the latches of a pool without a document.
    pub(super) fn drop_pool(&mut self, pool: &str) {
        self.0.retain(|_, held| held.latch.pool != pool);
    }

    /// Returns the lanes of a document that are closed. The base lane never is.
    pub(super) fn closed(&self, document: &RolloutSpec) -> ClosedLanes {
        let held = self.0.values().map(|held| &held.latch);
        let closing = held.filter(|latch| latch.pool == document.pool && latch.lane != document.base);
        closing.map(|latch| (latch.lane.clone(), latch.revision)).collect()
    }

    /// Whether this very latch is held.
    pub(super) fn holds(&self, signed: &SignedLatch) -> bool {
        self.0.values().any(|held| held.signed == *signed)
    }

    /// Returns all of them.
    pub(super) fn list(&self) -> Vec<HeldLatch> {
        self.0.values().cloned().collect()
    }
}

fn is_valid(latch: &AbortLatch, document: &RolloutSpec) -> bool {
    latch.origin == document.origin && document.rev <= latch.revision
}

#[cfg(test)]
mod tests;
