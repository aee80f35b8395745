//! When a child starts again after a failure. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Delay after the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// A child that has run for this long has not failed at its start.
const STEADY: Duration = Duration::from_secs(60);
/// So many failures within [`WINDOW`] are reported.
const REPORTED: usize = 5;
/// See [`REPORTED`].
const WINDOW: Duration = Duration::from_secs(60);

/// The failures of one place of a pool.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// Failures in a row, each soon after the start.
    in_a_row: u32,
}

impl Restarts {
    /// Maximum delay.
    pub(super) const LONGEST: Duration = Duration::from_secs(30);

    /// Records that a child has ended by itself after it `ran` for a time, and returns the delay before the next one.
    pub(super) fn failed(&mut self, ran: Duration) -> Duration {
        self.in_a_row = if ran >= STEADY { 1 } else { self.in_a_row.saturating_add(1) };
        FIRST.saturating_mul(1 << (self.in_a_row - 1).min(16)).min(Self::LONGEST)
    }
}

/// The recent failures of a pool.
#[derive(Debug, Default)]
pub(super) struct RecentFailures(VecDeque<Instant>);

impl RecentFailures {
    /// Records a failure.
    pub(super) fn record(&mut self, now: Instant) {
        self.0.push_back(now);
        if self.0.len() > REPORTED {
            self.0.pop_front();
        }
    }

    /// Returns whether so many children have failed recently that it is reported.
    pub(super) fn are_reported(&self, now: Instant) -> bool {
        let recent = |failure: &&Instant| now.saturating_duration_since(**failure) < WINDOW;
        self.0.iter().filter(recent).count() >= REPORTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_half_a_minute_and_begins_anew_after_a_steady_child() {
        let mut restarts = Restarts::default();
        let delays: Vec<_> = (0..4).map(|_| restarts.failed(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800]);
        for _ in 0..100 {
            restarts.failed(Duration::ZERO);
        }
        assert_eq!(restarts.failed(Duration::ZERO), Restarts::LONGEST);
        assert_eq!(restarts.failed(STEADY), FIRST);
    }

    #[test]
    fn five_failures_within_a_minute_are_reported() {
        let (mut failures, start) = (RecentFailures::default(), Instant::now());
        for second in 0..4 {
            failures.record(start + Duration::from_secs(second));
        }
        assert!(!failures.are_reported(start + Duration::from_secs(4)));
        failures.record(start + Duration::from_secs(5));
        assert!(failures.are_reported(start + Duration::from_secs(6)));
        assert!(!failures.are_reported(start + Duration::from_secs(61)));
    }
}
