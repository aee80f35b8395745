//! The clock of leases: monotonic, and it includes the time that the machine was suspended.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the time since boot, including suspension. After a stopped process or a suspended machine resumes,
/// the clock has advanced by the whole pause, so a holder detects that its lease is overdue.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
