//! A tree with followers in this process. Pure.
//!
//! Owns: the replica of the tree, who follows which path, and the notifications. Never: reads the tree; requests a
//! read when one is needed.
//!
//! The replica is exactly the state that the followers have received. A version from the feed that is based on the
//! replica's revision is applied to it. After any other event, including the first version of a new tree, the tree is
//! read and compared. The replica does not change while a read is in progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::update::{TreeNotification, TreeUpdate, at};
use crate::engine::Entry;
use crate::id::Entity;
use crate::id::Key;
use crate::state::record::Meta;
use crate::state::value::{length, same};
use crate::state::writer::Found;
use crate::state::{Path, Tree, TreeChange, TreeEvent, diff};

/// Changes of up to this many bytes are sent as changes, even if the tree is smaller.
const INLINE_CHANGES_MAX: usize = 1024;

/// An action that the feed has to perform.
#[derive(Debug, PartialEq)]
pub(in crate::state) enum Action {
    /// Reads the tree as last acknowledged. The result carries the number.
    Read {
        /// Key of the tree.
        key: String,
        /// Number of this read.
        number: u64,
    },
    /// Notifies followers.
    Notify(TreeNotification),
}

/// The state that the followers have received; revision 0 is a tree that does not exist.
#[derive(Debug, Default)]
struct Replica {
    rev: u64,
    tree: Tree,
}

impl Replica {
    fn value(&self, path: &Path) -> TreeUpdate {
        let value = self.tree.get(path).filter(|_| self.rev > 0).cloned();
        TreeUpdate::Snapshot { revision: self.rev, value }
    }
}

/// A read in progress, and what the feed delivered meanwhile.
#[derive(Debug)]
struct SnapshotRead {
    number: u64,
    newest: u64,
    outdated: bool,
}

/// The followers of one path.
#[derive(Debug, Default)]
struct Group {
    /// Followers that have their snapshot.
    members: BTreeSet<Key>,
    /// Followers that wait for a snapshot, each from a read with this number or a later one.
    waiting: BTreeMap<Key, u64>,
    /// Cached list of the members, shared by deliveries.
    shared: Option<Arc<[Key]>>,
}

impl Group {
    fn all_members(&mut self) -> Arc<[Key]> {
        self.shared.get_or_insert_with(|| self.members.iter().copied().collect()).clone()
    }

    fn join(&mut self, who: Key) {
        self.waiting.remove(&who);
        self.members.insert(who);
        self.shared = None;
    }

    fn wait(&mut self, who: Key, number: u64) {
        self.members.remove(&who);
        self.waiting.insert(who, number);
        self.shared = None;
    }

    /// Removes a follower. Returns `true` when none is left.
    fn remove(&mut self, who: Key) -> bool {
        self.waiting.remove(&who);
        self.members.remove(&who);
        self.shared = None;
        self.members.is_empty() && self.waiting.is_empty()
    }

    /// Makes members of the followers that read `number` is recent enough for, and returns them.
    fn release_waiting(&mut self, number: u64) -> Arc<[Key]> {
        let ready = self.waiting.iter().filter(|(_, needed)| **needed <= number);
        let ready: Arc<[Key]> = ready.map(|(who, _)| *who).collect();
        ready.iter().for_each(|who| self.join(*who));
        ready
    }
}

#[derive(Debug)]
pub(super) struct TreeReplica {
    key: String,
    owner: Entity,
    /// `None` until the tree was read.
    replica: Option<Replica>,
    reading: Option<SnapshotRead>,
    /// Last revision that the feed delivered.
    last_rev: u64,
    groups: BTreeMap<Path, Group>,
}

impl TreeReplica {
    pub(super) fn new(owner: Entity) -> Self {
        let (key, groups) = (owner.tree_key(), BTreeMap::new());
        Self { key, owner, replica: None, reading: None, last_rev: 0, groups }
    }

    /// Adds a follower of a path that has seen the tree at revision `seen`, 0 for none. An existing follower receives
    /// another snapshot. If the replica is older than `seen`, the tree is read first, so that no follower sees
    /// revisions go back.
    pub(super) fn join(&mut self, path: Path, who: Key, seen: u64, numbers: &mut u64) -> Vec<Action> {
        let group = self.groups.entry(path.clone()).or_default();
        if let Some(replica) = self.replica.as_ref().filter(|replica| replica.rev >= seen) {
            group.join(who);
            let update = replica.value(&path);
            let owner = self.owner.clone();
            return vec![Action::Notify(TreeNotification { owner, path, to: Arc::new([who]), update })];
        }
        match &mut self.reading {
            Some(reading) if seen == 0 => group.wait(who, reading.number),
            // the read may have begun before the revision that was seen, so another one follows
            Some(reading) => {
                reading.outdated = true;
                group.wait(who, *numbers + 1);
            }
            None => group.wait(who, *numbers + 1),
        }
        self.read(numbers)
    }

    /// Removes a follower of a path. Returns `true` when the tree has no followers left.
    pub(super) fn remove(&mut self, path: &Path, who: Key) -> bool {
        if self.groups.get_mut(path).is_some_and(|group| group.remove(who)) {
            self.groups.remove(path);
        }
        self.groups.is_empty()
    }

    /// Processes a version from the feed.
    pub(super) fn on_entry(&mut self, entry: &Entry, numbers: &mut u64) -> Vec<Action> {
        // a feed never goes back, unless the cluster has lost its data
        let lost = entry.rev < std::mem::replace(&mut self.last_rev, entry.rev);
        if let Some(reading) = &mut self.reading {
            reading.newest = entry.rev.max(reading.newest);
            reading.outdated |= lost;
            return Vec::new();
        }
        let known = self.replica.as_ref().map_or(0, |replica| replica.rev);
        if entry.rev <= known && !lost {
            return Vec::new();
        }
        // the version of a tree that does not exist may belong to one that is removed again; only a read can show it
        let next = known > 0 && !lost;
        let changes = Meta::decode(&entry.meta).filter(|_| next).and_then(|meta| meta.changes_on(known));
        match changes {
            Some(changes) => self.advance(changes, entry.rev, numbers),
            None => self.read(numbers),
        }
    }

    /// Processes a deletion from the feed. The tree may have been created again meanwhile.
    pub(super) fn on_delete(&mut self, numbers: &mut u64) -> Vec<Action> {
        match &mut self.reading {
            Some(reading) => {
                reading.outdated = true;
                Vec::new()
            }
            None if self.replica.as_ref().is_some_and(|replica| replica.rev > 0) => self.read(numbers),
            None => Vec::new(),
        }
    }

    /// Processes the result of a read.
    pub(super) fn found(&mut self, number: u64, found: Found, numbers: &mut u64) -> Vec<Action> {
        let Some(reading) = self.reading.take_if(|reading| reading.number == number) else {
            return Vec::new();
        };
        let found = found.filter(|stored| !stored.absent);
        let now = found.map(|stored| Replica { rev: stored.rev, tree: stored.tree }).unwrap_or_default();
        let rev = now.rev;
        let mut actions = match self.replica.replace(now) {
            None => Vec::new(),
            Some(before) if before.rev == rev => Vec::new(),
            Some(_) if rev == 0 => self.notify(|_| Some(TreeUpdate::Removed)),
            Some(before) if before.rev > rev => {
                self.wait();
                Vec::new()
            }
            Some(before) => self.compare(&before),
        };
        actions.extend(self.snapshots(number));
        if reading.outdated || reading.newest > rev {
            actions.extend(self.read(numbers));
        }
        actions
    }

    fn read(&mut self, numbers: &mut u64) -> Vec<Action> {
        if self.reading.is_some() {
            return Vec::new();
        }
        *numbers += 1;
        self.reading = Some(SnapshotRead { number: *numbers, newest: 0, outdated: false });
        vec![Action::Read { key: self.key.clone(), number: *numbers }]
    }

    /// Advances the replica to the next version.
    fn advance(&mut self, changes: Vec<TreeChange>, revision: u64, numbers: &mut u64) -> Vec<Action> {
        let Some(replica) = &mut self.replica else { return self.read(numbers) };
        let mut events = Vec::new();
        for change in changes {
            match replica.tree.change(change) {
                Ok(event) => events.extend(event),
                Err(_) => {
                    // another release may have other limits; a partial change must not be visible
                    self.replica = None;
                    self.wait();
                    return self.read(numbers);
                }
            }
        }
        let base = std::mem::replace(&mut replica.rev, revision);
        self.changed(base, revision, &events)
    }

    fn changed(&mut self, base: u64, revision: u64, events: &[TreeEvent]) -> Vec<Action> {
        self.notify(|path| {
            let events = at(path, events);
            let concerns = !events.is_empty() || *path == Path::ROOT;
            concerns.then_some(TreeUpdate::Changed { base, revision, events })
        })
    }

    /// Compares the replica with the tree that was read. Sends the difference as changes, or the whole value if that
    /// is much smaller.
    fn compare(&mut self, before: &Replica) -> Vec<Action> {
        let Some(now) = self.replica.take() else { return Vec::new() };
        let events = diff(&before.tree, &now.tree);
        let changes: Vec<_> = events.iter().map(TreeEvent::as_change).collect();
        let actions = if length(&changes) <= now.tree.size() + INLINE_CHANGES_MAX {
            self.changed(before.rev, now.rev, &events)
        } else {
            self.notify(|path| {
                let unchanged = match (before.tree.get(path), now.tree.get(path)) {
                    (Some(before), Some(now)) => same(before, now),
                    (before, now) => before.is_none() && now.is_none(),
                };
                (!unchanged).then(|| now.value(path))
            })
        };
        self.replica = Some(now);
        actions
    }

    /// Sends the current value to the followers that wait for it.
    fn snapshots(&mut self, number: u64) -> Vec<Action> {
        let Some(replica) = &self.replica else { return Vec::new() };
        let snapshots = self.groups.iter_mut().filter_map(|(path, group)| {
            let to = group.release_waiting(number);
            let (owner, path, update) = (self.owner.clone(), path.clone(), replica.value(path));
            (!to.is_empty()).then_some(Action::Notify(TreeNotification { owner, path, to, update }))
        });
        snapshots.collect()
    }

    /// Lets all followers wait for a snapshot again.
    fn wait(&mut self) {
        for group in self.groups.values_mut() {
            for who in std::mem::take(&mut group.members) {
                group.wait(who, 0);
            }
        }
    }

    fn notify(&mut self, mut update: impl FnMut(&Path) -> Option<TreeUpdate>) -> Vec<Action> {
        let deliveries = self.groups.iter_mut().filter_map(|(path, group)| {
            let update = update(path).filter(|_| !group.members.is_empty())?;
            Some(TreeNotification {
                owner: self.owner.clone(),
                path: path.clone(),
                to: group.all_members(),
                update,
            })
        });
        deliveries.map(Action::Notify).collect()
    }
}

#[cfg(test)]
mod tests;
