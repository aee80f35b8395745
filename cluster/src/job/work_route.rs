//! The routes of a lane's work items.
//!
//! Owns: priorities and shards, which of them a job gets, and the names of the routes. Never: when a shard is pulled.
//!
//! A route is `<pool>.<lane>.<priority>.<shard>`. The jobs of one user are in one shard, and workers take from the
//! shards in turn, so that one user's jobs do not hold up the jobs of users in other shards. Two users may share a
//! shard, but not for long: the shard of a user changes every hour. Jobs without a user or page are those of programs.
//! They have one shard, so that a program that submits many of them takes the turns of one user, and so that workers take
//! several of them with one pull: a pull per job costs more than the rest of its delivery.

use sha2::{Digest, Sha256};

use super::record::Record;
use crate::subject::route;
use crate::worker::WorkerGroup;

/// Number of shards of each priority.
const SHARDS: u8 = 16;

/// The shard of jobs that have neither a user nor a page.
const SHARD_OF_PROGRAMS: u8 = 0;

/// How long a user has the same shard, in milliseconds.
const SHARD_MS: u64 = 3_600_000;

/// The priority of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all others.
    High,
    /// The priority of a job that names none.
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// All priorities, the highest first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Returns its token in a route.
    const fn token(self) -> u8 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

/// One of the parts of a lane's work items that are pulled separately: a shard, or all shards of a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PulledRoute {
    /// Priority of the work items.
    pub priority: Priority,
    /// The shard; `None` for all shards of the priority.
    shard: Option<u8>,
}

impl PulledRoute {
    /// Returns all parts: each work item is in one of them. Only the shards of the normal priority are pulled
    /// separately, because each part costs the engine as much as a queue of its own.
    pub fn all() -> impl Iterator<Item = Self> {
        Priority::ALL.into_iter().flat_map(|priority| {
            let (whole, shards) = match priority {
                Priority::Normal => (None, 0..SHARDS),
                Priority::High | Priority::Low => (Some(Self { priority, shard: None }), 0..0),
            };
            let shards = shards.map(move |shard| Self { priority, shard: Some(shard) });
            whole.into_iter().chain(shards)
        })
    }

    /// Returns the route of this part, or the pattern of its routes.
    pub fn of(self, team: &WorkerGroup) -> String {
        let lane = route(&team.pool, &team.lane);
        match self.shard {
            Some(shard) => format!("{lane}.{}.{shard}", self.priority.token()),
            None => format!("{lane}.{}.*", self.priority.token()),
        }
    }
}

/// Returns the pattern of all routes of a lane.
pub fn lane_routes(team: &WorkerGroup) -> String {
    format!("{}.*.*", route(&team.pool, &team.lane))
}

/// Returns the route of the work item of a job that is enqueued at `now`, in milliseconds since the Unix epoch.
pub(super) fn item_route(record: &Record, now: u64) -> String {
    let hour = now / SHARD_MS;
    let shard = match (&record.user, record.askers.first()) {
        (Some(user), _) => shard("user", user, hour),
        (None, Some(asker)) => shard("page", &asker.page.key.to_string(), hour),
        (None, None) => SHARD_OF_PROGRAMS,
    };
    PulledRoute { priority: Priority::Normal, shard: Some(shard) }.of(&record.team())
}

/// Returns the shard of an identity, which depends on the hour.
fn shard(kind: &str, identity: &str, hour: u64) -> u8 {
    let digest =
        Sha256::new().chain_update(hour.to_be_bytes()).chain_update(kind).chain_update(identity).finalize();
    // sixteen bits, because eight are not spread evenly over fifteen shards
    let bits = u16::from_be_bytes([digest[0], digest[1]]);
    SHARD_OF_PROGRAMS + 1 + (bits % u16::from(SHARDS - 1)) as u8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_work_item_is_in_exactly_one_pulled_route() {
        let team = WorkerGroup::new("p", "l");
        let routes: Vec<String> = PulledRoute::all().map(|part| part.of(&team)).collect();
        assert_eq!(routes.len(), 18);
        for priority in Priority::ALL {
            for shard in 0..SHARDS {
                let route = PulledRoute { priority, shard: Some(shard) }.of(&team);
                let pulled = |pattern: &&String| match pattern.strip_suffix('*') {
                    Some(start) => route.starts_with(start),
                    None => **pattern == route,
                };
                assert_eq!(routes.iter().filter(pulled).count(), 1, "{route}");
            }
        }
    }

    #[test]
    fn the_shards_are_used_alike_and_two_users_do_not_share_one_for_long() {
        let users: Vec<String> = (0..1600).map(|user| format!("user {user}")).collect();
        let mut sizes = [0; SHARDS as usize];
        for user in &users {
            sizes[shard("user", user, 7) as usize] += 1;
        }
        assert_eq!(sizes[SHARD_OF_PROGRAMS as usize], 0, "no user waits behind the jobs of programs");
        assert!(sizes[1..].iter().all(|size| (50..160).contains(size)), "{sizes:?}");
        let shared =
            (0..24).filter(|hour| shard("user", "ann", *hour) == shard("user", "bob", *hour)).count();
        assert!(shared < 8, "{shared} of 24 hours");
        let of_ann: BTreeSet<u8> = (0..24).map(|hour| shard("user", "ann", hour)).collect();
        assert!(of_ann.len() > 4, "{of_ann:?}");
    }
}
