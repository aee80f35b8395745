//! What a pool of children shows of itself.

use serde::Serialize;

/// A pool of children.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildPoolStatus {
    /// Its children.
    pub children: Vec<ChildStatus>,
    /// Pieces of work that wait for a child.
    pub queued: usize,
    /// How often a child has ended by itself and was replaced.
    pub restarts: u64,
    /// Whether children fail again and again.
    pub failing: bool,
    /// Whether children go on with the program before a reload, because the new one does not start.
    pub outdated: bool,
    /// Why the last child ended by itself or did not become ready, with the last lines of its log.
    pub last_error: Option<String>,
}

/// One child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildStatus {
    /// Number of the child in its pool, from 1, as in the log.
    pub child: u64,
    /// Process id that it has named.
    pub pid: u32,
    /// The work that it takes: `free`, `assigned` or `both`.
    pub kind: &'static str,
    /// `ready` or `draining`.
    pub state: &'static str,
    /// Name and version of its SDK.
    pub sdk: String,
    /// Pieces of work that it runs.
    pub running: u32,
    /// Pieces of work at a time.
    pub slots: u32,
    /// Users that are assigned to it.
    pub users: usize,
    /// Pieces of work that it has ended.
    pub done: u64,
    /// Age in seconds.
    pub age_s: u64,
}
