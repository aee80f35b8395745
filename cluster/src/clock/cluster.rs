//! The clock that all processes of a cluster share: the engine's.
//!
//! Owns: this process's view of it. Never: how a sample is taken (the engine does).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::estimate::{ClockEstimate, ClockSample};
use super::{boot, unix_ms};

/// The difference while no sample is known.
const UNKNOWN: i64 = i64::MIN;

/// The clock of the cluster. Cheap to clone; all clones of one process show the same time.
///
/// Times that one process writes and another compares with its own clock are times of this clock. It never goes back in
/// one process: when the engine's clock does, the time stands still until the engine's clock has caught up.
#[derive(Debug, Clone)]
pub struct ClusterClock {
    shared: Arc<ClockState>,
}

#[derive(Debug)]
struct ClockState {
    estimate: Mutex<ClockEstimate>,
    /// Engine time minus boot time, in microseconds.
    difference_us: AtomicI64,
    latest_ms: AtomicU64,
    /// Whether the engine's clock is the wall clock of this process.
    is_own: bool,
    /// How far the simulated wall clock of this process is ahead, in milliseconds.
    #[cfg(feature = "simulation")]
    ahead_ms: i64,
}

impl ClockState {
    fn new(is_own: bool) -> Self {
        Self {
            estimate: Mutex::default(),
            difference_us: AtomicI64::new(UNKNOWN),
            latest_ms: AtomicU64::new(0),
            is_own,
            #[cfg(feature = "simulation")]
            ahead_ms: 0,
        }
    }
}

impl ClusterClock {
    fn new(is_own: bool) -> Self {
        Self { shared: Arc::new(ClockState::new(is_own)) }
    }

    /// Creates the clock of an engine inside this process: its wall clock.
    pub fn of_this_process() -> Self {
        Self::new(true)
    }

    /// Creates the clock of an engine elsewhere. Until the first sample it shows the wall clock.
    pub fn of_an_engine() -> Self {
        Self::new(false)
    }

    /// Creates the clock of an engine elsewhere for a simulated process with a wrong wall clock.
    #[cfg(feature = "simulation")]
    pub fn with_wall_ahead(ahead_ms: i64) -> Self {
        Self { shared: Arc::new(ClockState { ahead_ms, ..ClockState::new(false) }) }
    }

    /// Adds a sample: the boot clock before and after the engine read its clock.
    pub fn add(&self, sample: ClockSample) {
        let mut estimate = self.shared.estimate.lock().unwrap_or_else(PoisonError::into_inner);
        estimate.add(sample);
        let difference = estimate.difference_us().unwrap_or(UNKNOWN);
        self.shared.difference_us.store(difference, Ordering::Release);
    }

    /// Returns whether the engine's clock is known.
    pub fn is_known(&self) -> bool {
        self.shared.is_own || self.shared.difference_us.load(Ordering::Acquire) != UNKNOWN
    }

    /// Returns the time of the cluster in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        match self.estimated() {
            Some(now) => self.shared.latest_ms.fetch_max(now, Ordering::AcqRel).max(now),
            None => self.wall_ms(),
        }
    }

    /// Returns how far the wall clock of this process is ahead of the cluster's, in milliseconds. `None` until the
    /// engine's clock is known.
    pub fn offset_ms(&self) -> Option<i64> {
        if self.shared.is_own {
            return Some(0);
        }
        Some(self.wall_ms().cast_signed() - self.estimated()?.cast_signed())
    }

    /// Returns the wall clock of this process.
    fn wall_ms(&self) -> u64 {
        let wall = unix_ms();
        #[cfg(feature = "simulation")]
        let wall = wall.saturating_add_signed(self.shared.ahead_ms);
        wall
    }

    fn estimated(&self) -> Option<u64> {
        if self.shared.is_own {
            return Some(unix_ms());
        }
        let difference = self.shared.difference_us.load(Ordering::Acquire);
        let boot = i64::try_from(boot().as_micros()).ok()?;
        (difference != UNKNOWN).then(|| boot.saturating_add(difference).max(0).unsigned_abs() / 1000)
    }

    /// Returns the time from now until a time of the cluster; zero when it has passed.
    pub fn until(&self, at_ms: u64) -> Duration {
        Duration::from_millis(at_ms.saturating_sub(self.now_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(shown: Duration) -> ClockSample {
        let now = boot();
        ClockSample { sent: now, received: now, shown }
    }

    #[test]
    fn the_engines_clock_counts_and_not_the_machines() {
        let clock = ClusterClock::of_an_engine();
        assert!(!clock.is_known() && clock.offset_ms().is_none());
        let engine = Duration::from_millis(unix_ms()) - Duration::from_secs(300);
        clock.add(sample(engine));
        assert!(clock.is_known());
        let off = clock.offset_ms().unwrap();
        assert!((299_000..=301_000).contains(&off), "{off}");
        assert!(clock.now_ms() < unix_ms() - 200_000);
        let in_a_minute = clock.now_ms() + 60_000;
        assert!(clock.until(in_a_minute) > Duration::from_secs(50));
        assert_eq!(clock.until(clock.now_ms()), Duration::ZERO);
    }

    #[test]
    fn the_time_never_goes_back() {
        let clock = ClusterClock::of_an_engine();
        clock.add(sample(Duration::from_secs(1_000_000)));
        let before = clock.now_ms();
        clock.add(sample(Duration::from_secs(900_000)));
        assert!(clock.now_ms() >= before);
    }

    #[test]
    fn an_engine_in_this_process_has_its_clock() {
        let clock = ClusterClock::of_this_process();
        assert!(clock.is_known());
        assert_eq!(clock.offset_ms(), Some(0));
        assert!(clock.now_ms().abs_diff(unix_ms()) < 60_000);
    }
}
