//! A cache of the trees that this process wrote last.
//!
//! Owns: which trees are kept, by their size. Never: whether they are current; a writer finds out by its put.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::record::Meta;
use super::writer::Found;
use crate::engine::Entry;

/// Most recently used trees, up to `room` bytes.
#[derive(Debug)]
pub(super) struct TreeCache {
    room: usize,
    size: usize,
    turn: u64,
    trees: HashMap<Arc<str>, (u64, Found)>,
    by_turn: BTreeMap<u64, Arc<str>>,
}

impl TreeCache {
    pub(super) fn new(room: usize) -> Self {
        Self { room, size: 0, turn: 0, trees: HashMap::new(), by_turn: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, key: Arc<str>, found: Found) {
        self.take(&key);
        self.turn += 1;
        self.size += cost(&key, &found);
        self.by_turn.insert(self.turn, key.clone());
        self.trees.insert(key, (self.turn, found));
        while self.size > self.room
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.forget(&oldest);
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Found> {
        let (turn, found) = self.forget(key)?;
        self.by_turn.remove(&turn);
        Some(found)
    }

    fn forget(&mut self, key: &str) -> Option<(u64, Found)> {
        let (turn, found) = self.trees.remove(key)?;
        self.size -= cost(key, &found);
        Some((turn, found))
    }

    /// Applies a version from the feed, so that the next writer does not start with a conflict.
    pub(super) fn heard(&mut self, entry: &Entry) {
        let known =
            self.trees.get(&*entry.key).map(|(_, found)| found.as_ref().map_or(0, |stored| stored.rev));
        if known.is_none_or(|rev| rev >= entry.rev) {
            return;
        }
        let found = self.take(&entry.key).flatten();
        if let Some(mut stored) = found
            && let Some(meta) = Meta::decode(&entry.meta)
            && stored.advance(entry, meta)
        {
            self.put(entry.key.as_str().into(), Some(stored));
        }
    }
}

fn cost(key: &str, found: &Found) -> usize {
    key.len() + found.as_ref().map_or(0, |stored| stored.tree.size())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::OperationId;
    use crate::state::record::{OpHistory, TreeVersion};
    use crate::state::{Tree, TreeEvent};

    fn stored(rev: u64, tree: Value) -> Found {
        let tree = Tree::stored(tree).unwrap();
        Some(TreeVersion { rev, op: OperationId::default(), ttl: None, trail: OpHistory::default(), tree })
    }

    fn entry(rev: u64, base: u64) -> Entry {
        let event = TreeEvent { path: "a".parse().unwrap(), old: None, new: Some(json!(rev)), from: None };
        let meta = Meta::encode(base, None, &[event]);
        Entry { key: "k".into(), rev, op: OperationId::default(), meta, value: Default::default() }
    }

    #[test]
    fn the_latest_used_stay() {
        let mut shelf = TreeCache::new(30);
        for key in ["a", "b", "a", "c", "d"] {
            shelf.put(key.into(), stored(1, json!({"k": 1234})));
        }
        let kept = ["a", "b", "c", "d"].map(|key| shelf.take(key).is_some());
        assert_eq!(kept, [false, false, true, true]);
        assert_eq!((shelf.size, shelf.by_turn.len()), (0, 0));
    }

    #[test]
    fn a_version_that_follows_is_taken_over_and_any_other_forgotten() {
        let mut shelf = TreeCache::new(1000);
        shelf.put("k".into(), stored(5, json!({"a": 5})));
        shelf.heard(&entry(5, 4));
        shelf.heard(&entry(7, 5));
        let Some(Some(known)) = shelf.take("k") else { panic!("kept") };
        assert_eq!((known.rev, known.tree.as_value()), (7, &json!({"a": 7})));
        for (known, heard) in [(stored(5, json!({})), entry(9, 7)), (None, entry(9, 0))] {
            shelf.put("k".into(), known);
            shelf.heard(&heard);
            assert!(shelf.take("k").is_none());
        }
    }
}
