//! Reads process statistics from Linux.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// "No such process", for which the standard library has no name.
const ESRCH: i32 = 3;

/// Returns the CPU time that the threads of a process have used so far, in user and kernel mode, in nanoseconds.
/// `/proc/<pid>/stat` has only hundredths of a second. The time of a thread that has ended is not included.
pub(crate) fn cpu(pid: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        match std::fs::read_to_string(thread?.path().join("schedstat")) {
            Ok(text) => total += on_cpu(&text).ok_or_else(|| strange("schedstat"))?,
            // the thread has just ended: before it was opened, or before it was read
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Returns the same with the time of threads that have ended, in hundredths of a second: a server ends threads for
/// blocking work when it has no more of it.
pub(crate) fn cpu_with_ended_threads(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or_else(|| strange("stat"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Parses the ticks in user and kernel mode, which are the fields 14 and 15. The name before them may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Parses the first field: nanoseconds on a core.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().next()?.parse().map(Duration::from_nanos).ok()
}

fn strange(file: &str) -> io::Error {
    io::Error::other(format!("{file} of a process reads differently here"))
}

/// Returns the resident memory of a process in bytes.
pub(crate) fn rss(pid: u32) -> io::Result<u64> {
    memory(pid, "VmRSS")
}

/// The part of it that is no file's: what the process has allocated.
pub(crate) fn anonymous(pid: u32) -> io::Result<u64> {
    memory(pid, "RssAnon")
}

/// The most that was resident so far.
pub(crate) fn peak(pid: u32) -> io::Result<u64> {
    memory(pid, "VmHWM")
}

fn memory(pid: u32, kind: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    bytes_of(&status, kind).ok_or_else(|| strange("status"))
}

fn bytes_of(status: &str, kind: &str) -> Option<u64> {
    let line = |line: &'_ str| line.strip_prefix(kind)?.strip_prefix(':').map(str::to_owned);
    let kibibytes = status.lines().find_map(line)?;
    Some(kibibytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Returns the resident memory of a process at rest: after `rest`, as soon as it has changed by at most a thousandth
/// within two seconds, and at the latest thirty seconds later.
pub(crate) async fn rss_at_rest(pid: u32, rest: Duration) -> io::Result<u64> {
    const STEADY: Duration = Duration::from_secs(2);
    const ENOUGH: Duration = Duration::from_secs(30);
    tokio::time::sleep(rest).await;
    let started = Instant::now();
    let (mut reference, mut since) = (rss(pid)?, Instant::now());
    while since.elapsed() < STEADY && started.elapsed() < ENOUGH {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = rss(pid)?;
        if now.abs_diff(reference) > reference / 1000 {
            (reference, since) = (now, Instant::now());
        }
    }
    rss(pid)
}

/// Returns the time in nanoseconds of a clock that all processes of a machine share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_a_core_is_told_in_nanoseconds() {
        assert_eq!(on_cpu("1500 7 3\n"), Some(Duration::from_nanos(1500)));
        assert_eq!(on_cpu(""), None);
    }

    #[test]
    fn time_of_a_process_is_told_in_ticks() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 30 12 5 6 20 0 1 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn resident_memory_is_told_in_kibibytes() {
        let status = "Name:\tx\nVmRSS:\t  2048 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(bytes_of(status, "VmRSS"), Some(2048 * 1024));
        assert_eq!(bytes_of(status, "RssAnon"), Some(1024));
        assert_eq!(bytes_of(status, "Rss"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_uses_its_cpu() {
        let own = std::process::id();
        assert!(rss(own).unwrap() > 100_000);
        let before = cpu(own).unwrap();
        let started = Instant::now();
        while cpu(own).unwrap() == before {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the CPU time of this process does not advance"
            );
        }
    }
}
