//! The processes that serve the lanes of a pool: workers, or the nodes themselves for the pool of pages.
//!
//! Owns: how many there are in a lane, and their releases. Never: the lane of a user.

use pagewire_cluster::rollout::{EDGE, Fallback, RolloutSpec};
use pagewire_cluster::worker::{WorkerGroup, Workers};

use super::super::ApiState;

/// The living processes of a pool that take new work or new pages.
pub(super) enum LaneMembers {
    /// The workers of a pool.
    Workers {
        /// The pool.
        pool: String,
        /// All workers.
        workers: Box<Workers>,
    },
    /// The lane and release of each node.
    Nodes(Vec<(String, String)>),
}

impl LaneMembers {
    /// Returns the members of a pool, as far as this node sees.
    pub(super) fn of(parts: &ApiState, pool: &str) -> Self {
        if pool != EDGE {
            return Self::Workers { pool: pool.to_owned(), workers: Box::new(parts.context.workers.clone()) };
        }
        let view = parts.registry.view();
        let nodes = view.nodes().into_iter().filter(|(_, row)| !row.note.draining);
        Self::Nodes(nodes.map(|(_, row)| (row.lane.clone(), row.release.clone())).collect())
    }

    /// Returns whether a lane has a member.
    pub(super) fn serves(&self, lane: &str) -> bool {
        match self {
            Self::Workers { pool, workers } => {
                workers.roster().serves(&WorkerGroup::new(pool.as_str(), lane))
            }
            Self::Nodes(nodes) => nodes.iter().any(|(of, _)| of == lane),
        }
    }

    /// Returns the number of members of a lane, and their releases.
    pub(super) fn releases(&self, lane: &str) -> (usize, Vec<String>) {
        match self {
            Self::Workers { pool, workers } => {
                let roster = workers.roster();
                let (count, releases) = roster.available_releases(&WorkerGroup::new(pool.as_str(), lane));
                (count, releases.into_iter().map(str::to_owned).collect())
            }
            Self::Nodes(nodes) => {
                let own = nodes.iter().filter(|(of, _)| of == lane);
                let mut releases: Vec<_> = own.clone().map(|(_, release)| release.clone()).collect();
                releases.sort();
                releases.dedup();
                (own.count(), releases)
            }
        }
    }

    /// Returns what the members are.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Workers { .. } => "workers",
            Self::Nodes(_) => "nodes",
        }
    }

    /// Returns what happens to the users of a lane without members.
    pub(super) fn consequence(&self, document: &RolloutSpec, lane: &str) -> &'static str {
        match (self, document.fallback) {
            (Self::Nodes(_), _) => "their pages are opened where they arrive",
            (_, Fallback::Base) if lane != document.base => "the base lane does the work of its users",
            _ => "the calls of its users are refused and their jobs wait",
        }
    }
}
