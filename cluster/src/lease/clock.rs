//! The clock of leases: monotonic, and it counts the time that the machine was suspended.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since boot including suspension. A process that was stopped or a machine that slept sees the whole
/// pause, so a late holder knows that it is late.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
