//! A cache of the trees that this process wrote last.
//!
//! Owns: which trees are kept, by the memory that they take. Never: whether they are current; a writer finds out by its
//! put. That a tree does not exist is not kept: the owner of a removed tree has mostly ended, and nothing is written for
//! it again.
//!
//! Not `quick_cache`: it keeps its tables at their largest size, and it learns nothing from a tree that a writer takes out
//! and puts back, so that trees of ended sessions stay and those in use are evicted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::record::{Meta, TreeVersion};
use super::value::memory;
use crate::engine::{Entry, WatchEvent};
use crate::table;

/// Memory of a tree beside its data and its key: an entry in each of two tables, which are half full on average, and the
/// header of the key.
const ENTRY: usize = 2 * (size_of::<(Arc<str>, CachedTree)>() + size_of::<(u64, Arc<str>)>() + 8);

/// Most recently used trees, up to `room` bytes of memory.
#[derive(Debug)]
pub(super) struct TreeCache {
    room: usize,
    size: usize,
    turn: u64,
    trees: HashMap<Arc<str>, CachedTree>,
    by_turn: BTreeMap<u64, Arc<str>>,
}

#[derive(Debug)]
struct CachedTree {
    turn: u64,
    /// Bytes of memory.
    cost: usize,
    version: TreeVersion,
}

impl TreeCache {
    pub(super) fn new(room: usize) -> Self {
        Self { room, size: 0, turn: 0, trees: HashMap::new(), by_turn: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, key: Arc<str>, version: TreeVersion) {
        self.take(&key);
        self.turn += 1;
        let cost = ENTRY
            + key.len()
            + version.history.len()
            + version.fences.len()
            + memory(version.tree.as_value());
        self.size += cost;
        self.by_turn.insert(self.turn, key.clone());
        self.trees.insert(key, CachedTree { turn: self.turn, cost, version });
        while self.size > self.room
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.forget(&oldest);
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<TreeVersion> {
        let CachedTree { turn, version, .. } = self.forget(key)?;
        self.by_turn.remove(&turn);
        Some(version)
    }

    fn forget(&mut self, key: &str) -> Option<CachedTree> {
        let cached = self.trees.remove(key)?;
        self.size -= cached.cost;
        table::shrink(&mut self.trees);
        Some(cached)
    }

    /// Applies a change from the feed.
    pub(super) fn on_event(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Live => {}
            WatchEvent::Put(entry) => self.apply(entry),
            WatchEvent::Delete { key, .. } => drop(self.take(key)),
        }
    }

    /// Applies a version from the feed, so that the next writer does not start with a conflict.
    pub(super) fn apply(&mut self, entry: &Entry) {
        if self.trees.get(&*entry.key).is_none_or(|cached| cached.version.rev >= entry.rev) {
            return;
        }
        if let Some(mut version) = self.take(&entry.key)
            && let Some(meta) = Meta::decode(&entry.meta)
            && version.advance(entry, meta)
        {
            self.put(entry.key.as_str().into(), version);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::OperationId;
    use crate::state::fence::FenceTable;
    use crate::state::{Tree, TreeEvent};

    fn stored(rev: u64, tree: Value) -> TreeVersion {
        let tree = Tree::stored(tree).unwrap();
        TreeVersion { rev, tree, ..TreeVersion::default() }
    }

    fn entry(rev: u64, base: u64) -> Entry {
        let event = TreeEvent { path: "a".parse().unwrap(), old: None, new: Some(json!(rev)), from: None };
        let meta = Meta::encode(base, None, &FenceTable::default(), false, &[event]);
        Entry { key: "k".into(), rev, op: OperationId::default(), meta, value: Default::default() }
    }

    #[test]
    fn the_latest_used_stay() {
        let tree = || stored(1, json!({"k": 1234}));
        let mut one = TreeCache::new(usize::MAX);
        one.put("a".into(), tree());
        let mut cache = TreeCache::new(one.size * 5 / 2);
        for key in ["a", "b", "a", "c", "d"] {
            cache.put(key.into(), tree());
        }
        let kept = ["a", "b", "c", "d"].map(|key| cache.take(key).is_some());
        assert_eq!(kept, [false, false, true, true]);
        assert_eq!((cache.size, cache.by_turn.len()), (0, 0));
    }

    #[test]
    fn small_trees_are_counted_with_the_memory_that_each_takes_beside_its_text() {
        let mut cache = TreeCache::new(1 << 20);
        for n in 0..10_000 {
            cache.put(format!("session.{n:022}").into(), stored(1, json!({"k": n})));
        }
        let tables = cache.trees.capacity() * size_of::<(Arc<str>, CachedTree)>();
        assert!(tables < 1 << 20, "{tables}");
        assert!(cache.trees.len() > 500, "{}", cache.trees.len());
    }

    #[test]
    fn a_cache_that_empties_gives_its_table_back() {
        let mut cache = TreeCache::new(1 << 28);
        let key = |n: u32| format!("session.{n:022}");
        for n in 0..20_000 {
            cache.put(key(n).into(), stored(1, json!({})));
        }
        (0..20_000).for_each(|n| drop(cache.take(&key(n))));
        assert!(cache.trees.capacity() < 5_000, "{}", cache.trees.capacity());
    }

    #[test]
    fn a_version_that_follows_is_taken_over_and_any_other_forgotten() {
        let mut cache = TreeCache::new(1 << 20);
        cache.put("k".into(), stored(5, json!({"a": 5})));
        cache.apply(&entry(5, 4));
        cache.apply(&entry(7, 5));
        let known = cache.take("k").expect("kept");
        assert_eq!((known.rev, known.tree.as_value()), (7, &json!({"a": 7})));
        cache.put("k".into(), stored(5, json!({})));
        cache.apply(&entry(9, 7));
        assert!(cache.take("k").is_none());
    }
}
