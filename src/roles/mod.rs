//! What a process of each role is made of: a node or a worker.
//!
//! Owns: building the parts, the order in which they start and stop, and the supervision of background tasks. The only
//! place that builds parts. Never: what a part does.

mod child_pools;
mod drain;
mod duties;
mod engine;
mod genropy_package;
mod http_pools;
mod leader;
mod listen;
mod mount_places;
mod mount_processes;
mod node;
mod peer_server;
mod pools;
mod python_package;
mod resident_pages;
mod rollout_analysis;
mod run;
mod services;
mod tasks;
#[cfg(test)]
mod tests;
mod worker;
mod worker_process;

use pagewire_cluster::engine::{ConnectError, OpenError, Unavailable};
use pagewire_cluster::lease::Incompatible;

use crate::config::InvalidConfig;

pub use self::node::Node;
pub use self::run::{OwnProgram, run, run_with};
pub use self::services::lifetimes;
pub use self::worker_process::{OwnHandlers, run_worker};

/// Why a node or worker does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The configured address.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// NATS cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The engine went away while the node was coming up.
    #[error("the cluster's engine went away while this node was starting")]
    Engine(#[from] Unavailable),
    /// A living process of the cluster has no wire version in common with this one.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// The configuration has values that cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A mount in code cannot be served.
    #[error("the mount {path:?} {problem}")]
    Mount {
        /// Path of the mount.
        path: String,
        /// The reason.
        problem: &'static str,
    },
    /// A pool cannot be run.
    #[error("pool {pool}: {problem}")]
    Pool {
        /// Name of the pool.
        pool: String,
        /// The reason.
        problem: String,
    },
    /// A task that the process needs has ended; the process has drained.
    #[error("a task that this process needs has ended: {0}")]
    Task(&'static str),
}
