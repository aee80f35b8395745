//! Why no worker can run a job that waits. Pure.
//!
//! Owns: the one answer, which the record, its watchers and the summary of the cluster show. Never: reading a record, a
//! turn row or a rollout.

use std::fmt;

use crate::id::Key;
use crate::worker::{Affinity, NoCandidate, WorkerDirectory, WorkerGroup};

/// Work that waits, with what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct WaitingWorkView<'a> {
    /// Which worker of the group may run it.
    pub affinity: Affinity,
    /// Name of the handler; `None` for several jobs with different handlers.
    pub kind: Option<&'a str>,
    /// Whether the time of the job has not come.
    pub is_early: bool,
    /// The workers that may run it; for an assigned job, those of the lane that its user is in.
    pub group: &'a WorkerGroup,
    /// Revision of the pool's rollout if it gives the lane no work.
    pub closed_by: Option<u64>,
    /// Another job of the user of an assigned job, which runs.
    pub running: Option<Key>,
}

/// The reason why no worker runs a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The time of the job has not come.
    NotDue,
    /// No worker of the group accepts new work.
    NoWorker(WorkerGroup),
    /// The same, and this revision of the rollout gives the lane no work.
    LaneClosed(WorkerGroup, u64),
    /// No worker of the group is given work of this affinity, by its type or because it is not listed.
    NoWorkerOfType(WorkerGroup, Affinity),
    /// No worker of the group has the handler.
    NoHandler(WorkerGroup, String),
    /// Another job of the user runs.
    UserBusy(Key),
}

/// Returns why no worker can run work now; `None` if one can.
pub fn obstacle(work: &WaitingWorkView<'_>, directory: &WorkerDirectory) -> Option<Obstacle> {
    let group = || work.group.clone();
    if work.is_early {
        return Some(Obstacle::NotDue);
    }
    match (directory.find_gap(work.group, work.affinity, work.kind), work.closed_by) {
        (Some(NoCandidate::Worker), Some(revision)) => Some(Obstacle::LaneClosed(group(), revision)),
        (Some(NoCandidate::Worker), None) => Some(Obstacle::NoWorker(group())),
        (Some(NoCandidate::OfType(affinity)), _) => Some(Obstacle::NoWorkerOfType(group(), affinity)),
        (Some(NoCandidate::Handler), _) => {
            Some(Obstacle::NoHandler(group(), work.kind.unwrap_or_default().to_owned()))
        }
        (None, _) => work.running.map(Obstacle::UserBusy),
    }
}

impl Obstacle {
    /// Returns the code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotDue => "not_due",
            Self::NoWorker(_) => "no_worker",
            Self::LaneClosed(..) => "lane_closed",
            Self::NoWorkerOfType(..) => "no_worker_of_type",
            Self::NoHandler(..) => "no_handler",
            Self::UserBusy(_) => "user_busy",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDue => f.write_str("its time has not come"),
            Self::NoWorker(WorkerGroup { pool, lane }) => {
                write!(f, "no worker serves pool {pool}, lane {lane}")
            }
            Self::LaneClosed(WorkerGroup { pool, lane }, revision) => write!(
                f,
                "no worker serves pool {pool}, lane {lane}, and the rollout of the pool (revision {revision}) gives \
                 that lane no work"
            ),
            Self::NoWorkerOfType(WorkerGroup { pool, lane }, affinity) => {
                write!(f, "no worker of pool {pool}, lane {lane} is given {affinity} work")
            }
            Self::NoHandler(WorkerGroup { pool, lane }, kind) => {
                write!(f, "no worker of pool {pool}, lane {lane} has the handler {kind}")
            }
            Self::UserBusy(job) => write!(f, "another job of the user runs: {job}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{WorkerRow, WorkerType};

    fn directory(draining: bool, methods: &[&str]) -> WorkerDirectory {
        let methods = methods.iter().map(|&name| name.to_owned()).collect();
        let row = WorkerRow { pool: "p".into(), lane: "l".into(), draining, methods, ..WorkerRow::default() };
        let mut directory = WorkerDirectory::default();
        directory.put(Key::from_bits(1), 1, row);
        directory
    }

    #[test]
    fn the_first_obstacle_is_named_until_a_worker_can_run_the_work() {
        let group = WorkerGroup::new("p", "l");
        let able = WaitingWorkView {
            affinity: Affinity::Assigned,
            kind: Some("echo"),
            is_early: false,
            group: &group,
            closed_by: None,
            running: None,
        };
        let code = |work: &WaitingWorkView<'_>, directory: &WorkerDirectory| {
            obstacle(work, directory).map(|obstacle| obstacle.code())
        };
        let (nothing, leaving) = (WorkerDirectory::default(), directory(true, &["echo"]));
        let (echo, sum) = (directory(false, &["echo"]), directory(false, &["sum"]));
        let closed = WaitingWorkView { closed_by: Some(3), ..able };
        for (work, directory, expected) in [
            (able, &echo, None),
            (able, &nothing, Some("no_worker")),
            (able, &leaving, Some("no_worker")),
            (closed, &nothing, Some("lane_closed")),
            (closed, &echo, None),
            (able, &sum, Some("no_handler")),
            (WaitingWorkView { kind: None, ..able }, &sum, None),
            (WaitingWorkView { running: Some(Key::from_bits(9)), ..able }, &echo, Some("user_busy")),
            (WaitingWorkView { is_early: true, ..closed }, &nothing, Some("not_due")),
        ] {
            assert_eq!(code(&work, directory), expected, "{work:?}");
        }
        let mut free = WorkerDirectory::default();
        let row = WorkerRow { pool: "p".into(), lane: "l".into(), ..WorkerRow::default() };
        free.put(Key::from_bits(1), 1, WorkerRow { kind: WorkerType::Free, ..row });
        assert_eq!(code(&able, &free), Some("no_worker_of_type"));
    }
}
