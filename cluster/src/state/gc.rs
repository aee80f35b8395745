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
    /// Checks all trees and returns those that have had no subject for at least `grace`. `is_alive` decides whether the
    /// subject of a tree exists. `now` is a reading of any clock that never goes back.
    pub fn collect(
        &mut self,
        owners: Vec<Entity>,
        is_alive: impl Fn(&Entity) -> bool,
        now: Duration,
        grace: Duration,
    ) -> Vec<Entity> {
        let dead = owners.into_iter().filter(|owner| !is_alive(owner));
        let since = |owner: Entity| (self.0.get(&owner).copied().unwrap_or(now), owner);
        self.0 = dead.map(since).map(|(since, owner)| (owner, since)).collect();
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
        let mut collect_after = |is_alive: bool, seconds| {
            let all = vec![owner(1), owner(2)];
            orphans.collect(all, |other| is_alive || *other == owner(2), Duration::from_secs(seconds), GRACE)
        };
        assert_eq!(collect_after(false, 0), []);
        assert_eq!(collect_after(false, 59), []);
        assert_eq!(collect_after(true, 60), [], "it is back");
        assert_eq!(collect_after(false, 61), []);
        assert_eq!(collect_after(false, 121), [owner(1)]);
    }

    #[test]
    fn a_tree_that_was_removed_meanwhile_begins_anew() {
        let mut orphans = OrphanTracker::default();
        let mut collect_after =
            |owners, seconds| orphans.collect(owners, |_| false, Duration::from_secs(seconds), GRACE);
        assert_eq!(collect_after(vec![owner(1)], 0), []);
        assert_eq!(collect_after(vec![], 30), []);
        assert_eq!(collect_after(vec![owner(1)], 90), []);
    }
}
