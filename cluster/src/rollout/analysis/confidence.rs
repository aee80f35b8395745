//! Bounds of a failure rate that hold at each look.
//!
//! Owns: the interval of a rate from failures among units, and how many more units a bound needs. Never: which units count.
//!
//! The interval consists of all rates that a Beta(½, ½) mixture of other rates does not beat by 1/α. It holds at all times
//! together with probability 1 − α, so that the moment of a look needs no choice beforehand.

use std::ops::RangeInclusive;

/// The probability with which each of the two bounds may be wrong.
const ALPHA: f64 = 0.025;
/// A bound that would need more further units than this is not within reach.
const LARGEST_NEED: u32 = 100_000;

/// Units of a lane, and how many of them had a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rate {
    /// All units.
    pub(super) units: u32,
    /// Those with a failure.
    pub(super) failed: u32,
}

impl Rate {
    /// Returns the rates that are compatible with the units.
    fn interval(self) -> RangeInclusive<f64> {
        let (n, f) = (f64::from(self.units), f64::from(self.failed.min(self.units)));
        if self.units == 0 {
            return 0.0..=1.0;
        }
        let mixture = ln_beta(f + 0.5, n - f + 0.5) - ln_beta(0.5, 0.5);
        let likelihood = |rate: f64| xlny(f, rate) + xlny(n - f, 1.0 - rate);
        let is_inside = |rate: f64| mixture - likelihood(rate) < (1.0 / ALPHA).ln();
        let observed = f / n;
        bisect(observed, 0.0, is_inside)..=bisect(observed, 1.0, is_inside)
    }
}

/// Returns whether the rate of a lane is above that of the base by at most `margin`.
pub(super) fn is_not_worse(lane: Rate, base: Rate, margin: f64) -> bool {
    lane.units > 0 && base.units > 0 && lane.interval().end() - base.interval().start() <= margin
}

/// Returns how many more units without a failure the lane needs until [`is_not_worse`]; `None` when it is not within reach.
pub(super) fn units_needed(lane: Rate, base: Rate, margin: f64) -> Option<u32> {
    let passes = |more: u32| is_not_worse(Rate { units: lane.units + more, ..lane }, base, margin);
    if base.units == 0 || !passes(LARGEST_NEED) {
        return None;
    }
    let (mut fails, mut enough) = (0, LARGEST_NEED);
    if passes(0) {
        return Some(0);
    }
    while enough - fails > 1 {
        let middle = fails + (enough - fails) / 2;
        if passes(middle) {
            enough = middle;
        } else {
            fails = middle;
        }
    }
    Some(enough)
}

/// Returns the last rate from `inside` towards `outside` that is inside.
fn bisect(inside: f64, outside: f64, is_inside: impl Fn(f64) -> bool) -> f64 {
    if is_inside(outside) {
        return outside;
    }
    let (mut inside, mut outside) = (inside, outside);
    for _ in 0..50 {
        let middle = f64::midpoint(inside, outside);
        if is_inside(middle) {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    inside
}

/// Returns x ln y, which is 0 for x = 0.
fn xlny(x: f64, y: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x * y.ln() }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simulation::FaultRng;

    const fn rate(failed: u32, units: u32) -> Rate {
        Rate { units, failed }
    }

    #[test]
    fn a_promotion_names_the_units_that_it_still_needs() {
        let base = rate(0, 2_000);
        assert_eq!(units_needed(rate(0, 0), base, 0.05), Some(131));
        assert_eq!(units_needed(rate(0, 41), base, 0.05), Some(90));
        assert_eq!(units_needed(rate(0, 131), base, 0.05), Some(0));
        assert!(units_needed(rate(2, 41), base, 0.05) > Some(150), "failures have to be outweighed");
        assert_eq!(units_needed(rate(0, 500), rate(0, 0), 0.05), None, "nothing to compare with");
        assert!(is_not_worse(rate(20, 1_000), rate(400, 20_000), 0.05), "as bad as the base");
        assert!(!is_not_worse(rate(90, 1_000), rate(400, 20_000), 0.05));
    }

    #[test]
    fn the_interval_misses_the_rate_at_any_time_as_seldom_as_it_promises() {
        for per_mille in [1, 20, 200] {
            let missed = (0..300).filter(|seed| {
                let (mut rng, mut seen) = (FaultRng::new(*seed), rate(0, 0));
                let truth = f64::from(per_mille) / 1000.0;
                (0..1_000).any(|_| {
                    seen.units += 1;
                    seen.failed += u32::from(rng.hits(per_mille));
                    seen.units % 20 == 0 && !seen.interval().contains(&truth)
                })
            });
            let missed = missed.count();
            assert!(missed <= 16, "{missed} of 300 at {per_mille} ‰; 7.5 are expected at most");
        }
    }

    proptest! {
        #[test]
        fn the_interval_contains_what_was_observed(units in 1u32..5_000, failed in 0u32..5_000) {
            let failed = failed.min(units);
            let interval = rate(failed, units).interval();
            prop_assert!(interval.contains(&(f64::from(failed) / f64::from(units))));
            prop_assert!(*interval.start() >= 0.0 && *interval.end() <= 1.0);
        }

        #[test]
        fn the_needed_units_are_enough_and_one_less_is_not(units in 0u32..500, failed in 0u32..20, base in 0u32..50) {
            let (lane, base) = (rate(failed.min(units), units), rate(base, 1_000));
            if let Some(needed @ 1..) = units_needed(lane, base, 0.05) {
                let with = |more| is_not_worse(Rate { units: lane.units + more, ..lane }, base, 0.05);
                prop_assert!(with(needed) && !with(needed - 1));
            }
        }
    }
}
