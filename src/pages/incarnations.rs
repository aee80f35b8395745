//! The earlier incarnations of this node in this process.
//!
//! Owns: which epochs of this node's number belong to this process, and whether rows still wait to be written for the
//! present one. Never: the lease, or a row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagewire_cluster::id::Holder;

/// Maximum number of earlier incarnations that are remembered: a row of an earlier one is still this process's own.
const REMEMBERED: usize = 16;

/// The incarnations (epochs) of this node that ended because its lease was lost.
#[derive(Debug, Default)]
pub(super) struct Incarnations {
    past: Mutex<Vec<Holder>>,
    rewriting: AtomicBool,
}

impl Incarnations {
    /// Each change leaves the list consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, Vec<Holder>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the end of an incarnation. From here on, until [`Incarnations::rewritten`], some pages of this node may
    /// have no row of the present one.
    pub(super) fn ended(&self, holder: Holder) {
        let mut past = self.lock();
        if past.len() == REMEMBERED {
            past.remove(0);
        }
        past.push(holder);
        self.rewriting.store(true, Ordering::Release);
    }

    /// Records that every page has a row of the present incarnation.
    pub(super) fn rewritten(&self) {
        self.rewriting.store(false, Ordering::Release);
    }

    /// Whether some pages may have no row of the present incarnation.
    pub(super) fn is_rewriting(&self) -> bool {
        self.rewriting.load(Ordering::Acquire)
    }

    /// Whether this process was the holder.
    pub(super) fn contains(&self, holder: Holder) -> bool {
        self.lock().contains(&holder)
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::NodeNumber;

    use super::*;

    #[test]
    fn the_latest_incarnations_are_remembered() {
        let incarnations = Incarnations::default();
        let at = |epoch| Holder { node: NodeNumber::new(1).unwrap(), epoch };
        (0..=REMEMBERED as u64).for_each(|epoch| incarnations.ended(at(epoch)));
        assert!(incarnations.contains(at(REMEMBERED as u64)) && !incarnations.contains(at(0)));
        assert!(incarnations.is_rewriting());
        incarnations.rewritten();
        assert!(!incarnations.is_rewriting());
    }
}
