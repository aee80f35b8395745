//! A test that may be looked at after each observation: whether a lane does worse than the base lane beside it.
//!
//! Owns: the evidence from units that had a failure. Never: which failures count, or what follows.
//!
//! A unit is in its lane by a hash that knows nothing of the unit. So if the lanes are equally good, a unit that fails is
//! in the tested lane with the probability of the lane's share, whatever the failure rate and the traffic are. For each
//! alternative, in which the odds of the lane are larger by a factor, the likelihood ratio of such observations is a
//! martingale with mean 1; their weighted sum is an e-process. By Ville's inequality it exceeds 1/α at any time with a
//! probability of at most α. Without failures it stays at 1: no traffic is no evidence.

/// The odds ratios that are tested together, with their weights, which add up to 1. Small regressions need many
/// observations in any case; large ones must be found after a few.
const ALTERNATIVES: [(f64, f64); 4] = [(2.0, 0.15), (6.0, 0.2), (25.0, 0.3), (100.0, 0.35)];

/// The test of one lane by one metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SequentialTest {
    /// Logarithm of the likelihood ratio of each alternative.
    logs: [f64; ALTERNATIVES.len()],
}

impl SequentialTest {
    /// Adds a unit that had its first failure. `share` is the probability that a unit of the two lanes is in the tested
    /// one, which is above 0 and below 1; other shares tell nothing.
    pub(super) fn observe(&mut self, is_in_lane: bool, share: f64) {
        if !(share > 0.0 && share < 1.0) {
            return;
        }
        for ((ratio, _), log) in ALTERNATIVES.iter().zip(&mut self.logs) {
            let scale = ratio.mul_add(share, 1.0 - share);
            *log += if is_in_lane { ratio / scale } else { 1.0 / scale }.ln();
        }
    }

    /// Returns the e-value: how much more probable the observations are if the lane is worse.
    pub(super) fn evidence(&self) -> f64 {
        let terms = ALTERNATIVES.iter().zip(&self.logs);
        // a bound, so that the value can be written as a number
        terms.map(|((_, weight), log)| weight * log.min(60.0).exp()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_failures_there_is_no_evidence() {
        assert!((SequentialTest::default().evidence() - 1.0).abs() < 1e-12);
        let mut whole = SequentialTest::default();
        whole.observe(true, 1.0);
        assert!((whole.evidence() - 1.0).abs() < 1e-12, "nothing to compare with");
    }

    #[test]
    fn failures_of_the_lane_alone_are_evidence_soon_and_failures_as_the_share_predicts_are_none() {
        let mut alone = SequentialTest::default();
        for _ in 0..3 {
            alone.observe(true, 0.05);
        }
        assert!(alone.evidence() > 1_000.0, "{}", alone.evidence());
        let mut alike = SequentialTest::default();
        for unit in 0..1_000 {
            alike.observe(unit % 20 == 0, 0.05);
        }
        assert!(alike.evidence() < 0.01, "{}", alike.evidence());
    }

    proptest! {
        /// The mean over both outcomes, weighted by their probabilities, is the value before: a martingale.
        #[test]
        fn the_expected_evidence_of_equal_lanes_stays_the_same(
            before in proptest::collection::vec((any::<bool>(), 0.01f64..0.99), 0..30), share in 0.01f64..0.99
        ) {
            let mut test = SequentialTest::default();
            before.into_iter().for_each(|(is_in_lane, share)| test.observe(is_in_lane, share));
            let [mut inside, mut outside] = [test.clone(), test.clone()];
            inside.observe(true, share);
            outside.observe(false, share);
            let mean = share.mul_add(inside.evidence(), (1.0 - share) * outside.evidence());
            prop_assert!((mean / test.evidence() - 1.0).abs() < 1e-9);
        }
    }
}
