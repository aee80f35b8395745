//! Assigns child processes to cores, so that the measured process and its clients do not share one.

use std::io;

/// Two cores: one for the measured process, one for its clients. Both are `None` on a machine with one core.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cores {
    pub(crate) server: Option<usize>,
    pub(crate) clients: Option<usize>,
}

#[cfg(target_os = "linux")]
impl Cores {
    /// Returns the first two cores that this process may use.
    pub(crate) fn find() -> io::Result<Self> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        Ok(match (cores.next(), cores.next()) {
            (server @ Some(_), clients @ Some(_)) => Self { server, clients },
            _ => Self::default(),
        })
    }
}

/// Runs `spawn` on a core. A process inherits the cores of the thread that starts it, so it never runs elsewhere.
#[cfg(target_os = "linux")]
pub(crate) fn on<T>(core: Option<usize>, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Some(core) = core else { return spawn() };
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only)?;
    let spawned = spawn();
    sched_setaffinity(None, &before)?;
    spawned
}

#[cfg(not(target_os = "linux"))]
impl Cores {
    /// Assigns no cores: without `/proc` nothing can be measured either.
    pub(crate) fn find() -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "bench reads /proc, which only Linux has"))
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn on<T>(_core: Option<usize>, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    spawn()
}
