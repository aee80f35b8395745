//! The candidates for a piece of work among the workers of a lane. Pure.
//!
//! Owns: which workers may get a call or job, which of them a user is assigned to, and why there is none. Never: whether
//! a worker is given work at all (`availability`), or the lane of a piece of work (`rollout`).
//!
//! A candidate is given work of that affinity and has the handler. The workers of a lane should have the same handlers; where
//! they differ, a user has one worker per set of candidates. The worker that a user is assigned to is the candidate with
//! the highest hash of partition and worker. The worker with the highest hash of all is the **home** of the user, and
//! every method that the home has is assigned to it. When a worker leaves, only its own partitions move; when a worker
//! joins, only partitions that it becomes the owner of.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::availability::Affinity;
use super::directory::{DirectoryEntry, WorkerDirectory, WorkerGroup};
use super::row::WorkerRow;
use crate::id::Key;

/// Number of partitions of the users of a pool. All users of a partition are assigned to the same workers of their lane.
pub const PARTITIONS: u8 = 64;

/// Why a piece of work has no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCandidate {
    /// The lane has no worker that accepts new work.
    Worker,
    /// The workers of the lane are given no work of this affinity, by their type or because they are not listed.
    OfType(Affinity),
    /// No worker that is given work of this affinity has the handler.
    Handler,
}

impl WorkerDirectory {
    /// Returns why no worker of a group can run work now; `None` when a worker can. Without a method, the handler does not
    /// count.
    pub fn find_gap(
        &self,
        team: &WorkerGroup,
        affinity: Affinity,
        method: Option<&str>,
    ) -> Option<NoCandidate> {
        if self.candidates(team, affinity, method).next().is_some() {
            return None;
        }
        Some(if self.gives(team, affinity) {
            NoCandidate::Handler
        } else if self.members(team).any(|(_, member)| !member.row.draining) {
            NoCandidate::OfType(affinity)
        } else {
            NoCandidate::Worker
        })
    }

    /// Returns whether a group has a worker that is given new work of an affinity.
    pub fn gives(&self, team: &WorkerGroup, affinity: Affinity) -> bool {
        self.candidates(team, affinity, None).next().is_some()
    }

    /// Returns whether a group has a worker other than this one that can run a method for any caller.
    pub fn has_other_candidate(&self, team: &WorkerGroup, method: &str, worker: Option<Key>) -> bool {
        self.candidates(team, Affinity::Free, Some(method)).any(|id| Some(id) != worker)
    }

    /// Returns whether a group has a worker that can run a method for any caller: in a process of its own, or inside a node
    /// and none of `own`.
    pub fn has_free(&self, team: &WorkerGroup, method: &str, inside_nodes: bool, own: &[Key]) -> bool {
        self.free_members(team, method, inside_nodes).any(|id| !own.contains(&id))
    }

    /// Returns the workers that are asked to run a free call by themselves, the first one first, because one of those that
    /// share such calls leaves. `None` while none of them leaves.
    ///
    /// A worker that leaves its groups loses a call that the engine sends to it in that moment.
    pub fn asked_around_leaving(
        &self,
        team: &WorkerGroup,
        method: &str,
        inside_nodes: bool,
        call: Key,
    ) -> Option<Vec<Key>> {
        let leaves = |row: &WorkerRow| row.draining && row.node.is_some() == inside_nodes && row.has(method);
        self.members(team).find(|(_, member)| leaves(&member.row))?;
        let [spread, ..] = call.bits().to_be_bytes();
        let mut asked: Vec<Key> = self.free_members(team, method, inside_nodes).collect();
        asked.sort_by_cached_key(|id| score(spread, *id));
        Some(asked)
    }

    /// Iterates over the workers that share the free calls of a method: those inside nodes, or the others.
    fn free_members(
        &self,
        team: &WorkerGroup,
        method: &str,
        inside_nodes: bool,
    ) -> impl Iterator<Item = Key> {
        let is_inside = |id: &Key| self.row(*id).is_some_and(|row| row.node.is_some());
        self.candidates(team, Affinity::Free, Some(method)).filter(move |id| is_inside(id) == inside_nodes)
    }

    /// Returns a worker of a group that can run a free job. The jobs are spread over the candidates.
    pub fn choose_for_job(&self, team: &WorkerGroup, method: &str, job: Key) -> Option<Key> {
        let [spread, ..] = job.bits().to_be_bytes();
        self.candidates(team, Affinity::Free, Some(method)).max_by_key(|id| score(spread, *id))
    }

    /// Returns whether a pool has a worker that is given new work and has a method, in any lane.
    pub fn pool_serves(&self, pool: &str, method: &str) -> bool {
        self.groups().filter(|team| team.pool == pool).any(|team| {
            let candidates = |affinity| self.candidates(team, affinity, Some(method)).next().is_some();
            candidates(Affinity::Free) || candidates(Affinity::Assigned)
        })
    }

    /// Returns the worker of a group that a user is assigned to for a method, or the home of the user without one.
    pub fn choose(&self, team: &WorkerGroup, user: &str, method: Option<&str>) -> Option<Key> {
        let partition = partition(user);
        self.candidates(team, Affinity::Assigned, method).max_by_key(|id| score(partition, *id))
    }

    /// Returns the partitions with users who are assigned to a worker of a group, for at least one of its methods.
    pub fn partitions_of(&self, team: &WorkerGroup, worker: Key) -> BTreeSet<u8> {
        let given = |id: Key| self.candidates(team, Affinity::Assigned, None).any(|other| other == id);
        let Some(own) = self.row(worker).filter(|_| given(worker)) else { return BTreeSet::new() };
        let has_one = |partition: &u8| {
            let mine = score(*partition, worker);
            let above: Vec<Key> = self
                .candidates(team, Affinity::Assigned, None)
                .filter(|id| score(*partition, *id) > mine)
                .collect();
            let elsewhere = |method: &str| above.iter().any(|id| self.has(*id, method));
            above.is_empty() || own.methods.iter().any(|method| !elsewhere(method))
        };
        (0..PARTITIONS).filter(has_one).collect()
    }

    /// Returns whether a living worker has a method.
    pub fn has(&self, worker: Key, method: &str) -> bool {
        self.row(worker).is_some_and(|row| row.has(method))
    }

    /// Iterates over the workers of a group that are given new work of an affinity, and that have the method if there is one.
    fn candidates(
        &self,
        team: &WorkerGroup,
        affinity: Affinity,
        method: Option<&str>,
    ) -> impl Iterator<Item = Key> {
        let gives = move |member: &DirectoryEntry| {
            let row = &member.row;
            self.discovery.gives(row, affinity) && method.is_none_or(|method| row.has(method))
        };
        self.members(team).filter(move |(_, member)| gives(member)).map(|(id, _)| id)
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
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::id::NodeNumber;
    use crate::worker::{Discovery, ListedWorker, WorkerType};

    fn row(methods: &[&str]) -> WorkerRow {
        let methods = methods.iter().map(|&method| method.to_owned()).collect();
        WorkerRow { pool: "p".into(), lane: "l".into(), methods, ..WorkerRow::default() }
    }

    fn team() -> WorkerGroup {
        WorkerGroup::new("p", "l")
    }

    fn roster(ids: impl IntoIterator<Item = u128>) -> WorkerDirectory {
        let mut roster = WorkerDirectory::default();
        for id in ids {
            roster.put(Key::from_bits(id), 1, row(&["a"]));
        }
        roster
    }

    proptest! {
        #[test]
        fn only_the_users_of_a_worker_that_goes_move(
            ids in prop::collection::btree_set(0u128..1000, 2..8), gone: prop::sample::Index, user in "\\PC{0,8}"
        ) {
            let mut roster = roster(ids.iter().copied());
            let before = roster.choose(&team(), &user, None);
            let gone = Key::from_bits(*gone.get(&ids.into_iter().collect::<Vec<_>>()));
            roster.remove(gone);
            if before != Some(gone) {
                prop_assert_eq!(roster.choose(&team(), &user, None), before);
            } else {
                prop_assert!(roster.choose(&team(), &user, None).is_some());
            }
        }

        /// Workers with any handlers: each method that a worker has finds a worker, the home keeps all that it has, and
        /// a worker follows every partition that it gets work of, and no other one.
        #[test]
        fn each_method_of_a_user_has_one_worker_that_follows_the_partition(
            workers in prop::collection::vec(prop::collection::btree_set(0usize..4, 1..4), 1..6), user in "\\PC{0,8}"
        ) {
            let names = ["a", "b", "c", "d"];
            let mut roster = WorkerDirectory::default();
            for (id, methods) in workers.iter().enumerate() {
                let methods: Vec<&str> = methods.iter().map(|method| names[*method]).collect();
                roster.put(Key::from_bits(id as u128), 1, row(&methods));
            }
            let home = roster.choose(&team(), &user, None).unwrap();
            let mut chosen = BTreeSet::from([home]);
            for (index, method) in names.iter().enumerate() {
                let worker = roster.choose(&team(), &user, Some(method));
                prop_assert_eq!(worker.is_some(), workers.iter().any(|methods| methods.contains(&index)));
                prop_assert!(worker.is_none_or(|worker| roster.has(worker, method)));
                prop_assert!(!roster.has(home, method) || worker == Some(home));
                chosen.extend(worker);
            }
            let follows = |id: &Key| roster.partitions_of(&team(), *id).contains(&partition(&user));
            let following = (0..workers.len()).map(|id| Key::from_bits(id as u128)).filter(follows).collect();
            prop_assert_eq!(chosen, following);
        }
    }

    #[test]
    fn users_spread_over_the_workers() {
        let (roster, mut users) = (roster(0..4), HashMap::<Key, usize>::new());
        for user in 0..1000 {
            *users.entry(roster.choose(&team(), &user.to_string(), None).unwrap()).or_default() += 1;
        }
        assert!(users.len() == 4 && users.values().all(|count| (100..420).contains(count)), "{users:?}");
    }

    #[test]
    fn the_reason_is_named_when_no_worker_can_run_work() {
        let mut roster = WorkerDirectory::default();
        let gap = |roster: &WorkerDirectory, work| roster.find_gap(&team(), work, Some("a"));
        let (free, assigned) = (Affinity::Free, Affinity::Assigned);
        assert_eq!(gap(&roster, free), Some(NoCandidate::Worker));
        roster.put(Key::from_bits(1), 1, WorkerRow { kind: WorkerType::Free, ..row(&["b"]) });
        assert_eq!(gap(&roster, free), Some(NoCandidate::Handler));
        assert_eq!(gap(&roster, assigned), Some(NoCandidate::OfType(assigned)));
        assert_eq!(roster.find_gap(&team(), free, Some("b")), None);
        assert_eq!(roster.find_gap(&team(), free, None), None);
        assert!(roster.pool_serves("p", "b") && !roster.pool_serves("p", "a"));
        assert!(roster.has_free(&team(), "b", false, &[]) && !roster.has_free(&team(), "b", true, &[]));
        let inside = WorkerRow { node: NodeNumber::new(1), ..row(&["b"]) };
        roster.put(Key::from_bits(1), 1, inside);
        assert!(roster.has_free(&team(), "b", true, &[]) && !roster.has_free(&team(), "b", false, &[]));
        assert!(!roster.has_free(&team(), "b", true, &[Key::from_bits(1)]), "only the node's own one");
        roster.put(Key::from_bits(1), 1, WorkerRow { draining: true, ..row(&["a"]) });
        assert_eq!(gap(&roster, free), Some(NoCandidate::Worker));
    }

    #[test]
    fn while_a_worker_leaves_the_others_are_asked_by_themselves_in_an_order_of_the_call() {
        let mut roster = roster(1..=3);
        let asked = |roster: &WorkerDirectory, call: u128| {
            roster.asked_around_leaving(&team(), "a", false, Key::from_bits(call << 120))
        };
        assert_eq!(asked(&roster, 1), None);
        roster.put(
            Key::from_bits(4),
            1,
            WorkerRow { draining: true, node: NodeNumber::new(1), ..row(&["a"]) },
        );
        roster.put(Key::from_bits(5), 1, WorkerRow { draining: true, ..row(&["b"]) });
        assert_eq!(asked(&roster, 1), None, "another group and another method");
        roster.put(Key::from_bits(2), 1, WorkerRow { draining: true, ..row(&["a"]) });
        let firsts: BTreeSet<Key> = (0..20).map(|call| asked(&roster, call).unwrap()[0]).collect();
        assert_eq!(firsts, BTreeSet::from([1, 3].map(Key::from_bits)));
        roster.remove(Key::from_bits(2));
        assert_eq!(asked(&roster, 1), None);
    }

    #[test]
    fn a_worker_that_is_not_listed_has_a_lease_and_gets_nothing() {
        let listed = ListedWorker { name: "known".into(), kind: WorkerType::Both };
        let mut roster = WorkerDirectory::new(Discovery::Manual(vec![listed]));
        let named = |name: &str| WorkerRow { name: name.into(), ..row(&["a"]) };
        roster.put(Key::from_bits(1), 1, named("unknown"));
        assert_eq!(roster.list().len(), 1);
        assert!(!roster.serves(&team()) && roster.choose(&team(), "ann", None).is_none());
        assert!(roster.partitions_of(&team(), Key::from_bits(1)).is_empty());
        assert_eq!(roster.find_gap(&team(), Affinity::Free, None), Some(NoCandidate::OfType(Affinity::Free)));
        roster.put(Key::from_bits(2), 1, named("known"));
        assert_eq!(roster.find_gap(&team(), Affinity::Free, Some("a")), None);
        assert_eq!(roster.choose(&team(), "ann", Some("a")), Some(Key::from_bits(2)));
        assert_eq!(roster.partitions_of(&team(), Key::from_bits(2)).len(), usize::from(PARTITIONS));
    }
}
