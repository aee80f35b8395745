//! The estimate of another clock from samples. Pure.
//!
//! A sample is a time of the other clock that was taken between two times of the own clock. It limits the difference of
//! both clocks to an interval as long as the bracket. The sample with the narrowest bracket of the recent ones is used.

use std::collections::VecDeque;
use std::time::Duration;

/// How many samples are recent: older ones say less, because clocks drift apart.
const RECENT: usize = 16;
/// How much the difference of two clocks may change between the oldest and the newest recent sample, in microseconds.
/// More means that the other clock was set, or that another server's clock is read.
const DRIFT_US: i64 = 20_000;

/// A time of the other clock, bracketed by two times of the own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSample {
    /// The own time at or before the other clock was read.
    pub sent: Duration,
    /// The own time at or after the other clock was read.
    pub received: Duration,
    /// What the other clock showed.
    pub shown: Duration,
}

impl ClockSample {
    /// Returns the smallest possible difference "other minus own", in microseconds.
    pub(super) fn least(&self) -> i64 {
        micros(self.shown) - micros(self.received)
    }

    /// Returns the largest possible difference.
    pub(super) fn most(&self) -> i64 {
        micros(self.shown) - micros(self.sent)
    }

    fn bracket(&self) -> Duration {
        self.received.saturating_sub(self.sent)
    }

    fn agrees(&self, other: &Self) -> bool {
        self.least() <= other.most() + DRIFT_US && other.least() <= self.most() + DRIFT_US
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

/// An estimate of the difference between two clocks.
#[derive(Debug, Default)]
pub struct ClockEstimate {
    recent: VecDeque<ClockSample>,
}

impl ClockEstimate {
    /// Adds a sample. One that contradicts the recent ones replaces them, because the other clock was set.
    pub fn add(&mut self, sample: ClockSample) {
        if sample.received < sample.sent {
            return;
        }
        if self.recent.iter().any(|earlier| !earlier.agrees(&sample)) {
            self.recent.clear();
        }
        self.recent.push_back(sample);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Returns the estimated difference "other minus own" in microseconds. It is wrong by at most half of the narrowest
    /// bracket, and by the drift since. `None` without a sample.
    pub fn difference_us(&self) -> Option<i64> {
        let best = self.recent.iter().rev().min_by_key(|sample| sample.bracket())?;
        Some(best.least() + (best.most() - best.least()) / 2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A sample of a clock that is `ahead`, whose request takes `there` and whose answer takes `back`.
    fn sample(now: u64, ahead: i64, there: u64, back: u64) -> ClockSample {
        let shown = ms((now + there).checked_add_signed(ahead).unwrap());
        ClockSample { sent: ms(now), received: ms(now + there + back), shown }
    }

    #[test]
    fn the_narrowest_recent_sample_counts() {
        let mut estimate = ClockEstimate::default();
        assert_eq!(estimate.difference_us(), None);
        estimate.add(sample(1_000, 5_000, 400, 0));
        assert_eq!(estimate.difference_us(), Some(5_200_000));
        estimate.add(sample(4_000, 5_000, 1, 1));
        assert_eq!(estimate.difference_us(), Some(5_000_000));
        for round in 0..RECENT as u64 {
            estimate.add(sample(7_000 + round * 3_000, 5_000, 20, 0));
        }
        assert_eq!(estimate.difference_us(), Some(5_010_000), "the narrow one is not recent any more");
    }

    #[test]
    fn a_clock_that_is_set_is_followed_at_once() {
        let mut estimate = ClockEstimate::default();
        estimate.add(sample(1_000, 300_000, 1, 1));
        estimate.add(sample(4_000, 0, 200, 200));
        assert_eq!(estimate.difference_us(), Some(0));
    }

    proptest! {
        #[test]
        fn the_estimate_is_wrong_by_at_most_half_of_the_narrowest_bracket(
            ahead in -400_000i64..400_000,
            delays in prop::collection::vec((0u64..3_000, 0u64..3_000), 1..40),
        ) {
            let mut estimate = ClockEstimate::default();
            for (round, (there, back)) in delays.iter().enumerate() {
                estimate.add(sample(500_000 + round as u64 * 7_000, ahead, *there, *back));
            }
            let recent = delays.iter().rev().take(RECENT);
            let narrowest = recent.map(|(there, back)| there + back).min().unwrap();
            let error = (estimate.difference_us().unwrap() - ahead * 1000).unsigned_abs();
            prop_assert!(error <= narrowest * 500 + 1, "{error} µs with a bracket of {narrowest} ms");
        }
    }
}
