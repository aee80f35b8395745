//! A batch of writes applied to a version of a tree. Pure.
//!
//! Owns: the effect of each write on the tree, in order, and which writes fail alone. Never: whether the result is
//! stored.

use std::time::Duration;

use super::fence::{Fence, FenceTable};
use super::path::PathStep;
use super::record::Base;
use super::value::length;
use super::{Edit, Path, StateError, Tree, TreeEvent};
use crate::id::Address;
use crate::timing::FENCES_KEPT;

/// An operation on a tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Applies all of these changes or none.
    Edit(Vec<Edit>),
    /// The same, unless the tree grows beyond so many bytes.
    EditWithin(Vec<Edit>, usize),
    /// Removes the tree; every node is notified.
    Remove,
    /// Lets the tree expire this long after its last write (whole seconds); `None` keeps it without a limit again. No
    /// effect when the tree does not exist.
    Expire(Option<Duration>),
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftWrite {
    /// Operation to perform.
    pub operation: Operation,
    /// Performs the write only if the tree is at this revision; 0 for a tree that does not exist.
    pub if_revision: Option<u64>,
    /// Page that requests the write.
    pub from: Option<Address>,
    /// The write is refused when the tree has seen a later term of the same owner.
    pub fence: Option<Fence>,
}

impl DraftWrite {
    /// Returns the approximate memory that the write takes while it waits, in bytes.
    pub(super) fn weight(&self) -> usize {
        let edits = match &self.operation {
            Operation::Edit(edits) | Operation::EditWithin(edits, _) => edits.as_slice(),
            Operation::Remove | Operation::Expire(_) => &[],
        };
        edits.iter().fold(64, |sum, edit| sum + 64 + edit.value.as_ref().map_or(0, length))
    }
}

/// The result of applying a batch to a tree.
#[derive(Debug, Default)]
pub(super) struct PendingVersion {
    /// For each write of the batch, in order: its error if it failed.
    pub(super) refused: Vec<Option<StateError>>,
    /// Whether the batch changed anything.
    dirty: bool,
    exists: bool,
    ttl: Option<Duration>,
    pub(super) fences: FenceTable,
    pub(super) tree: Tree,
    /// Applied changes, in order.
    pub(super) events: Vec<TreeEvent>,
}

/// The store operation that a batch needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreEffect {
    Nothing,
    Put,
    Delete,
}

impl PendingVersion {
    /// Applies `batch` to the version `base`. `tree` is the data of that version, empty if there is none.
    pub(super) fn new<'a>(
        base: Option<&Base>,
        tree: Tree,
        batch: impl Iterator<Item = &'a DraftWrite>,
    ) -> Self {
        let present = base.filter(|base| !base.absent);
        let fences = base.map(|base| base.fences.clone()).unwrap_or_default();
        let (exists, ttl) = (present.is_some(), present.and_then(|base| base.ttl));
        let mut draft = Self { exists, ttl, fences, tree, ..Self::default() };
        let revision = base.map_or(0, Base::revision);
        for write in batch {
            let done = draft.fenced(write, revision);
            draft.refused.push(done.err());
        }
        draft
    }

    /// Applies a write that its fence and its condition allow.
    fn fenced(&mut self, write: &DraftWrite, revision: u64) -> Result<(), StateError> {
        if let Some(fence) = &write.fence {
            self.fences.check(fence)?;
        }
        // an earlier write of this batch that changed something counts as another revision
        if write.if_revision.is_some_and(|expected| self.dirty || expected != revision) {
            return Err(StateError::Conflict { revision });
        }
        self.apply(write)?;
        if let Some(fence) = &write.fence {
            self.dirty |= self.fences.keep(fence);
        }
        Ok(())
    }

    fn apply(&mut self, write: &DraftWrite) -> Result<(), StateError> {
        match &write.operation {
            Operation::Edit(edits) => {
                let events = self.tree.patch(edits)?;
                self.edited(events, write.from);
            }
            Operation::EditWithin(edits, max_bytes) => {
                let before = self.tree.size();
                // most writes cannot come near it
                let kept = (before + growth(edits) > *max_bytes).then(|| self.tree.clone());
                let events = self.tree.patch(edits)?;
                // one that was larger before may shrink
                if let Some(kept) = kept
                    && self.tree.size() > before.max(*max_bytes)
                {
                    self.tree = kept;
                    return Err(StateError::Share(*max_bytes));
                }
                self.edited(events, write.from);
            }
            Operation::Remove if self.exists => {
                let event = self.tree.delete(&Path::ROOT);
                self.events.extend(event.map(|event| TreeEvent { from: write.from, ..event }));
                (self.exists, self.ttl, self.dirty) = (false, None, true);
            }
            Operation::Expire(ttl) if self.exists && (ttl.is_some() || self.ttl.is_some()) => {
                // the engine takes whole seconds, at least one
                self.ttl = ttl.map(|ttl| Duration::from_secs(ttl.as_secs().max(1)));
                self.dirty = true;
            }
            Operation::Remove | Operation::Expire(_) => {}
        }
        Ok(())
    }

    fn edited(&mut self, events: Vec<TreeEvent>, from: Option<Address>) {
        self.exists |= !events.is_empty();
        self.dirty |= !events.is_empty();
        self.events.extend(events.into_iter().map(|event| TreeEvent { from, ..event }));
    }

    /// Returns whether the tree does not exist after the batch.
    pub(super) fn is_absent(&self) -> bool {
        !self.exists
    }

    /// Returns the time to live of the version.
    pub(super) fn ttl(&self) -> Option<Duration> {
        if self.exists { self.ttl } else { Some(FENCES_KEPT) }
    }

    /// Returns the store operation for this result. `over` is whether the version below it exists.
    pub(super) fn effect(&self, over: bool) -> StoreEffect {
        match (self.dirty, self.exists) {
            (false, _) => StoreEffect::Nothing,
            (true, true) => StoreEffect::Put,
            // a tree that does not exist keeps its fences
            (true, false) if !self.fences.is_empty() => StoreEffect::Put,
            (true, false) if over => StoreEffect::Delete,
            (true, false) => StoreEffect::Nothing,
        }
    }
}

/// By how much edits can make a tree longer at most: their values, and with each a branch for every key of its path.
fn growth(edits: &[Edit]) -> usize {
    let step = |step: &PathStep| match step {
        // `,"key":{}`
        PathStep::Key(key) => length(&**key) + 4,
        PathStep::Child(_) => 0,
    };
    let edit = |edit: &Edit| {
        edit.value.as_ref().map_or(0, |value| length(value) + edit.path.0.iter().map(step).sum::<usize>())
    };
    edits.iter().map(edit).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::state::record::TreeVersion;

    fn set(path: &str, value: Value) -> DraftWrite {
        let edit = Edit { path: path.parse().unwrap(), value: Some(value) };
        DraftWrite { operation: Operation::Edit(vec![edit]), if_revision: None, from: None, fence: None }
    }

    fn operation(operation: Operation) -> DraftWrite {
        DraftWrite { operation, if_revision: None, from: None, fence: None }
    }

    fn base(tree: Value) -> TreeVersion {
        let tree = Tree::stored(tree).unwrap();
        TreeVersion { rev: 7, tree, ..TreeVersion::default() }
    }

    fn draft(base: Option<&TreeVersion>, batch: &[DraftWrite]) -> PendingVersion {
        let (base, tree) = base.cloned().map(TreeVersion::split).unzip();
        PendingVersion::new(base.as_ref(), tree.unwrap_or_default(), batch.iter())
    }

    #[test]
    fn a_stale_write_of_a_batch_fails_alone() {
        let base = base(json!({"a": 1}));
        let when = |revision, write: DraftWrite| DraftWrite { if_revision: Some(revision), ..write };
        let batch = [
            when(6, set("a", json!(6))),
            when(7, set("a", json!(1))),
            when(7, set("a", json!(2))),
            when(7, set("a", json!(3))),
            set("b", json!(4)),
            set("", json!(5)),
        ];
        let draft = draft(Some(&base), &batch);
        let conflict = Some(StateError::Conflict { revision: 7 });
        // the second changes nothing, so the third still finds revision 7
        assert_eq!(draft.refused, [conflict, None, None, conflict, None, Some(StateError::Root)]);
        assert_eq!((draft.tree.as_value(), draft.events.len()), (&json!({"a": 2, "b": 4}), 2));
        assert_eq!(draft.effect(true), StoreEffect::Put);
    }

    #[test]
    fn a_tree_with_a_share_does_not_grow_beyond_it_and_nothing_of_the_edit_stays() {
        let within = |edits: &[(&str, Value)]| {
            let edit = |(path, value): &(&str, Value)| Edit {
                path: path.parse().unwrap(),
                value: Some(value.clone()),
            };
            operation(Operation::EditWithin(edits.iter().map(edit).collect(), 20))
        };
        let batch = [
            within(&[("a", json!("12345"))]),
            within(&[("b", json!(1)), ("c", json!("12345678"))]),
            within(&[("b", json!(2))]),
        ];
        let fits = draft(None, &batch);
        assert_eq!(fits.refused, [None, Some(StateError::Share(20)), None]);
        assert_eq!(fits.tree.as_value(), &json!({"a": "12345", "b": 2}));
        let large = base(json!({"a": "x".repeat(100)}));
        let shrinks = draft(Some(&large), &[within(&[("a", json!("x".repeat(50)))])]);
        assert_eq!(shrinks.refused, [None], "what was larger before may shrink");
    }

    proptest! {
        #[test]
        fn no_edit_makes_a_tree_longer_than_it_is_said_to(
            edits in prop::collection::vec(("[a\\\\\"ü.]{1,9}", any::<Option<i64>>()), 1..20),
        ) {
            let mut tree = Tree::default();
            for (path, value) in edits {
                let Ok(path) = path.parse() else { continue };
                let edits = [Edit { path, value: value.map(Value::from) }];
                let before = tree.size();
                if tree.patch(&edits).is_ok() {
                    prop_assert!(tree.size() <= before + growth(&edits), "{edits:?} on {before}");
                }
            }
        }
    }

    #[test]
    fn what_changes_nothing_needs_no_write() {
        let base = base(json!({"a": 1}));
        assert_eq!(draft(Some(&base), &[set("a", json!(1.0))]).effect(true), StoreEffect::Nothing);
        for idle in [
            operation(Operation::Remove),
            operation(Operation::Expire(Some(Duration::from_secs(5)))),
            set("", json!({})),
        ] {
            assert_eq!(draft(None, &[idle]).effect(false), StoreEffect::Nothing);
        }
        assert_eq!(
            draft(None, &[set("a", json!(1)), operation(Operation::Remove)]).effect(false),
            StoreEffect::Nothing
        );
    }

    #[test]
    fn a_tree_is_removed_or_starts_anew() {
        let base = base(json!({"a": 1}));
        assert_eq!(
            draft(Some(&base), &[set("b", json!(1)), operation(Operation::Remove)]).effect(true),
            StoreEffect::Delete
        );
        let created = draft(Some(&base), &[operation(Operation::Remove), set("b", json!(1))]);
        assert_eq!((created.effect(true), created.tree.as_value()), (StoreEffect::Put, &json!({"b": 1})));
        let mut elsewhere = base.tree;
        for event in &created.events {
            elsewhere.change(event.change()).unwrap();
        }
        assert_eq!(elsewhere, created.tree);
    }

    #[test]
    fn a_lifetime_is_whole_seconds_and_outlives_writes() {
        let expire = |millis| operation(Operation::Expire(Some(Duration::from_millis(millis))));
        let mut base = base(json!({}));
        assert_eq!(draft(Some(&base), &[expire(1500)]).ttl(), Some(Duration::from_secs(1)));
        assert_eq!(draft(Some(&base), &[expire(1)]).ttl(), Some(Duration::from_secs(1)));
        base.ttl = Some(Duration::from_secs(9));
        assert_eq!(draft(Some(&base), &[set("a", json!(1))]).ttl(), base.ttl);
        let kept = draft(Some(&base), &[operation(Operation::Expire(None))]);
        assert_eq!((kept.ttl(), kept.effect(true)), (None, StoreEffect::Put));
    }
}
