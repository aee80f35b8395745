//! The presence of users, connections, sessions and pages in the whole cluster, as this node sees it. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id::{Address, Entity, NodeNumber};

/// The kind of a presence change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The first page was added.
    Join,
    /// The last page was removed.
    Leave,
    /// A session or connection without pages has ended.
    End,
}

/// One presence change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceChange {
    /// Kind of the change.
    pub kind: ChangeKind,
    /// Subject of the change.
    pub member: Entity<Address>,
    /// User of the member; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// Node of the page that caused the change; absent for an end.
    pub node: Option<NodeNumber>,
}

/// Removes the changes of members that left and joined in the same step, because they were never away. A step may be
/// the end of a node with all its pages, so each change is visited once.
pub(super) fn cancel_out(changes: Vec<PresenceChange>) -> Vec<PresenceChange> {
    let of = |kind| {
        changes.iter().filter(move |change| change.kind == kind).map(|change| change.member.identity())
    };
    let left: HashSet<Entity> = of(ChangeKind::Leave).collect();
    let back: HashSet<Entity> = match left.is_empty() {
        true => HashSet::new(),
        false => of(ChangeKind::Join).filter(|who| left.contains(who)).collect(),
    };
    if back.is_empty() {
        return changes;
    }
    let stays: Vec<bool> = changes.iter().map(|change| !back.contains(&change.member.identity())).collect();
    changes.into_iter().zip(stays).filter_map(|(change, stays)| stays.then_some(change)).collect()
}
