//! The worker directory: the living workers, and which of them are given new work. Pure.
//!
//! Owns: the rows of the living workers by group. Never: which worker gets a piece of work (`candidates`).

use std::collections::{BTreeMap, HashMap};

use super::availability::{Affinity, Discovery};
use super::row::{WorkerId, WorkerRow};
use crate::id::Key;

/// The workers of one lane of one pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerGroup {
    /// Pool of the workers.
    pub pool: String,
    /// Lane of the workers.
    pub lane: String,
}

impl WorkerGroup {
    /// Names the workers of a lane of a pool.
    pub fn new(pool: impl Into<String>, lane: impl Into<String>) -> Self {
        Self { pool: pool.into(), lane: lane.into() }
    }
}

#[derive(Debug)]
pub(super) struct DirectoryEntry {
    epoch: u64,
    pub(super) row: WorkerRow,
}

/// The living workers of all pools and lanes.
#[derive(Debug, Default)]
pub struct WorkerDirectory {
    teams: HashMap<WorkerGroup, BTreeMap<Key, DirectoryEntry>>,
    team_of: HashMap<Key, WorkerGroup>,
    pub(super) discovery: Discovery,
}

impl WorkerDirectory {
    /// Creates a directory without workers.
    pub fn new(discovery: Discovery) -> Self {
        Self { discovery, ..Self::default() }
    }

    /// Returns how the workers are found.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Adds or updates a worker after its lease was claimed or renewed.
    pub fn put(&mut self, id: Key, rev: u64, row: WorkerRow) {
        let team = WorkerGroup::new(row.pool.as_str(), row.lane.as_str());
        self.team_of.insert(id, team.clone());
        let epoch = row.epoch_at(rev);
        self.teams.entry(team).or_default().insert(id, DirectoryEntry { epoch, row });
    }

    /// Removes a worker without a lease.
    pub fn remove(&mut self, id: Key) {
        let Some(team) = self.team_of.remove(&id) else { return };
        if let Some(members) = self.teams.get_mut(&team) {
            members.remove(&id);
            if members.is_empty() {
                self.teams.remove(&team);
            }
        }
    }

    /// Returns whether that incarnation of a worker holds its lease.
    pub fn is_current(&self, worker: WorkerId) -> bool {
        self.member(worker.id).is_some_and(|member| member.epoch == worker.epoch)
    }

    /// Returns the incarnation of a worker that holds its lease.
    pub fn current_epoch(&self, id: Key) -> Option<WorkerId> {
        self.member(id).map(|member| WorkerId { id, epoch: member.epoch })
    }

    /// Returns the row of a living worker.
    pub fn row(&self, id: Key) -> Option<&WorkerRow> {
        self.member(id).map(|member| &member.row)
    }

    /// Returns whether a group has a worker that accepts new work.
    pub fn serves(&self, team: &WorkerGroup) -> bool {
        self.members(team).any(|(_, member)| self.accepts_work(&member.row))
    }

    /// Returns how many workers of a group accept new work, and their releases, the release of the newest worker first.
    pub fn available_releases(&self, team: &WorkerGroup) -> (usize, Vec<&str>) {
        let rows = self.members(team).map(|(_, member)| &member.row);
        let mut rows: Vec<&WorkerRow> = rows.filter(|row| self.accepts_work(row)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.started));
        let mut releases: Vec<&str> = Vec::new();
        for row in &rows {
            if !releases.contains(&row.release.as_str()) {
                releases.push(&row.release);
            }
        }
        (rows.len(), releases)
    }

    /// Returns whether a pool has a worker that accepts new work, in any lane.
    pub fn serves_pool(&self, pool: &str) -> bool {
        self.teams.keys().any(|team| team.pool == pool && self.serves(team))
    }

    /// Returns where the work of a handler runs if its caller does not say it, as the newest worker of a group says.
    pub fn mode_of(&self, team: &WorkerGroup, method: &str) -> Option<&str> {
        self.newest(team, method)?.modes.get(method).map(String::as_str)
    }

    /// Returns how often a failed job of a handler is retried if its submitter does not say it, as the newest worker of a
    /// group says.
    pub fn retries_of(&self, team: &WorkerGroup, method: &str) -> Option<u32> {
        self.newest(team, method)?.retries.get(method).copied()
    }

    /// Returns the row of the worker of a group that has a method and started last.
    fn newest(&self, team: &WorkerGroup, method: &str) -> Option<&WorkerRow> {
        let rows = self.members(team).map(|(_, member)| &member.row).filter(|row| row.has(method));
        rows.max_by_key(|row| (!row.draining, row.started))
    }

    /// Iterates over the pools that have a worker. A pool comes once per lane with a worker.
    pub fn pools(&self) -> impl Iterator<Item = &str> {
        self.teams.keys().map(|team| team.pool.as_str())
    }

    /// Returns all living workers, ordered by group and id.
    pub fn list(&self) -> Vec<(WorkerId, &WorkerRow)> {
        let mut teams: Vec<_> = self.teams.iter().collect();
        teams.sort_by_key(|(team, _)| *team);
        let members = teams.into_iter().flat_map(|(_, members)| members);
        members.map(|(&id, member)| (WorkerId { id, epoch: member.epoch }, &member.row)).collect()
    }

    fn member(&self, id: Key) -> Option<&DirectoryEntry> {
        self.teams.get(self.team_of.get(&id)?)?.get(&id)
    }

    /// Iterates over the living workers of a group.
    pub(super) fn members(&self, team: &WorkerGroup) -> impl Iterator<Item = (Key, &DirectoryEntry)> {
        self.teams.get(team).into_iter().flatten().map(|(id, member)| (*id, member))
    }

    /// Iterates over the groups with a living worker.
    pub(super) fn groups(&self) -> impl Iterator<Item = &WorkerGroup> {
        self.teams.keys()
    }

    /// Returns whether a worker is given new work of any kind.
    fn accepts_work(&self, row: &WorkerRow) -> bool {
        [Affinity::Free, Affinity::Assigned].into_iter().any(|affinity| self.discovery.gives(row, affinity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(draining: bool) -> WorkerRow {
        WorkerRow { pool: "p".into(), lane: "l".into(), draining, ..WorkerRow::default() }
    }

    #[test]
    fn a_worker_lives_in_its_own_epoch_and_takes_nothing_new_while_it_drains() {
        let (mut roster, team) = (WorkerDirectory::default(), WorkerGroup::new("p", "l"));
        let id = Key::from_bits(7);
        roster.put(id, 1, row(false));
        assert!(
            roster.is_current(WorkerId { id, epoch: 1 }) && !roster.is_current(WorkerId { id, epoch: 2 })
        );
        assert!(roster.serves(&team) && !roster.serves(&WorkerGroup::new("p", "other")));
        roster.put(id, 9, WorkerRow { epoch: Some(1), ..row(true) });
        assert!(roster.is_current(WorkerId { id, epoch: 1 }), "renewing is not a new life");
        assert!(!roster.serves(&team));
        roster.remove(id);
        assert!(!roster.is_current(WorkerId { id, epoch: 1 }) && roster.list().is_empty());
    }

    #[test]
    fn the_newest_worker_says_where_a_handler_runs_by_default() {
        let (mut roster, team) = (WorkerDirectory::default(), WorkerGroup::new("p", "l"));
        assert_eq!(roster.mode_of(&team, "a"), None);
        let methods = vec!["a".to_owned(), "b".to_owned()];
        let with_mode = |mode: &str, started| WorkerRow {
            modes: [("a".to_owned(), mode.to_owned())].into(),
            retries: [("a".to_owned(), 3)].into(),
            methods: methods.clone(),
            started,
            ..row(false)
        };
        roster.put(Key::from_bits(1), 1, with_mode("any", 9));
        roster.put(Key::from_bits(2), 1, with_mode("assigned", 10));
        assert_eq!((roster.mode_of(&team, "a"), roster.mode_of(&team, "b")), (Some("assigned"), None));
        assert_eq!((roster.retries_of(&team, "a"), roster.retries_of(&team, "b")), (Some(3), None));
    }

    #[test]
    fn a_crew_is_counted_with_its_releases_the_newest_first() {
        let mut roster = WorkerDirectory::default();
        for (id, release, started, draining) in
            [(1, "r1", 5, false), (2, "r2", 9, false), (3, "r1", 7, false), (4, "r0", 20, true)]
        {
            let row = WorkerRow { release: release.into(), started, ..row(draining) };
            roster.put(Key::from_bits(id), 1, row);
        }
        assert_eq!(roster.available_releases(&WorkerGroup::new("p", "l")), (3, vec!["r2", "r1"]));
        assert_eq!(roster.available_releases(&WorkerGroup::new("p", "other")), (0, vec![]));
    }
}
