//! The slots of a worker, of which some are reserved for calls.
//!
//! Owns: how many pieces of work run at the same time, and how many of them are jobs. Never: which work is next.
//!
//! A call needs one permit. A job needs a second one, of which there are fewer: jobs that take all of those leave the
//! reserve to calls. Both wait in order of arrival.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many pieces of work a worker runs at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotOptions {
    /// Calls and jobs at the same time.
    pub count: u32,
    /// How many percent of these are reserved for calls, rounded down, but at least one if there are two or more; 0 for no
    /// reserve.
    pub call_reserve_percent: u8,
}

impl SlotOptions {
    /// Default reserve for calls, in percent.
    pub const CALL_RESERVE_PERCENT: u8 = 25;

    /// Creates `count` slots with the default reserve.
    pub const fn new(count: u32) -> Self {
        Self { count, call_reserve_percent: Self::CALL_RESERVE_PERCENT }
    }
}

/// The slots of one worker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    jobs: Arc<Semaphore>,
    count: u32,
}

/// A slot that is in use until this is dropped.
pub(crate) struct Slot {
    _slot: OwnedSemaphorePermit,
    _job: Option<OwnedSemaphorePermit>,
}

/// Returns how many of `slots` are reserved for calls: `percent` of them, at least one if there are two or more, and
/// never all of them.
fn reserve(slots: u32, percent: u8) -> u32 {
    match (slots, percent) {
        (0 | 1, _) | (_, 0) => 0,
        _ => (slots * u32::from(percent) / 100).clamp(1, slots - 1),
    }
}

impl Slots {
    /// Creates the slots of a worker.
    pub(crate) fn new(options: SlotOptions) -> Self {
        let SlotOptions { count, call_reserve_percent } = options;
        let jobs = count - reserve(count, call_reserve_percent);
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        Self { all: semaphore(count), jobs: semaphore(jobs), count }
    }

    /// Returns the number of slots.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Returns how many slots are in use.
    pub(crate) fn used(&self) -> u32 {
        self.count.saturating_sub(u32::try_from(self.all.available_permits()).unwrap_or(u32::MAX))
    }

    /// Takes a slot for a call if one is free.
    pub(crate) fn try_call(&self) -> Option<Slot> {
        let slot = self.all.clone().try_acquire_owned().ok()?;
        Some(Slot { _slot: slot, _job: None })
    }

    /// Waits for a slot for a call.
    pub(crate) async fn call(&self) -> Option<Slot> {
        let slot = self.all.clone().acquire_owned().await.ok()?;
        Some(Slot { _slot: slot, _job: None })
    }

    /// Takes a slot for a job if one is free.
    pub(crate) fn try_job(&self) -> Option<Slot> {
        let job = self.jobs.clone().try_acquire_owned().ok()?;
        let slot = self.all.clone().try_acquire_owned().ok()?;
        Some(Slot { _slot: slot, _job: Some(job) })
    }

    /// Waits for a slot for a job.
    pub(crate) async fn job(&self) -> Option<Slot> {
        let job = self.jobs.clone().acquire_owned().await.ok()?;
        let slot = self.all.clone().acquire_owned().await.ok()?;
        Some(Slot { _slot: slot, _job: Some(job) })
    }

    /// Returns how many jobs could take a slot now.
    pub(crate) fn free_for_jobs(&self) -> usize {
        self.all.available_permits().min(self.jobs.available_permits())
    }

    /// Waits until no slot is in use.
    pub(crate) async fn idle(&self) {
        // the semaphore is never closed, so there is no error
        let _slots = self.all.acquire_many(self.count).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_quarter_of_the_slots_is_reserved_and_at_least_one_of_two() {
        let reserved = [0, 1, 2, 3, 4, 7, 8, 16, 100].map(|slots| reserve(slots, 25));
        assert_eq!(reserved, [0, 0, 1, 1, 1, 1, 2, 4, 25]);
        assert_eq!([reserve(8, 0), reserve(8, 100), reserve(1, 100)], [0, 7, 0]);
    }

    #[tokio::test]
    async fn jobs_leave_the_reserve_to_calls_and_calls_may_take_all() {
        let slots = Slots::new(SlotOptions::new(4));
        let jobs: Vec<_> = std::iter::from_fn(|| slots.try_job()).collect();
        assert_eq!(jobs.len(), 3);
        assert!(slots.job().now_or_never().is_none());
        let call = slots.try_call();
        assert!(call.is_some() && slots.try_call().is_none());
        drop((jobs, call));
        assert_eq!(slots.free_for_jobs(), 3);
        let calls: Vec<_> = std::iter::from_fn(|| slots.try_call()).collect();
        assert_eq!(calls.len(), 4);
        assert!(slots.try_job().is_none() && slots.idle().now_or_never().is_none());
        drop(calls);
        assert!(slots.try_job().is_some() && slots.idle().now_or_never().is_some());
    }
}
