//! The stored form of a version of a tree.
//!
//! Owns: the content of the entry's meta and value, and what a later writer can conclude from it. Never: when it is
//! written.
//!
//! The feed carries the meta only: the revision that the version is based on, what changed since, and the time to
//! live. The value is the whole tree and its [`OpHistory`].

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::EncodedChange;
use super::fence::FenceTable;
use super::{LARGE_TREE, Tree, TreeChange, TreeEvent};
use crate::engine::{Entry, MAX_META, OperationId};
use crate::wire;

/// Number of versions that a history keeps.
const HISTORY_LENGTH: usize = 8;

/// A version of a tree.
#[derive(Debug, Clone, Default)]
pub(super) struct TreeVersion {
    /// Revision of the version.
    pub(super) rev: u64,
    /// Operation that wrote the version.
    pub(super) op: OperationId,
    /// Time to live, counted from each write; `None` for no limit.
    pub(super) ttl: Option<Duration>,
    /// Last terms of the tree's owners.
    pub(super) fences: FenceTable,
    /// Whether the tree does not exist, and the version only keeps its fences.
    pub(super) absent: bool,
    /// Versions before this one.
    pub(super) history: OpHistory,
    /// Data of the version.
    pub(super) tree: Tree,
}

impl TreeVersion {
    /// Decodes an entry. Returns `None` when it is not a tree of any known release.
    pub(super) fn decode(entry: &Entry) -> Option<Self> {
        let meta = Meta::decode(&entry.meta)?;
        let value: TreeDocument = serde_json::from_slice(&entry.value).ok()?;
        let tree = Tree::stored(value.tree)?;
        Some(Self {
            rev: entry.rev,
            op: entry.op,
            ttl: meta.ttl(),
            fences: meta.fences,
            absent: meta.absent,
            history: value.history,
            tree,
        })
    }

    /// Encodes the value of the entry.
    pub(super) fn encode(tree: &Tree, history: &OpHistory) -> Bytes {
        #[derive(Serialize)]
        struct TreeDocument<'a> {
            #[serde(rename = "trail")]
            history: &'a OpHistory,
            tree: &'a Value,
        }
        wire::encode_long(&TreeDocument { history, tree: tree.as_value() }, tree.size() + HISTORY_LENGTH * 32)
    }

    /// Splits the version from its data, because the next version is made from the data.
    pub(super) fn split(self) -> (Base, Tree) {
        let Self { rev, op, ttl, fences, absent, history, tree } = self;
        (Base { rev, op, ttl, fences, absent, history, large: tree.size() > LARGE_TREE }, tree)
    }

    /// Advances to the next version by the meta that the feed carries. Returns `false` when that version is not based
    /// on this one or does not contain its changes; `self` is invalid then.
    pub(super) fn advance(&mut self, entry: &Entry, meta: Meta) -> bool {
        let (ttl, fences) = (meta.ttl(), meta.fences.clone());
        let Some(changes) = meta.changes_on(self.rev) else { return false };
        if changes.into_iter().any(|change| self.tree.change(change).is_err()) {
            return false;
        }
        self.history = self.history.then(self.rev, self.op);
        (self.rev, self.op, self.ttl) = (entry.rev, entry.op, ttl);
        (self.fences, self.absent) = (fences, false);
        true
    }
}

/// The version that the next one is based on, without its data.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) rev: u64,
    pub(super) ttl: Option<Duration>,
    /// Whether the tree of this version is larger than [`LARGE_TREE`].
    pub(super) large: bool,
    pub(super) fences: FenceTable,
    /// Whether the tree does not exist in this version.
    pub(super) absent: bool,
    op: OperationId,
    history: OpHistory,
}

impl Base {
    /// Rebuilds the version from its unchanged data.
    pub(super) fn with(self, tree: Tree) -> TreeVersion {
        let Self { rev, op, ttl, fences, absent, history, .. } = self;
        TreeVersion { rev, op, ttl, fences, absent, history, tree }
    }

    /// Returns the revision of the tree; 0 when it does not exist.
    pub(super) fn revision(&self) -> u64 {
        if self.absent { 0 } else { self.rev }
    }

    /// Returns the history of the next version.
    pub(super) fn history(&self) -> OpHistory {
        self.history.then(self.rev, self.op)
    }
}

#[derive(Deserialize)]
struct TreeDocument {
    #[serde(rename = "trail")]
    history: OpHistory,
    tree: Value,
}

/// The part of a version that the feed carries.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Meta {
    /// Revision that this version is based on; 0 for a new tree.
    base: u64,
    /// Time to live in seconds.
    #[serde(default)]
    ttl: Option<u64>,
    /// Last terms of the tree's owners.
    #[serde(default)]
    fences: FenceTable,
    /// Whether the tree does not exist in this version. A release that does not know this sees an empty tree.
    #[serde(default)]
    absent: bool,
    /// Changes from `base` to this version; `None` when they do not fit into a meta.
    #[serde(default)]
    changes: Option<Vec<TreeChange>>,
}

impl Meta {
    pub(super) fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }

    /// Encodes the meta. Omits the changes when they do not fit into [`MAX_META`].
    pub(super) fn encode(
        base: u64,
        ttl: Option<Duration>,
        fences: &FenceTable,
        absent: bool,
        events: &[TreeEvent],
    ) -> Bytes {
        #[derive(Serialize)]
        struct Meta<'a> {
            base: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            ttl: Option<u64>,
            #[serde(skip_serializing_if = "FenceTable::is_empty")]
            fences: &'a FenceTable,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            absent: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            changes: Option<Vec<EncodedChange<'a>>>,
        }
        let ttl = ttl.map(|ttl| ttl.as_secs());
        let changes = (!absent).then(|| events.iter().map(TreeEvent::as_change).collect());
        let full = wire::encode(&Meta { base, ttl, fences, absent, changes });
        if full.len() <= MAX_META {
            full
        } else {
            wire::encode(&Meta { base, ttl, fences, absent, changes: None })
        }
    }

    /// Returns the changes from `rev` to this version, if this version is based on `rev` and contains them.
    pub(super) fn changes_on(self, rev: u64) -> Option<Vec<TreeChange>> {
        self.changes.filter(|_| self.base == rev)
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl.map(Duration::from_secs)
    }
}

/// The last versions that led to a version, the oldest first. A tree that is created again after its removal starts a
/// new history. A writer that lost a response finds here whether its version is among those that others have
/// overwritten.
///
/// The history is stored as text, `<revision>-<half of the operation id>` in hexadecimal, separated by spaces, because
/// it is written with every version and rarely read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpHistory(String);

/// Returns the lower half of an operation id, which is enough to distinguish eight of them.
const fn half(op: OperationId) -> u64 {
    u128::from_be_bytes(op.0) as u64
}

impl OpHistory {
    /// Returns the history of the version after `rev`, which `op` wrote.
    pub(super) fn then(&self, rev: u64, op: OperationId) -> Self {
        let kept =
            if self.is_complete() { &*self.0 } else { self.0.split_once(' ').map_or("", |(_, kept)| kept) };
        let between = if kept.is_empty() { "" } else { " " };
        Self(format!("{kept}{between}{rev:x}-{:x}", half(op)))
    }

    /// Returns the length as text, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the revisions with the halves of the operation ids that wrote them.
    fn steps(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.split(' ').filter_map(|step| {
            let (rev, by) = step.split_once('-')?;
            Some((u64::from_str_radix(rev, 16).ok()?, u64::from_str_radix(by, 16).ok()?))
        })
    }

    /// Returns the revision that an operation wrote.
    pub(super) fn written_by(&self, op: OperationId) -> Option<u64> {
        self.steps().find(|(_, by)| *by == half(op)).map(|(rev, _)| rev)
    }

    /// Returns whether the history contains a revision.
    pub(super) fn has(&self, rev: u64) -> bool {
        self.steps().any(|(passed, _)| passed == rev)
    }

    /// Returns whether the history reaches back to the first version.
    pub(super) fn is_complete(&self) -> bool {
        self.0.bytes().filter(|byte| *byte == b'-').count() < HISTORY_LENGTH
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::Fence;

    fn op(n: u8) -> OperationId {
        OperationId([n; 16])
    }

    fn event(value: Value) -> TreeEvent {
        TreeEvent { path: "a".parse().unwrap(), old: None, new: Some(value), from: None }
    }

    fn stored(tree: Value) -> TreeVersion {
        let tree = Tree::stored(tree).unwrap();
        TreeVersion { rev: 7, op: op(1), tree, ..TreeVersion::default() }
    }

    #[test]
    fn a_version_comes_back_as_it_was_stored() {
        let history = OpHistory::default().then(3, op(0)).then(5, op(0xab));
        let before = stored(json!({"b": 1.0, "a": [null]}));
        let entry = Entry {
            key: "user.ann".into(),
            rev: 7,
            op: op(1),
            meta: Meta::encode(5, Some(Duration::from_secs(9)), &FenceTable::default(), false, &[]),
            value: TreeVersion::encode(&before.tree, &history),
        };
        assert!(
            entry.value.starts_with(br#"{"trail":"3-0 5-"#),
            "the name of the member is part of stored data"
        );
        let read = TreeVersion::decode(&entry).unwrap();
        assert_eq!(read.tree.as_value().to_string(), r#"{"b":1.0,"a":[null]}"#);
        assert_eq!(
            (read.rev, read.op, read.ttl, read.history),
            (7, op(1), Some(Duration::from_secs(9)), history)
        );
        assert!(TreeVersion::decode(&Entry { value: r#"{"trail":[],"tree":1}"#.into(), ..entry }).is_none());
    }

    #[test]
    fn fences_are_in_the_meta_and_a_version_without_them_has_its_former_shape() {
        let mut fences = FenceTable::default();
        fences.keep(&Fence::new("main", "ann", 7));
        let meta = Meta::encode(5, None, &fences, true, &[event(json!(1))]);
        assert_eq!(&meta[..], br#"{"base":5,"fences":[["main/ann",7]],"absent":true}"#);
        let read = Meta::decode(&meta).unwrap();
        assert!(read.absent && read.fences == fences);
        assert_eq!(
            &Meta::encode(5, None, &FenceTable::default(), false, &[])[..],
            br#"{"base":5,"changes":[]}"#
        );
        let former = Meta::decode(br#"{"base":5,"ttl":9,"changes":[],"later":1}"#).unwrap();
        assert!(former.fences.is_empty() && !former.absent);
    }

    #[test]
    fn changes_travel_if_they_fit() {
        let small =
            Meta::decode(&Meta::encode(5, None, &FenceTable::default(), false, &[event(json!(1))])).unwrap();
        assert_eq!((small.base, small.changes.unwrap().len()), (5, 1));
        let large =
            Meta::encode(5, None, &FenceTable::default(), false, &[event(json!("x".repeat(MAX_META)))]);
        assert_eq!(&large[..], br#"{"base":5}"#);
    }

    #[test]
    fn a_version_advances_by_a_patch_on_itself_only() {
        let entry = |base, events: &[TreeEvent]| {
            let meta = Meta::encode(base, None, &FenceTable::default(), false, events);
            Entry { key: String::new(), rev: 9, op: op(2), meta, value: Bytes::new() }
        };
        let advance = |stored: &mut TreeVersion, entry: Entry| {
            let meta = Meta::decode(&entry.meta).unwrap();
            stored.advance(&entry, meta)
        };
        let mut tree = stored(json!({"a": 0}));
        assert!(!advance(&mut tree, entry(6, &[event(json!(1))])));
        assert!(!advance(&mut tree, entry(7, &[event(json!("x".repeat(MAX_META)))])));
        assert!(advance(&mut tree, entry(7, &[event(json!(1))])));
        assert_eq!((tree.tree.as_value(), tree.rev, tree.op), (&json!({"a": 1}), 9, op(2)));
        assert_eq!(tree.history.written_by(op(1)), Some(7));
    }

    #[test]
    fn a_history_forgets_its_oldest() {
        let history = (0..8).fold(OpHistory::default(), |history, n| history.then(n, op(n as u8)));
        assert!(history.has(0) && history.written_by(op(7)) == Some(7) && !history.is_complete());
        let longer = history.then(8, op(8));
        assert!(!longer.has(0) && longer.has(1) && longer.steps().count() == HISTORY_LENGTH);
    }
}
