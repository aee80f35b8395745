//! What a pool of child processes is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

use pagewire_cluster::worker::WorkerType;

pub use super::adapter::{HttpProgram, ProgramListens};
pub use super::choice::FreeAffinity;
pub use super::http_lease::HttpQueueLimits;
pub use super::listener_address::ListenerAddress;
pub use super::recycling::RecycleLimits;
pub use super::scaling::ScaleLimits;
use crate::effects::application::Applications;

/// Options of a pool of child processes. The binary of this process has to run [`guard::run`](super::guard::run) when its
/// first argument is [`guard::SUBCOMMAND`](super::guard::SUBCOMMAND).
#[derive(Debug, Clone)]
pub struct ChildOptions {
    /// Name of the pool.
    pub pool: String,
    /// Lane of the executors.
    pub lane: String,
    /// Release of the executors.
    pub release: String,
    /// Name of the worker or node.
    pub worker: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment in addition to that of this process.
    pub env: BTreeMap<String, String>,
    /// Directory of the program; `None` for that of this process.
    pub directory: Option<PathBuf>,
    /// The children, by the work that they take.
    pub children: Vec<(WorkerType, ScaleLimits)>,
    /// Pieces of work at a time in one child.
    pub slots: u32,
    /// Time from the start of a program until it is ready.
    pub start: Duration,
    /// When a child is replaced.
    pub recycle: RecycleLimits,
    /// How the child for work is chosen that any executor may run.
    pub affinity: FreeAffinity,
    /// The only handlers that are used; empty for all.
    pub methods: Vec<String>,
    /// How requests of HTTP wait for a child; `None` when the children do not serve HTTP.
    pub http: Option<HttpQueueLimits>,
    /// How the children serve HTTP if they do not speak the child wire; `None` when they speak it.
    pub program: Option<HttpProgram>,
    /// What has to accept connections before the first child starts.
    pub needs: Vec<ListenerAddress>,
    /// What the application that the children serve may request outside of work; `None` for nothing. Weak, because its
    /// calls reach this pool.
    pub applications: Option<Weak<Applications>>,
}
