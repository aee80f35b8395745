//! Limits the frames that a socket may send. Pure: eight bytes per socket, no timer.

use std::time::Duration;

/// A bucket that holds the frames of one second (the generic cell rate algorithm). Its only state is the time when it
/// is full again.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct RateLimiter {
    full_at: u64,
}

impl RateLimiter {
    /// Counts one frame at `now` (time since any fixed point). Returns `false` when the limit is exceeded.
    pub(super) fn admit(&mut self, now: Duration, per_second: u32) -> bool {
        let now = now.as_nanos() as u64;
        let cost = NANOS / u64::from(per_second.max(1));
        let full_at = self.full_at.max(now) + cost;
        let admitted = full_at <= now + NANOS;
        if admitted {
            self.full_at = full_at;
        }
        admitted
    }
}

const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_of_frames_may_come_at_once_and_then_at_the_configured_pace() {
        let mut rate = RateLimiter::default();
        let start = Duration::from_secs(5);
        assert_eq!((0..150).filter(|_| rate.admit(start, 100)).count(), 100);
        assert!(!rate.admit(start + Duration::from_millis(9), 100));
        assert!(rate.admit(start + Duration::from_millis(10), 100));
        assert!(!rate.admit(start + Duration::from_millis(10), 100));
    }

    proptest! {
        #[test]
        fn no_pattern_of_arrival_gets_more_than_one_second_above_the_pace(
            gaps in prop::collection::vec(0u64..50, 1..400),
            per_second in 1u32..200,
        ) {
            let (mut rate, mut now, mut admitted) = (RateLimiter::default(), 0, 0u64);
            for gap in gaps {
                now += gap;
                admitted += u64::from(rate.admit(Duration::from_millis(now), per_second));
            }
            prop_assert!(admitted <= u64::from(per_second) * (now + 1000) / 1000 + 1);
        }
    }
}
