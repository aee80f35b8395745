//! Notifications for the followers of a path.
//!
//! Owns: their shape, and the effect of an event on a part of the tree. Never: who follows, or how an update is
//! encoded for its receivers.

use std::sync::Arc;

use serde_json::Value;

use crate::id::Entity;
use crate::id::Key;
use crate::state::value::same;
use crate::state::{Path, TreeEvent};

/// One notification for all followers in this process of one path of one tree.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeNotification {
    /// Owner of the tree.
    pub owner: Entity,
    /// Path that they follow.
    pub path: Path,
    /// Followers to notify.
    pub to: Arc<[Key]>,
    /// The update.
    pub update: TreeUpdate,
}

/// An update of a path.
#[derive(Debug, Clone, PartialEq)]
pub enum TreeUpdate {
    /// Current value: the first update of every follower, and again when the changes would be larger.
    Snapshot {
        /// Revision of the tree; 0 for a tree that does not exist.
        revision: u64,
        /// `None` when the path does not exist.
        value: Option<Value>,
    },
    /// Changes since an earlier revision.
    Changed {
        /// Revision that the changes are based on. Versions between the last notified revision and this one changed
        /// nothing at the path.
        base: u64,
        /// Revision of the tree after the changes.
        revision: u64,
        /// Events at the path or below it, in order. Empty when only the revision of the whole tree changed.
        events: Vec<TreeEvent>,
    },
    /// The tree was removed.
    Removed,
}

/// Returns the events as seen at a path. Events at the path or below it are unchanged; an event above it becomes a
/// change of the value at the path.
pub(super) fn at(path: &Path, events: &[TreeEvent]) -> Vec<TreeEvent> {
    events.iter().filter_map(|event| seen_from(path, event)).collect()
}

fn seen_from(path: &Path, event: &TreeEvent) -> Option<TreeEvent> {
    if event.path.below(path).is_some() {
        return Some(event.clone());
    }
    let below = path.below(&event.path)?;
    let part =
        |root: &Option<Value>| below.iter().try_fold(root.as_ref()?, |node, key| node.get(&**key)).cloned();
    let (old, new) = (part(&event.old), part(&event.new));
    let unchanged = match (&old, &new) {
        (Some(old), Some(new)) => same(old, new),
        (old, new) => old.is_none() && new.is_none(),
    };
    (!unchanged).then(|| TreeEvent { path: path.clone(), old, new, from: event.from })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn event(text: &str, old: Option<Value>, new: Option<Value>) -> TreeEvent {
        TreeEvent { path: path(text), old, new, from: None }
    }

    #[test]
    fn a_path_sees_whole_keys_only() {
        let events = [
            event("a.b", None, Some(json!(1))),
            event("a.bc", None, Some(json!(2))),
            event("a.b.c", None, Some(json!(3))),
            event("b", None, Some(json!(4))),
        ];
        let seen: Vec<_> = at(&path("a.b"), &events).iter().map(|event| event.path.to_string()).collect();
        assert_eq!(seen, ["a.b", "a.b.c"]);
        assert_eq!(at(&Path::ROOT, &events), events);
    }

    #[test]
    fn what_happens_above_a_path_is_a_change_at_it() {
        let seen = |old: Option<Value>, new: Option<Value>| at(&path("a.b"), &[event("a", old, new)]);
        assert_eq!(
            seen(Some(json!({"b": 1})), Some(json!({"b": 2}))),
            [event("a.b", Some(json!(1)), Some(json!(2)))]
        );
        assert_eq!(seen(Some(json!({"b": 1})), None), [event("a.b", Some(json!(1)), None)]);
        assert_eq!(seen(Some(json!({"b": 1})), Some(json!(5))), [event("a.b", Some(json!(1)), None)]);
        assert_eq!(seen(Some(json!(5)), Some(json!({"b": 1}))), [event("a.b", None, Some(json!(1)))]);
        assert_eq!(seen(Some(json!({"b": 1, "c": 1})), Some(json!({"b": 1.0}))), []);
        assert_eq!(seen(None, Some(json!({"c": 1}))), []);
    }
}
