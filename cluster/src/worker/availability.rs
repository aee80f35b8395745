//! Which work a worker is given. Pure.
//!
//! Owns: the types of workers, the list of the workers that may work ([`Discovery`]), and the decision over both. Never:
//! handlers, or which of several workers gets a piece of work (`candidates`).
//!
//! Every process decides by its own configuration, over the rows that all processes see: the nodes, which send calls,
//! and the workers, which pull jobs. They agree when they have the same `[executors]`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::row::WorkerRow;

/// Which worker of a group may run a call or a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Any worker.
    Free,
    /// The worker that the user is assigned to, one job of the user at a time.
    Assigned,
}

impl Affinity {
    /// Returns its name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Assigned => "assigned",
        }
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The work that a worker takes, by its affinity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerType {
    /// Only work for any worker.
    Free,
    /// Only work of its users.
    Assigned,
    /// Both kinds.
    #[default]
    Both,
}

impl WorkerType {
    /// Returns whether the type includes work of an affinity.
    pub const fn takes(self, affinity: Affinity) -> bool {
        matches!(
            (self, affinity),
            (Self::Both, _) | (Self::Free, Affinity::Free) | (Self::Assigned, Affinity::Assigned)
        )
    }

    /// Returns the name of the type in the configuration.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Assigned => "assigned",
            Self::Both => "both",
        }
    }
}

impl fmt::Display for WorkerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A worker that may work, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedWorker {
    /// Name of the worker. All workers with this name are meant.
    pub name: String,
    /// The kinds of work that it may get.
    #[serde(default, rename = "type")]
    pub kind: WorkerType,
}

/// How the workers of a cluster are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Every worker with a lease gets work.
    #[default]
    Auto,
    /// Only these workers get work.
    Manual(Vec<ListedWorker>),
}

impl Discovery {
    /// Returns the kinds of work that the list allows a worker; `None` for a worker that is not listed.
    pub fn allowed(&self, name: &str) -> Option<WorkerType> {
        match self {
            Self::Auto => Some(WorkerType::Both),
            Self::Manual(listed) => {
                listed.iter().find(|listed| listed.name == name).map(|listed| listed.kind)
            }
        }
    }

    /// Returns whether a worker is given new work of an affinity.
    pub fn gives(&self, row: &WorkerRow, affinity: Affinity) -> bool {
        !row.draining && self.may_get(row, affinity)
    }

    /// Returns whether a worker is given work of an affinity while it does not drain.
    pub fn may_get(&self, row: &WorkerRow, affinity: Affinity) -> bool {
        row.kind.takes(affinity) && self.allowed(&row.name).is_some_and(|allowed| allowed.takes(affinity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, kind: WorkerType) -> WorkerRow {
        WorkerRow { name: name.into(), kind, ..WorkerRow::default() }
    }

    fn given(discovery: &Discovery, row: &WorkerRow) -> [bool; 2] {
        [Affinity::Free, Affinity::Assigned].map(|affinity| discovery.gives(row, affinity))
    }

    #[test]
    fn a_worker_gets_the_work_of_its_type() {
        for (kind, expected) in [
            (WorkerType::Free, [true, false]),
            (WorkerType::Assigned, [false, true]),
            (WorkerType::Both, [true, true]),
        ] {
            assert_eq!(given(&Discovery::Auto, &row("a", kind)), expected, "{kind}");
        }
        let draining = WorkerRow { draining: true, ..row("a", WorkerType::Both) };
        assert_eq!(given(&Discovery::Auto, &draining), [false, false]);
    }

    #[test]
    fn a_list_gives_work_to_its_workers_only_and_no_more_than_both_sides_allow() {
        let listed = |name: &str, kind| ListedWorker { name: name.into(), kind };
        let manual =
            Discovery::Manual(vec![listed("a", WorkerType::Both), listed("b", WorkerType::Assigned)]);
        assert_eq!(given(&manual, &row("a", WorkerType::Both)), [true, true]);
        assert_eq!(given(&manual, &row("a", WorkerType::Free)), [true, false]);
        assert_eq!(given(&manual, &row("b", WorkerType::Both)), [false, true]);
        assert_eq!(given(&manual, &row("b", WorkerType::Free)), [false, false]);
        assert_eq!(given(&manual, &row("c", WorkerType::Both)), [false, false]);
        assert_eq!(given(&Discovery::Manual(vec![]), &row("", WorkerType::Both)), [false, false]);
    }
}
