//! Which objects are put aside, because they are not used or there is no room for them.
//!
//! Owns: the limits of a pool, and the choice of the objects. Never: how an object leaves (`departure`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use pagewire_cluster::clock;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::Key;
use pagewire_cluster::resident::ROW_KEPT;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::wire::MoveReason;

use super::Unreached;
use super::departure::Departures;
use super::places::Places;

/// Objects that are put aside at the same time.
const EVICTED: usize = 16;
/// Longest pause between two looks at all objects.
const LONGEST_SWEEP: Duration = Duration::from_secs(60);
/// Shortest pause.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

/// The limits of the objects of a worker; `None` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectLimits {
    /// Objects at the same time. Further ones take the place of those that were used longest ago.
    pub most: Option<usize>,
    /// How long an object stays that is not used.
    pub idle: Option<Duration>,
}

impl ObjectLimits {
    /// Returns the pause between two looks at all objects.
    pub(super) fn pause(&self) -> Duration {
        self.idle.map_or(LONGEST_SWEEP, |idle| (idle / 4).clamp(SHORTEST_SWEEP, LONGEST_SWEEP))
    }
}

/// Returns these pages, those first that were used longest ago, at most `count`.
fn oldest(mut unused: Vec<(Key, Duration)>, count: usize) -> Vec<Key> {
    unused.sort_by_key(|(_, unused)| std::cmp::Reverse(*unused));
    unused.into_iter().take(count).map(|(page, _)| page).collect()
}

/// Puts objects aside. Cheap to clone.
#[derive(Clone)]
pub(super) struct Eviction {
    pub(super) places: Arc<Places>,
    pub(super) departures: Departures,
    pub(super) limits: ObjectLimits,
}

impl Eviction {
    /// Puts an object aside if there is no room for another one.
    pub(super) async fn make_room(&self) -> Result<(), Unreached> {
        let Some(most) = self.limits.most else { return Ok(()) };
        let over = (self.departures.steps.terms.count() + 1).saturating_sub(most);
        if over == 0 {
            return Ok(());
        }
        let leaving = oldest(self.places.unused(|_| true), over);
        if leaving.len() < over {
            let message = format!("all {most} objects of pages that a worker has (pages.max) are in use");
            return Err(Unreached::Error(HandlerError::new(ErrorCode::RateLimited, message)));
        }
        self.evict(leaving, MoveReason::Full).await;
        Ok(())
    }

    /// Puts objects aside, except those that are in use by now.
    async fn evict(&self, pages: Vec<Key>, why: MoveReason) {
        let evict = async |page| {
            if let Ok(mut place) = self.places.of(page).try_write_owned() {
                self.departures.put_aside(&mut place, why).await;
                self.places.release(page, place);
            }
        };
        stream::iter(pages).for_each_concurrent(EVICTED, evict).await;
    }

    /// Puts a quarter of the objects of an executor aside, those first that were used longest ago.
    pub(super) async fn shrink(&self, executor: u64) {
        let unused = self.places.unused(|living| living.seat.executor() == Some(executor));
        let count = unused.len().div_ceil(4);
        tracing::info!(
            pool = self.departures.rows.group.pool,
            executor,
            count,
            "objects are put aside to free memory"
        );
        self.evict(oldest(unused, count), MoveReason::Memory).await;
    }

    /// Puts aside what was not used for long, and renews the rows of the others.
    pub(super) async fn sweep(self) {
        if let Some(idle) = self.limits.idle {
            let unused = self.places.unused(|living| living.unused() >= idle);
            self.evict(oldest(unused, usize::MAX), MoveReason::Idle).await;
        }
        let due = |written: Duration| clock::boot().saturating_sub(written) >= ROW_KEPT / 2;
        for (page, _) in self.places.unused(|living| due(living.written)) {
            let mut place = self.places.of(page).write_owned().await;
            if let Some(object) = place.as_mut() {
                self.departures.rows.renew(object).await;
            }
            self.places.release(page, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_were_used_longest_ago_leave_first() {
        let unused = [(1, 5), (2, 9), (3, 7)].map(|(page, s)| (Key::from_bits(page), Duration::from_secs(s)));
        assert_eq!(oldest(unused.to_vec(), 2), [2, 3].map(Key::from_bits));
        assert_eq!(oldest(unused.to_vec(), usize::MAX).len(), 3);
    }

    #[test]
    fn a_sweep_comes_four_times_in_the_idle_time() {
        let limits = |idle| ObjectLimits { most: None, idle };
        assert_eq!(limits(Some(Duration::from_secs(60))).pause(), Duration::from_secs(15));
        assert_eq!(limits(Some(Duration::from_millis(1))).pause(), SHORTEST_SWEEP);
        assert_eq!(limits(None).pause(), LONGEST_SWEEP);
    }
}
