//! A follower that checks each notification: applying it must give exactly the tree at that revision.

use super::ledger::{Ledger, value_at};
use crate::id::Entity;
use crate::state::value::same;
use crate::state::{Path, Tree, TreeNotification, TreeUpdate};

#[derive(Debug)]
pub(super) struct Observer {
    pub(super) owner: Entity,
    pub(super) path: Path,
    /// `None` before the first snapshot; 0 when the tree does not exist.
    rev: Option<u64>,
    /// Highest revision so far. Revisions never go back, even if the tree is removed in between.
    highest: u64,
    /// The followed part of the tree, at its path.
    tree: Tree,
}

impl Observer {
    pub(super) fn new(owner: Entity, path: Path) -> Self {
        Self { owner, path, rev: None, highest: 0, tree: Tree::default() }
    }

    pub(super) fn notify(&mut self, delivery: &TreeNotification, ledger: &Ledger) {
        assert!(delivery.owner == self.owner && delivery.path == self.path);
        let key = self.owner.tree_key();
        match &delivery.update {
            TreeUpdate::Snapshot { revision, value } => {
                assert!(*revision == 0 || *revision >= self.highest, "a revision goes back");
                assert!(*revision > 0 || ledger.was_absent(&key));
                self.tree = Tree::default();
                if let Some(value) = value {
                    self.tree.set(&self.path, value.clone()).expect("a value");
                }
                self.rev = Some(*revision);
            }
            TreeUpdate::Changed { base, revision, events } => {
                let rev = self.rev.expect("a snapshot first");
                assert!(
                    *base >= rev && (self.path != Path::ROOT || *base == rev),
                    "{base} leads on from {rev}"
                );
                assert!(revision > base && *revision > self.highest, "a revision goes back");
                assert!(!events.is_empty() || self.path == Path::ROOT, "a notification without changes");
                for event in events {
                    assert!(event.path.below(&self.path).is_some(), "{} is not its business", event.path);
                    assert_eq!(self.tree.get(&event.path), event.old.as_ref());
                    self.tree.change(event.change()).expect("a change");
                }
                self.rev = Some(*revision);
            }
            TreeUpdate::Removed => {
                let rev = self.rev.expect("a snapshot first");
                assert!(rev > 0 || self.path != Path::ROOT, "there was none");
                assert!(ledger.was_absent(&key));
                self.tree = Tree::default();
                self.rev = Some(0);
            }
        }
        let rev = self.rev.unwrap_or(0);
        self.highest = self.highest.max(rev);
        let version = (rev > 0).then(|| ledger.version(&key, rev));
        self.agree(value_at(version, &self.path));
    }

    /// Checks at the end that the follower has the current state.
    pub(super) fn check_converged(&self, ledger: &Ledger) {
        let current = ledger.current(&self.owner.tree_key());
        let rev = self.rev.expect("a snapshot");
        match (current, rev) {
            (None, rev) => assert_eq!(rev, 0, "the tree was removed"),
            (Some(version), rev) if self.path == Path::ROOT => assert_eq!(version.rev, rev),
            (Some(_), _) => {}
        }
        self.agree(value_at(current, &self.path));
    }

    fn agree(&self, truth: Option<&serde_json::Value>) {
        let seen = self.tree.get(&self.path);
        match (truth, seen) {
            (Some(truth), Some(seen)) => assert!(same(truth, seen), "{truth} is seen as {seen}"),
            // a whole tree that does not exist is seen as an empty one
            (None, Some(seen)) if self.path == Path::ROOT => assert_eq!(seen.to_string(), "{}"),
            (truth, seen) => assert_eq!(truth, seen),
        }
    }
}
