//! Who comes and who goes, as this node sees the whole cluster. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id::{Address, Key, NodeNumber};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its first page came.
    Join,
    /// Its last page went.
    Leave,
    /// A session or connection without pages is over.
    End,
}

/// To whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// A user.
    User(Arc<str>),
    /// A connection.
    Connection(Address),
    /// A session.
    Session(Address),
    /// A page.
    Page(Address),
}

/// Who it is, wherever it is: a page that has moved is the same.
#[derive(PartialEq, Eq, Hash)]
enum EntityKey<'a> {
    User(&'a str),
    Connection(Key),
    Session(Key),
    Page(Key),
}

impl Member {
    fn who(&self) -> EntityKey<'_> {
        match self {
            Self::User(user) => EntityKey::User(user),
            Self::Connection(id) => EntityKey::Connection(id.key),
            Self::Session(id) => EntityKey::Session(id.key),
            Self::Page(id) => EntityKey::Page(id.key),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceChange {
    /// What.
    pub kind: ChangeKind,
    /// To whom.
    pub member: Member,
    /// Whose it is; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// The node of the page that made the difference; absent for an end.
    pub node: Option<NodeNumber>,
}

/// Who left and came back in one step has not been away. A step may be the end of a node with all its pages, so this
/// looks at each change once.
pub(super) fn cancel_out(changes: Vec<PresenceChange>) -> Vec<PresenceChange> {
    let of =
        |kind| changes.iter().filter(move |change| change.kind == kind).map(|change| change.member.who());
    let left: HashSet<EntityKey> = of(ChangeKind::Leave).collect();
    let back: HashSet<EntityKey> = match left.is_empty() {
        true => HashSet::new(),
        false => of(ChangeKind::Join).filter(|who| left.contains(who)).collect(),
    };
    if back.is_empty() {
        return changes;
    }
    let stays: Vec<bool> = changes.iter().map(|change| !back.contains(&change.member.who())).collect();
    changes.into_iter().zip(stays).filter_map(|(change, stays)| stays.then_some(change)).collect()
}
