//! Which core a child runs on, so that what is measured and what measures do not share one.

use std::io;

/// Two cores: one for what is measured, one for its clients. `None` each on a machine with one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cores {
    pub(crate) server: Option<usize>,
    pub(crate) clients: Option<usize>,
}

#[cfg(target_os = "linux")]
impl Cores {
    /// The first two that this process may use.
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
    /// Nothing is measured without `/proc`, so nothing is pinned either.
    pub(crate) fn find() -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "bench reads /proc, which only Linux has"))
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn on<T>(_core: Option<usize>, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    spawn()
}
