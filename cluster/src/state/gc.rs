//! Finds trees that outlive their connection, session or page. Pure.
//!
//! Owns: how long a tree outlives its subject. Never: which subjects exist (`registry`), or user trees, which are
//! kept.

use std::collections::HashMap;
use std::time::Duration;

use crate::id::Entity;

/// Trees without a subject, and when each was first seen without one.
#[derive(Debug, Default)]
pub struct OrphanTracker(HashMap<Entity, Duration>);

impl OrphanTracker {
    /// Checks all trees and returns those that have had no subject for at least `grace`. `lives` decides whether the
    /// subject of a tree exists. `now` is a reading of any clock that never goes back.
    pub fn collect(
        &mut self,
        owners: Vec<Entity>,
        lives: impl Fn(&Entity) -> bool,
        now: Duration,
        grace: Duration,
    ) -> Vec<Entity> {
        let gone = owners.into_iter().filter(|owner| !lives(owner));
        let since = |owner: Entity| (self.0.get(&owner).copied().unwrap_or(now), owner);
        self.0 = gone.map(since).map(|(since, owner)| (owner, since)).collect();
        let over = self.0.iter().filter(|(_, since)| now.saturating_sub(**since) >= grace);
        over.map(|(owner, _)| owner.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Key;

    const GRACE: Duration = Duration::from_secs(60);

    fn owner(bits: u128) -> Entity {
        Entity::Session(Key::from_bits(bits))
    }

    #[test]
    fn a_tree_goes_when_its_subject_has_been_gone_for_long_enough() {
        let mut orphans = OrphanTracker::default();
        let mut look = |lives: bool, seconds| {
            let all = vec![owner(1), owner(2)];
            orphans.collect(all, |other| lives || *other == owner(2), Duration::from_secs(seconds), GRACE)
        };
        assert_eq!(look(false, 0), []);
        assert_eq!(look(false, 59), []);
        assert_eq!(look(true, 60), [], "it is back");
        assert_eq!(look(false, 61), []);
        assert_eq!(look(false, 121), [owner(1)]);
    }

    #[test]
    fn a_tree_that_was_removed_meanwhile_begins_anew() {
        let mut orphans = OrphanTracker::default();
        let mut look =
            |owners, seconds| orphans.collect(owners, |_| false, Duration::from_secs(seconds), GRACE);
        assert_eq!(look(vec![owner(1)], 0), []);
        assert_eq!(look(vec![], 30), []);
        assert_eq!(look(vec![owner(1)], 90), []);
    }
}
