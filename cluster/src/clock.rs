//! The clocks of a process.
//!
//! Owns: the wall clock, which people read, the boot clock, which deadlines are kept by, and the clock of the cluster,
//! which is the engine's. Never: a comparison of the wall clocks of two machines, because they may differ by minutes.
//!
//! A time that one process writes and another compares is of [`ClusterClock`]: the times of jobs and their work items,
//! of idle sessions and connections, of page tokens and of the keys that sign them. A duration that another process
//! waits for travels as remaining time (`WorkerCall::left_ms`). A lease is kept by [`boot`] and by the TTL of the engine.
//!
//! The wall clock is read for these purposes only:
//! - the expiry of a user's token (JWT), which an issuer outside of the cluster has set (`auth`, `edge/connection`);
//! - the limit of a year for the start time of a job (`calls/submit`), because seconds do not matter there;
//! - the time in the signature of a request to an HTTP backend, which refuses old ones (`worker/src/runtime/http`);
//! - the time of a change in the history of a rollout, that of a push of a Genropy site (`mount/site`), and the demo handler
//!   `time`, which people read;
//! - the embedded engine, which is the only process that uses its data.
//!
//! In a simulation (`simulation`), both clocks follow the virtual time.

mod cluster;
mod estimate;
mod servers;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use cluster::ClusterClock;
pub use estimate::{ClockEstimate, ClockSample};
use rustix::time::{ClockId, clock_gettime};
pub use servers::{ServerOffset, server_offsets};

/// Shifts the wall clock of this process by so many milliseconds, for tests of a machine with a wrong clock.
pub const OFFSET_VARIABLE: &str = "PAGEWIRE_CLOCK_OFFSET_MS";

/// The largest difference between two clocks that is not worth a warning, in milliseconds.
pub const LARGEST_OFFSET_MS: u64 = 2000;

/// Returns whether a clock is so far off that operators are warned.
pub fn is_off(offset_ms: Option<i64>) -> bool {
    offset_ms.is_some_and(|offset| offset.unsigned_abs() > LARGEST_OFFSET_MS)
}

static OFFSET_MS: LazyLock<i64> =
    LazyLock::new(|| std::env::var(OFFSET_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(0));

/// Returns the time since boot, including suspension. After a stopped process or a suspended machine resumes,
/// the clock has advanced by the whole pause, so a holder detects that its lease is overdue.
pub fn boot() -> Duration {
    #[cfg(feature = "simulation")]
    if let Some(simulated) = crate::simulation::boot() {
        return simulated;
    }
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Returns the wall clock time of this process.
pub fn wall() -> SystemTime {
    #[cfg(feature = "simulation")]
    if let Some(simulated) = crate::simulation::unix() {
        return UNIX_EPOCH + simulated;
    }
    shifted(SystemTime::now(), *OFFSET_MS)
}

/// Returns the wall clock time as a duration since the Unix epoch; zero before it.
pub fn unix() -> Duration {
    wall().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the wall clock time in milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    unix().as_millis() as u64
}

/// A time that the system cannot represent leaves the clock as it is.
fn shifted(time: SystemTime, offset_ms: i64) -> SystemTime {
    let by = Duration::from_millis(offset_ms.unsigned_abs());
    let shifted = if offset_ms < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_moves_the_wall_clock_both_ways_and_never_breaks_it() {
        let minutes = Duration::from_secs(300);
        let noon = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(shifted(noon, 300_000), noon + minutes);
        assert_eq!(shifted(noon, -300_000), noon - minutes);
        assert_eq!(shifted(noon, 0), noon);
        assert!(shifted(UNIX_EPOCH, i64::MIN) <= UNIX_EPOCH);
    }

    #[test]
    fn the_boot_clock_never_goes_back() {
        let before = boot();
        assert!(boot() >= before);
    }
}
