//! A link that breaks and heals.
//!
//! Owns: whether the link is up, its generation, and how long it stays down, counted in calls. Pure.

use crate::simulation::FaultRng;

/// Maximum number of calls that an outage lasts.
const MAX_OUTAGE_CALLS: u64 = 4;

/// The state of a link.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Number of outages so far.
    number: u64,
    /// Calls until the link heals; 0 when it is up.
    calls_left: u64,
}

/// A change of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutageChange {
    /// The link is down now.
    Broke {
        /// Number of this outage.
        number: u64,
    },
    /// The link is up again.
    Healed {
        /// Generation, as in [`ConnectionState::Up`](super::ConnectionState::Up).
        generation: u64,
    },
}

impl Outage {
    pub(super) fn is_down(&self) -> bool {
        self.calls_left > 0
    }

    /// Counts a call: an outage gets closer to its end, or one begins.
    pub(super) fn call(&mut self, rng: &mut FaultRng, per_mille: u16) -> Option<OutageChange> {
        if self.is_down() {
            self.calls_left -= 1;
            return (!self.is_down()).then(|| self.healed());
        }
        if rng.hits(per_mille) { self.begin(rng) } else { None }
    }

    /// Breaks a link that is up.
    pub(super) fn begin(&mut self, rng: &mut FaultRng) -> Option<OutageChange> {
        if self.is_down() {
            return None;
        }
        self.number += 1;
        self.calls_left = 1 + rng.below(MAX_OUTAGE_CALLS);
        Some(OutageChange::Broke { number: self.number })
    }

    /// Breaks a link until it is healed, however many calls there are.
    pub(super) fn begin_long(&mut self) -> OutageChange {
        self.number += 1;
        self.calls_left = u64::MAX;
        OutageChange::Broke { number: self.number }
    }

    /// Ends the outage with this number, unless it is over.
    pub(super) fn heal(&mut self, number: u64) -> Option<OutageChange> {
        if !self.is_down() || self.number != number {
            return None;
        }
        self.calls_left = 0;
        Some(self.healed())
    }

    fn healed(&self) -> OutageChange {
        OutageChange::Healed { generation: self.number + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_after_some_calls_and_begins_a_generation() {
        let (mut outage, mut rng) = (Outage::default(), FaultRng::new(1));
        for number in 1..100 {
            assert_eq!(outage.call(&mut rng, 1000), Some(OutageChange::Broke { number }));
            let healed = (0..MAX_OUTAGE_CALLS).find_map(|_| outage.call(&mut rng, 1000));
            assert_eq!(healed, Some(OutageChange::Healed { generation: number + 1 }));
        }
    }

    #[test]
    fn time_heals_only_the_outage_it_was_meant_for() {
        let (mut outage, mut rng) = (Outage::default(), FaultRng::new(1));
        outage.begin(&mut rng);
        assert_eq!(outage.begin(&mut rng), None, "it is down already");
        assert_eq!(outage.heal(1), Some(OutageChange::Healed { generation: 2 }));
        outage.begin(&mut rng);
        assert_eq!(outage.heal(1), None);
        assert!(outage.is_down());
    }
}
