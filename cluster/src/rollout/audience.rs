//! The processes that apply rollouts.
//!
//! Owns: which of them are asked whether they have applied a change or an abort. Never: the answers (`propagation`, `latches`).

use crate::id::{Holder, Key};

/// The living processes that must apply a change. A worker inside a node applies what its node does.
#[derive(Debug, Clone, Default)]
pub struct RolloutAudience {
    /// The living nodes.
    pub nodes: Vec<Holder>,
    /// The living workers outside the nodes, with their processes.
    pub workers: Vec<(Key, WorkerProcess)>,
}

/// A process of workers outside the nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerProcess {
    /// Name of its machine.
    pub host: String,
    /// Process id on that machine.
    pub pid: u32,
}
