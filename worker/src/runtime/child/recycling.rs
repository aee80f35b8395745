//! When a child is replaced by a new one although it works. Pure.

use std::time::Duration;

/// The limits of one child; `None` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecycleLimits {
    /// Pieces of work.
    pub max_work: Option<u64>,
    /// Resident memory, in bytes.
    pub max_rss: Option<u64>,
    /// Age.
    pub max_age: Option<Duration>,
    /// Resident memory, in bytes, above which a part of the objects of resident pages is put aside.
    pub objects_rss: Option<u64>,
}

/// What a child has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) work: u64,
    pub(super) rss: u64,
    pub(super) age: Duration,
}

impl RecycleLimits {
    /// Returns the limits reduced by up to a tenth, so that children that started together are not replaced together.
    /// `share` is from 0 to 1.
    pub(super) fn jittered(self, share: f64) -> Self {
        let factor = 1.0 - 0.1 * share.clamp(0.0, 1.0);
        Self {
            max_work: self.max_work.map(|work| ((work as f64 * factor) as u64).max(1)),
            max_age: self.max_age.map(|age| age.mul_f64(factor)),
            ..self
        }
    }

    /// Returns whether one of the limits is about memory.
    pub(super) fn watch_memory(&self) -> bool {
        self.max_rss.is_some() || self.objects_rss.is_some()
    }

    /// Returns the limit that a child has reached.
    pub(super) fn reached(&self, usage: Usage) -> Option<&'static str> {
        if self.max_work.is_some_and(|most| usage.work >= most) {
            return Some("max_work");
        }
        if self.max_rss.is_some_and(|most| usage.rss >= most) {
            return Some("max_rss");
        }
        self.max_age.is_some_and(|most| usage.age >= most).then_some("max_age_s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_replaced_at_the_limit_that_it_reaches_first() {
        let limits = RecycleLimits {
            max_work: Some(10),
            max_rss: Some(1000),
            max_age: Some(Duration::from_secs(60)),
            objects_rss: None,
        };
        let usage = Usage { work: 9, rss: 999, age: Duration::from_secs(59) };
        assert_eq!(limits.reached(usage), None);
        assert_eq!(limits.reached(Usage { work: 10, ..usage }), Some("max_work"));
        assert_eq!(limits.reached(Usage { rss: 1000, ..usage }), Some("max_rss"));
        assert_eq!(limits.reached(Usage { age: Duration::from_secs(60), ..usage }), Some("max_age_s"));
        assert_eq!(RecycleLimits::default().reached(Usage { work: u64::MAX, ..usage }), None);
    }

    #[test]
    fn the_jitter_takes_a_tenth_at_most_and_leaves_one_piece_of_work() {
        let limits = RecycleLimits { max_work: Some(100), ..RecycleLimits::default() };
        assert_eq!(limits.jittered(0.0).max_work, Some(100));
        assert_eq!(limits.jittered(1.0).max_work, Some(90));
        let one = RecycleLimits { max_work: Some(1), ..limits };
        assert_eq!(one.jittered(1.0).max_work, Some(1));
    }
}
