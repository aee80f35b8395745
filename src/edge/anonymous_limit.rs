//! Limits the anonymous pages that one address may open per minute, because each can leave a session, state trees and
//! jobs behind; and, counted apart from them, the calls over HTTP of clients without a user.
//!
//! Owns: one number per address that has opened pages recently. Never: pages that resume, or pages of users, which
//! `limits.pages_per_user` limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pagewire_cluster::table;
use tokio::time::Instant;

use super::connection_limit::source;

const MINUTE: Duration = Duration::from_secs(60);
/// One bucket per address, which holds the pages of one minute (the generic cell rate algorithm).
pub(super) struct AnonymousLimiter {
    per_minute: u32,
    started: Instant,
    sources: Mutex<AddressBuckets>,
}

#[derive(Default)]
struct AddressBuckets {
    /// When the bucket of each address is full again. A full bucket is not kept.
    full_at: HashMap<IpAddr, Duration>,
    swept_at: Duration,
}

impl AnonymousLimiter {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, started: Instant::now(), sources: Mutex::default() }
    }

    /// Counts one new page.
    ///
    /// # Errors
    ///
    /// How long to wait until the address may open a page again, when the limit is exceeded.
    pub(super) fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        self.lock().admit(source(address), self.started.elapsed(), self.per_minute)
    }

    /// Every change leaves the map consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, AddressBuckets> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AddressBuckets {
    fn admit(&mut self, source: IpAddr, now: Duration, per_minute: u32) -> Result<(), Duration> {
        let full_at = self.full_at.get(&source).copied().unwrap_or(now).max(now);
        let next = full_at + MINUTE / per_minute.max(1);
        if let Some(wait) = next.checked_sub(now + MINUTE).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if now >= self.swept_at + MINUTE {
            self.full_at.retain(|_, full_at| *full_at > now);
            table::shrink(&mut self.full_at);
            self.swept_at = now;
        }
        self.full_at.insert(source, next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    #[test]
    fn an_address_opens_a_minute_of_pages_at_once_and_then_at_the_pace_while_others_are_not_held_up() {
        let (mut sources, start) = (AddressBuckets::default(), Duration::from_secs(9));
        assert_eq!((0..100).filter(|_| sources.admit(address(1), start, 60).is_ok()).count(), 60);
        assert_eq!(sources.admit(address(1), start, 60), Err(Duration::from_secs(1)));
        assert_eq!(sources.admit(address(2), start, 60), Ok(()));
        assert_eq!(sources.admit(address(1), start + Duration::from_secs(1), 60), Ok(()));
    }

    #[test]
    fn addresses_that_have_not_come_for_a_minute_are_forgotten() {
        let mut sources = AddressBuckets::default();
        for n in 0..100_000 {
            // a thousand addresses per second
            sources.admit(address(n), Duration::from_millis(n.into()), 1).unwrap();
            assert!(sources.full_at.len() <= 120_001, "those of two minutes");
        }
        for n in 0..10_000 {
            sources.admit(address(n), Duration::from_secs(1000), 600).unwrap();
        }
        assert_eq!(sources.full_at.len(), 10_000);
    }

    proptest! {
        #[test]
        fn no_pattern_of_arrival_gets_more_than_one_minute_above_the_pace(
            gaps in prop::collection::vec(0u64..5_000, 1..400),
            per_minute in 1u32..200,
        ) {
            let (mut sources, mut now, mut admitted) = (AddressBuckets::default(), 0, 0u64);
            for gap in gaps {
                now += gap;
                let outcome = sources.admit(address(1), Duration::from_millis(now), per_minute);
                if let Err(wait) = outcome {
                    let later = Duration::from_millis(now) + wait;
                    prop_assert!(sources.admit(address(1), later, per_minute).is_ok(), "the advice is good");
                    now += wait.as_millis() as u64 + 1;
                }
                admitted += 1;
            }
            prop_assert!(admitted <= u64::from(per_minute) * (now + 60_000) / 60_000 + 2);
        }
    }
}
