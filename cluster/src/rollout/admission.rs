//! The users who are admitted to a lane with a limit on its users. Pure.
//!
//! Owns: the row of each such lane in the bucket `config` (`admitted.<pool>.<lane>`), who is added to it, and what follows for the
//! lane of a unit. Never: when it is written (`admission_writer`).
//!
//! The row is the one place that says who is in: it is changed by compare-and-set, and a user has the lane when the user is in
//! it, and not before. So no two processes admit one user too many, and a process that has not received the row yet
//! only sends users to the base lane. The row grows until the lane starts anew; the first row of the new start replaces it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::active::{LaneAssignment, LaneInputs, Reason};
use super::lane::RoutingKey;
use super::spec::RolloutSpec;
use crate::engine::Entry;
use crate::wire;

/// The users who are admitted to a lane from one of its starts on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AdmittedUsers {
    pool: String,
    lane: String,
    /// The origin of the document: revisions of another one say nothing.
    origin: String,
    /// The revision of the start of the lane.
    since: u64,
    /// The revision of the document by which the row was written. A process that has applied an earlier one does not write.
    revision: u64,
    users: BTreeSet<String>,
}

/// A row, and the revision of its entry.
type KnownUsers = (u64, Arc<AdmittedUsers>);

/// The rows of one pool, by lane.
pub(super) type PoolAdmissions = BTreeMap<String, KnownUsers>;

/// The rows of all pools, as this process has applied them.
#[derive(Debug, Default)]
pub(super) struct AdmissionTable {
    pools: HashMap<String, Arc<PoolAdmissions>>,
    /// Pool and lane of each key.
    keys: HashMap<String, (String, String)>,
}

impl AdmittedUsers {
    /// Returns the row with the users of `latched`, who are in already, and those of `asking` for whom there is room; `None` if
    /// that changes nothing, or if this process is behind the one that has written the row.
    pub(super) fn next(
        known: Option<&Self>,
        (document, lane): (&RolloutSpec, &str),
        latched: impl IntoIterator<Item = String>,
        asking: &BTreeSet<String>,
    ) -> Option<Self> {
        let start = document.enrolment.started.get(lane)?;
        let most = document.max_users(lane)?;
        let same = known.filter(|row| row.origin == document.origin);
        if same.is_some_and(|row| row.revision > document.rev) {
            return None;
        }
        let before = same.filter(|row| row.since == start.rev).map(|row| &row.users);
        let mut users = before.cloned().unwrap_or_default();
        users.extend(latched);
        for user in asking {
            if users.len() < most {
                users.insert(user.clone());
            }
        }
        let is_same = before.map_or(users.is_empty(), |before| *before == users);
        (!is_same).then(|| Self {
            pool: document.pool.clone(),
            lane: lane.to_owned(),
            origin: document.origin.clone(),
            since: start.rev,
            revision: document.rev,
            users,
        })
    }

    #[cfg(test)]
    pub(super) fn only(document: &RolloutSpec, lane: &str, since: u64, user: &str) -> Self {
        let (pool, lane, origin) = (document.pool.clone(), lane.to_owned(), document.origin.clone());
        Self { pool, lane, origin, since, revision: document.rev, users: [user.to_owned()].into() }
    }

    /// Whether the row belongs to the present start of its lane.
    fn is_of(&self, document: &RolloutSpec) -> bool {
        let start = document.enrolment.started.get(&self.lane);
        self.origin == document.origin && start.is_some_and(|start| start.rev == self.since)
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &String> {
        self.users.iter()
    }

    pub(super) fn encode(&self) -> Bytes {
        wire::encode(self)
    }
}

/// Returns the row of the present start of a lane.
pub(super) fn admitted<'a>(
    rows: &'a PoolAdmissions,
    document: &RolloutSpec,
    lane: &str,
) -> Option<&'a AdmittedUsers> {
    rows.get(lane).map(|(_, row)| &**row).filter(|row| row.is_of(document))
}

impl AdmissionTable {
    /// Applies an entry of a watch. Returns whether it changes something. An entry that is older than the one that this process has
    /// written itself does not.
    pub(super) fn put(&mut self, entry: &Entry) -> bool {
        let Ok(row) = serde_json::from_slice::<AdmittedUsers>(&entry.value) else { return false };
        let known = self.find(&row.pool, &row.lane);
        let is_older = known.is_some_and(|(rev, known)| entry.rev < rev && known.origin == row.origin);
        !is_older && self.set(entry.key.clone(), entry.rev, row)
    }

    /// Applies the entry that is stored now.
    pub(super) fn replace(&mut self, entry: &Entry) -> bool {
        let row = serde_json::from_slice::<AdmittedUsers>(&entry.value);
        row.is_ok_and(|row| self.set(entry.key.clone(), entry.rev, row))
    }

    /// Applies a row that is stored at this revision.
    pub(super) fn set(&mut self, key: String, rev: u64, row: AdmittedUsers) -> bool {
        let (pool, lane) = (row.pool.clone(), row.lane.clone());
        let rows = Arc::make_mut(self.pools.entry(pool.clone()).or_default());
        let before = rows.insert(lane.clone(), (rev, Arc::new(row)));
        let has_changed = before.as_ref().map(|(_, row)| row) != rows.get(&lane).map(|(_, row)| row);
        self.keys.insert(key, (pool, lane));
        has_changed
    }

    /// Takes a row away.
    pub(super) fn delete(&mut self, key: &str) -> bool {
        let Some((pool, lane)) = self.keys.remove(key) else { return false };
        let rows = self.pools.get_mut(&pool).map(Arc::make_mut);
        rows.is_some_and(|rows| rows.remove(&lane).is_some())
    }

    /// Returns the rows of a pool.
    pub(super) fn of_pool(&self, pool: &str) -> Option<Arc<PoolAdmissions>> {
        self.pools.get(pool).cloned()
    }

    pub(super) fn find(&self, pool: &str, lane: &str) -> Option<KnownUsers> {
        self.pools.get(pool).and_then(|rows| rows.get(lane)).cloned()
    }
}

impl<'a> LaneInputs<'a> {
    /// Whether a user is in a lane in which it stays.
    pub(super) fn is_in(self, lane: &str, unit: RoutingKey<'_>) -> bool {
        let RoutingKey::User(user) = unit else { return false };
        let start = self.document.enrolment.started.get(lane);
        let is_known =
            || start.is_some_and(|start| self.enrolment.is_some_and(|row| row.stays_in(lane, start.rev)));
        admitted(self.admitted, self.document, lane).is_some_and(|row| row.users.contains(user)) || is_known()
    }

    /// Whether a unit may have a lane by its bucket, or keep it.
    pub(super) fn may_have(self, lane: &str, unit: RoutingKey<'_>) -> bool {
        self.document.max_users(lane).is_none() || self.is_in(lane, unit)
    }

    /// Returns the lane beside the base in which a user stays because it is admitted.
    pub(super) fn admitted_lane(self, unit: RoutingKey<'_>) -> Option<&'a str> {
        let RoutingKey::User(user) = unit else { return None };
        let has = |lane: &str| admitted(self.admitted, self.document, lane);
        let mut lanes = self.document.lanes.iter().map(|lane| lane.name.as_str());
        lanes.find(|lane| has(lane).is_some_and(|row| row.users.contains(user)))
    }
}

/// Returns the assignment of a unit: to the base if its bucket gives it a lane to which it is not admitted.
pub(super) fn bounded(
    inputs: LaneInputs<'_>,
    unit: RoutingKey<'_>,
    assigned: LaneAssignment,
) -> LaneAssignment {
    let LaneInputs { document, admitted: rows, .. } = inputs;
    if assigned.reason != Reason::Weight || inputs.may_have(&assigned.lane, unit) {
        return assigned;
    }
    let most = document.max_users(&assigned.lane).unwrap_or(usize::MAX);
    let is_full = admitted(rows, document, &assigned.lane).is_some_and(|row| row.users.len() >= most);
    let reason = match unit {
        RoutingKey::User(_) if is_full => Reason::Full,
        _ => Reason::NotAdmitted,
    };
    LaneAssignment { lane: document.base.clone(), is_base: true, reason, ..assigned }
}

#[cfg(test)]
mod tests;
