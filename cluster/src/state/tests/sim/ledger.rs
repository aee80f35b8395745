//! The history of every tree and every write, with the checks on it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::engine::Entry;
use crate::state::fence::FenceTable;
use crate::state::record::{Meta, TreeVersion};
use crate::state::{DraftWrite, Fence, Operation, Path, StateError, Tree};

/// The state of a tree after one change.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// 0 when the tree does not exist.
    pub(super) rev: u64,
    base: u64,
    /// Writes that the first change of the version contains.
    first: BTreeSet<usize>,
    pub(super) tree: Tree,
}

#[derive(Debug)]
struct RequestedWrite {
    key: String,
    process: u64,
    write: DraftWrite,
    /// Number of versions when the write was requested.
    seen: usize,
    reply: Option<Result<u64, StateError>>,
    crashed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// All versions of a key, in order.
    history: BTreeMap<String, Vec<Version>>,
    requested: Vec<RequestedWrite>,
    /// For each write, the positions in the history of the versions that contain it.
    applied: BTreeMap<usize, Vec<usize>>,
    /// Fences of the current version of a key.
    fences: BTreeMap<String, FenceTable>,
    /// Revisions of versions without a complete list of changes.
    blind: BTreeSet<u64>,
}

impl Ledger {
    /// Returns the number of the next write. It is never small, so that it cannot be confused with a count.
    pub(super) fn next(&self) -> usize {
        self.requested.len() + 1000
    }

    pub(super) fn versions(&self) -> usize {
        self.history.values().map(Vec::len).sum()
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.requested.iter().filter(|requested| matches!(requested.reply, Some(Ok(_)))).count()
    }

    pub(super) fn describe(&self) -> String {
        format!("{:?} {:?}", self.history, self.requested)
    }

    /// Returns how often a tree was written or removed.
    pub(super) fn changes(&self, key: &str) -> usize {
        self.history.get(key).map_or(0, Vec::len)
    }

    /// Returns the revision of the tree; 0 when it does not exist.
    pub(super) fn revision(&self, key: &str) -> u64 {
        self.history.get(key).and_then(|versions| versions.last()).map_or(0, |version| version.rev)
    }

    /// Returns the current version of the tree; `None` when it does not exist.
    pub(super) fn current(&self, key: &str) -> Option<&Version> {
        self.history.get(key)?.last().filter(|version| version.rev > 0)
    }

    /// Returns the version with a revision.
    pub(super) fn version(&self, key: &str, rev: u64) -> &Version {
        let found =
            self.history.get(key).and_then(|versions| versions.iter().find(|version| version.rev == rev));
        found.unwrap_or_else(|| panic!("{key} never had revision {rev}"))
    }

    /// Returns whether the tree has been absent at some time, which includes the time before its first version.
    pub(super) fn was_absent(&self, key: &str) -> bool {
        self.history.get(key).is_none_or(|versions| versions.is_empty() || versions[0].base == 0)
    }

    pub(super) fn requested(&mut self, key: &str, process: u64, write: &DraftWrite) -> usize {
        let number = self.next();
        let (key, write, seen) = (key.to_owned(), write.clone(), self.changes(key));
        self.requested.push(RequestedWrite { key, process, write, seen, reply: None, crashed: false });
        number
    }

    pub(super) fn crashed(&mut self, process: u64) {
        for requested in self
            .requested
            .iter_mut()
            .filter(|requested| requested.process == process && requested.reply.is_none())
        {
            requested.crashed = true;
        }
    }

    /// Records a stored version. It must be based on the version before it and differ by exactly the changes in its
    /// meta.
    pub(super) fn written(&mut self, entry: &Entry) {
        let stored = TreeVersion::decode(entry).expect("a tree");
        let before = self.current(&entry.key).cloned();
        let before_rev = before.as_ref().map_or(0, |version| version.rev);
        let last = self.history.get(&entry.key).into_iter().flatten().map(|version| version.rev).max();
        assert!(last.is_none_or(|last| entry.rev > last), "a revision goes back");
        assert_eq!(
            stored.history.has(before_rev),
            before_rev > 0,
            "a history passes through the version before"
        );
        let fences = self.fenced(&entry.key, &stored.fences);
        if stored.absent {
            assert_eq!(stored.tree, Tree::default());
            return self.removed(&entry.key, Some(before_rev));
        }
        let mut tree = before.map(|version| version.tree).unwrap_or_default();
        let meta = Meta::decode(&entry.meta).expect("a meta");
        let place = self.changes(&entry.key);
        let mut first = BTreeSet::new();
        match meta.changes_on(before_rev) {
            Some(changes) => {
                let mut numbers = BTreeSet::new();
                let value = changes.first().and_then(|change| change.value.as_ref());
                first = value.map(numbers_in).unwrap_or_default();
                for change in changes {
                    numbers.extend(change.value.as_ref().map(numbers_in).unwrap_or_default());
                    tree.change(change).expect("a change").expect("that changes something");
                }
                assert_eq!(tree, stored.tree, "a patch is not what happened");
                for number in numbers {
                    self.applied(number, place, &entry.key);
                    self.check_fence(number, &fences, &stored.fences);
                }
            }
            None => {
                self.blind.insert(entry.rev);
                let known: BTreeSet<_> = numbers_in(tree.as_value());
                for number in numbers_in(stored.tree.as_value()).difference(&known) {
                    self.applied(*number, place, &entry.key);
                }
            }
        }
        let version = Version { rev: entry.rev, base: before_rev, first, tree: stored.tree };
        self.history.entry(entry.key.clone()).or_default().push(version);
    }

    /// Records the fences of a version and returns those of the version before it. No term goes back.
    fn fenced(&mut self, key: &str, now: &FenceTable) -> FenceTable {
        let before = self.fences.insert(key.to_owned(), now.clone()).unwrap_or_default();
        for fence in ["main", "reports"].map(|pool| Fence::new(pool, "ann", 0)) {
            assert!(before.term(&fence) <= now.term(&fence), "a term goes back");
        }
        before
    }

    /// Checks that a write was allowed by the version before it, and that the version that contains it has its term.
    fn check_fence(&self, number: usize, before: &FenceTable, now: &FenceTable) {
        if let Some(fence) = &self.requested[number - 1000].write.fence {
            assert!(before.term(fence) <= fence.term, "a replaced owner wrote");
            assert!(fence.term <= now.term(fence), "a term was not kept");
        }
    }

    /// Records that the entry of a tree is gone, and its fences with it.
    pub(super) fn forgotten(&mut self, key: &str, rev: Option<u64>) {
        self.fences.remove(key);
        self.removed(key, rev);
    }

    /// Records that a tree was removed at a revision, or expired.
    fn removed(&mut self, key: &str, rev: Option<u64>) {
        let before = self.revision(key);
        assert!(rev.is_none_or(|rev| rev == before));
        let version = Version { rev: 0, base: before, first: BTreeSet::new(), tree: Tree::default() };
        self.history.entry(key.to_owned()).or_default().push(version);
    }

    /// Records that a version contains a write. This happens once, unless the tree was removed in between and a
    /// writer that lost the response to the tree's creation repeated it.
    fn applied(&mut self, number: usize, place: usize, key: &str) {
        let places = self.applied.entry(number - 1000).or_default();
        if let Some(before) = places.last() {
            let removed = self.history[key][*before..].iter().any(|version| version.rev == 0);
            assert!(removed, "write {number} is stored twice");
        }
        places.push(place);
        let requested = &self.requested[number - 1000];
        assert!(requested.key == key && place >= requested.seen, "a write before its request");
        assert!(
            requested.reply.is_none_or(|reply| reply == Err(StateError::Uncertain)),
            "a write after its answer"
        );
    }

    pub(super) fn replied(&mut self, number: usize, reply: Result<u64, StateError>) {
        let requested = &mut self.requested[number - 1000];
        assert!(requested.reply.replace(reply).is_none(), "two answers");
        let requested = &self.requested[number - 1000];
        let places = self.applied.get(&(number - 1000)).cloned().unwrap_or_default();
        let none = Vec::new();
        let history = self.history.get(&requested.key).unwrap_or(&none);
        // the version at the time of the request, and all later ones
        let window = &history[requested.seen.saturating_sub(1)..];
        let was_current =
            |rev: u64| window.iter().any(|version| version.rev == rev) || (rev == 0 && requested.seen == 0);
        match reply {
            Ok(rev) => {
                assert!(was_current(rev), "{reply:?} is older than the question");
                let effective = matches!(&requested.write.operation, Operation::Edit(edits) if edits.iter().take(1).any(|edit| edit.value.is_some()));
                let here = places.last().map(|place| history[*place].rev);
                if effective && rev > 0 && !self.blind.contains(&rev) {
                    assert_eq!(
                        here,
                        Some(rev),
                        "write {number} was acknowledged with another revision than it has"
                    );
                }
                if let (Some(expected), Some(place)) = (requested.write.if_revision, places.last()) {
                    let version = &history[*place];
                    assert_eq!(version.base, expected, "a condition that did not hold");
                    let first = version.first.contains(&number) || self.blind.contains(&version.rev);
                    assert!(first || !effective, "a condition that did not hold behind another write");
                }
            }
            Err(StateError::Conflict { revision }) => {
                assert!(was_current(revision), "a conflict with what stood before the question");
                assert!(places.is_empty(), "write {number} is refused and stored");
            }
            Err(StateError::Uncertain) => {}
            Err(_) => assert!(places.is_empty(), "write {number} is refused and stored"),
        }
    }

    pub(super) fn check_all_replied(&self) {
        let open =
            self.requested.iter().position(|requested| requested.reply.is_none() && !requested.crashed);
        assert_eq!(open, None, "a write without an answer");
    }
}

/// Returns the value at a path of a version.
pub(super) fn value_at<'a>(version: Option<&'a Version>, path: &Path) -> Option<&'a Value> {
    version.filter(|version| version.rev > 0)?.tree.get(path)
}

fn numbers_in(value: &Value) -> BTreeSet<usize> {
    match value {
        Value::Number(number) => number.as_u64().map(|number| number as usize).into_iter().collect(),
        Value::Object(members) => members.values().flat_map(numbers_in).collect(),
        _ => BTreeSet::new(),
    }
}
