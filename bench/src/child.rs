//! Child processes that end with their parent.

use std::io;

use tokio::process::{Child, Command};

use crate::cpu_affinity;

/// Starts a process that is killed when the returned value is dropped.
pub(crate) fn start(mut command: Command, core: Option<usize>) -> io::Result<Child> {
    command.kill_on_drop(true);
    cpu_affinity::on(core, || command.spawn())
}

/// Returns the process id of a child.
pub(crate) fn pid(child: &Child) -> io::Result<u32> {
    child.id().ok_or_else(|| io::Error::other("a child has ended"))
}
