//! The fences of a tree: the last term of each owner that wrote it. Pure.
//!
//! Owns: which fenced write is refused, and what a version stores of it. Never: who is an owner, or its term; the
//! workers know that.
//!
//! A worker that has taken a user over writes with the term of its take-over. A tree keeps the highest term per owner
//! key, so a write of an owner before it is refused, whatever that process believes. Pools have separate owner keys and
//! do not refuse each other's writes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::StateError;

/// Maximum number of owner keys that a tree keeps; the one that was fenced longest ago is evicted.
pub const MAX_FENCES: usize = 8;
/// Maximum length of an owner key in the stored form, in bytes, so that all fences leave room in the meta of a version.
const MAX_OWNER: usize = 128;

/// The right of an owner to write a tree, for as long as no later term of the same owner key has been seen there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    owner: Arc<str>,
    /// Term of the take-over.
    pub term: u64,
}

impl Fence {
    /// Creates the fence of the worker that took over the user of a pool at `term`.
    pub fn new(pool: &str, user: &str, term: u64) -> Self {
        let owner = format!("{pool}/{user}");
        // a control character takes up to six bytes as JSON
        if owner.len() <= MAX_OWNER && !owner.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
            return Self { owner: owner.into(), term };
        }
        let digest = Sha256::digest(owner).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { owner: format!("sha256/{digest}").into(), term }
    }
}

/// The terms that a version of a tree stores, the one that was used longest ago first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FenceTable(Vec<(Arc<str>, u64)>);

impl FenceTable {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the approximate length as JSON, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(owner, _)| owner.len() + 24).sum()
    }

    /// Returns the last term of the owner of `fence`; 0 when the tree has none.
    pub(super) fn term(&self, fence: &Fence) -> u64 {
        self.0.iter().find(|(owner, _)| *owner == fence.owner).map_or(0, |(_, term)| *term)
    }

    /// Checks a write.
    ///
    /// # Errors
    ///
    /// [`StateError::Stale`] when the tree has seen a later term of the same owner key.
    pub(super) fn check(&self, fence: &Fence) -> Result<(), StateError> {
        match self.term(fence) {
            term if term > fence.term => Err(StateError::Stale { term }),
            _ => Ok(()),
        }
    }

    /// Keeps the term of a write that [`FenceTable::check`] accepted. Returns whether the tree did not have it.
    pub(super) fn keep(&mut self, fence: &Fence) -> bool {
        let known = self.0.iter().position(|(owner, _)| *owner == fence.owner);
        let before = known.map(|place| self.0.remove(place).1);
        self.0.push((fence.owner.clone(), fence.term));
        if self.0.len() > MAX_FENCES {
            self.0.remove(0);
        }
        before != Some(fence.term)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::MAX_META;

    #[test]
    fn an_owner_key_is_readable_or_a_digest_of_bounded_length() {
        assert_eq!(&*Fence::new("main", "ann", 1).owner, "main/ann");
        for user in ["x".repeat(256), "\u{1}".repeat(100), "\"".to_owned()] {
            let fence = Fence::new("main", &user, 1);
            assert!(fence.owner.starts_with("sha256/") && fence.owner.len() <= MAX_OWNER);
        }
        assert_ne!(Fence::new("a", &"x".repeat(256), 1), Fence::new("b", &"x".repeat(256), 1));
    }

    #[test]
    fn a_full_table_evicts_the_owner_that_was_used_longest_ago_and_fits_into_a_meta() {
        let owner = |number: usize, term| Fence::new(&format!("{}{number}", "p".repeat(120)), "ann", term);
        let mut table = FenceTable::default();
        (0..MAX_FENCES).for_each(|number| assert!(table.keep(&owner(number, u64::MAX))));
        assert!(!table.keep(&owner(0, u64::MAX)) && table.keep(&owner(8, 1)));
        assert_eq!((table.term(&owner(0, 0)), table.term(&owner(1, 0))), (u64::MAX, 0));
        assert!(serde_json::to_vec(&table).unwrap().len() < MAX_META / 2);
        assert!(serde_json::to_vec(&table).unwrap().len() <= table.len() + 2);
    }

    proptest! {
        #[test]
        fn a_write_is_accepted_exactly_if_no_later_term_of_its_owner_came_before(
            writes in prop::collection::vec((0..4_usize, 1..6_u64), 0..60),
        ) {
            let mut table = FenceTable::default();
            let mut highest = [0; 4];
            for (pool, term) in writes {
                let fence = Fence::new(&format!("pool{pool}"), "ann", term);
                match table.check(&fence) {
                    Ok(()) => {
                        prop_assert!(term >= highest[pool]);
                        prop_assert_eq!(table.keep(&fence), highest[pool] != term);
                        highest[pool] = term;
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal, StateError::Stale { term: highest[pool] });
                        prop_assert!(term < highest[pool]);
                    }
                }
            }
        }
    }
}
