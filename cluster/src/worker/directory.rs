//! The worker directory: the living workers, and which of them is assigned to a user. Pure.
//!
//! The users of a pool are in 64 partitions. The worker of a partition is chosen by rendezvous hashing: the one with the
//! highest hash of partition and worker. When a worker leaves, only its own partitions move; when a worker joins, only
//! partitions that it becomes the owner of.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::row::{WorkerId, WorkerRow};
use crate::id::Key;

/// Number of partitions of the users of a pool. All users of a partition are assigned to the same worker of their lane.
pub const PARTITIONS: u8 = 64;

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
struct DirectoryEntry {
    epoch: u64,
    row: WorkerRow,
}

/// The living workers of all pools and lanes.
#[derive(Debug, Default)]
pub struct WorkerDirectory {
    teams: HashMap<WorkerGroup, BTreeMap<Key, DirectoryEntry>>,
    team_of: HashMap<Key, WorkerGroup>,
}

impl WorkerDirectory {
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
        self.available(team).next().is_some()
    }

    /// Returns whether a group has a worker other than this one that accepts new work.
    pub fn serves_without(&self, team: &WorkerGroup, worker: Option<Key>) -> bool {
        self.available(team).any(|id| Some(id) != worker)
    }

    /// Returns whether a group has a worker that accepts new work and has a handler. A worker that names no handlers may
    /// have any.
    pub fn serves_method(&self, team: &WorkerGroup, method: &str) -> bool {
        let members = self.teams.get(team).into_iter().flat_map(BTreeMap::values);
        let mut rows = members.map(|member| &member.row).filter(|row| !row.draining);
        rows.any(|row| row.methods.is_empty() || row.methods.iter().any(|known| known == method))
    }

    /// Returns how many workers of a group accept new work, and their releases, the release of the newest worker first.
    pub fn available_releases(&self, team: &WorkerGroup) -> (usize, Vec<&str>) {
        let members = self.teams.get(team).into_iter().flat_map(BTreeMap::values);
        let mut rows: Vec<&WorkerRow> =
            members.map(|member| &member.row).filter(|row| !row.draining).collect();
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

    /// Iterates over the pools that have a worker. A pool comes once per lane with a worker.
    pub fn pools(&self) -> impl Iterator<Item = &str> {
        self.teams.keys().map(|team| team.pool.as_str())
    }

    /// Returns the worker of a group that a user is assigned to: the owner of the user's partition.
    pub fn choose(&self, team: &WorkerGroup, user: &str) -> Option<Key> {
        self.owner(team, partition(user))
    }

    /// Returns the worker of a group that owns a partition.
    pub fn owner(&self, team: &WorkerGroup, partition: u8) -> Option<Key> {
        self.available(team).max_by_key(|id| score(partition, *id))
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

    fn available(&self, team: &WorkerGroup) -> impl Iterator<Item = Key> {
        let members = self.teams.get(team).into_iter().flatten();
        members.filter(|(_, member)| !member.row.draining).map(|(id, _)| *id)
    }
}

/// Returns the partition of a user: the same in every process and release.
pub fn partition(user: &str) -> u8 {
    Sha256::digest(user.as_bytes())[0] % PARTITIONS
}

fn score(partition: u8, worker: Key) -> [u8; 32] {
    Sha256::new().chain_update(worker.bits().to_be_bytes()).chain_update([partition]).finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(draining: bool) -> WorkerRow {
        WorkerRow { pool: "p".into(), lane: "l".into(), draining, ..WorkerRow::default() }
    }

    fn roster(ids: impl IntoIterator<Item = u128>) -> WorkerDirectory {
        let mut roster = WorkerDirectory::default();
        for id in ids {
            roster.put(Key::from_bits(id), 1, row(false));
        }
        roster
    }

    #[test]
    fn a_worker_lives_in_its_own_epoch_and_takes_nothing_new_while_it_drains() {
        let (mut roster, team) = (roster([7]), WorkerGroup::new("p", "l"));
        let id = Key::from_bits(7);
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

    proptest! {
        #[test]
        fn only_the_users_of_a_worker_that_goes_move(
            ids in prop::collection::btree_set(0u128..1000, 2..8), gone: prop::sample::Index, user in "\\PC{0,8}"
        ) {
            let team = WorkerGroup::new("p", "l");
            let mut roster = roster(ids.iter().copied());
            let before = roster.choose(&team, &user);
            let gone = Key::from_bits(*gone.get(&ids.into_iter().collect::<Vec<_>>()));
            roster.remove(gone);
            if before != Some(gone) {
                prop_assert_eq!(roster.choose(&team, &user), before);
            } else {
                prop_assert!(roster.choose(&team, &user).is_some());
            }
        }
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

    #[test]
    fn users_spread_over_the_workers() {
        let (roster, team) = (roster(0..4), WorkerGroup::new("p", "l"));
        let mut users = HashMap::<Key, usize>::new();
        for user in 0..1000 {
            *users.entry(roster.choose(&team, &user.to_string()).unwrap()).or_default() += 1;
        }
        assert!(users.len() == 4 && users.values().all(|count| (100..420).contains(count)), "{users:?}");
    }
}
