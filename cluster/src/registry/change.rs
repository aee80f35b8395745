//! Who comes and who goes, as this node sees the whole cluster. Pure.

use std::sync::Arc;

use crate::id::{Address, NodeNumber};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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

impl Member {
    /// A page that has moved is the same.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::User(a), Self::User(b)) => a == b,
            (Self::Connection(a), Self::Connection(b))
            | (Self::Session(a), Self::Session(b))
            | (Self::Page(a), Self::Page(b)) => a.key == b.key,
            _ => false,
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub kind: Kind,
    /// To whom.
    pub member: Member,
    /// Whose it is; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// The node of the page that made the difference; absent for an end.
    pub node: Option<NodeNumber>,
}

/// Who left and came back in one step has not been away.
pub(super) fn settled(changes: Vec<Change>) -> Vec<Change> {
    let mut settled: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes {
        let back = |left: &Change| left.kind == Kind::Leave && left.member.is(&change.member);
        match settled.iter().position(back).filter(|_| change.kind == Kind::Join) {
            Some(left) => drop(settled.remove(left)),
            None => settled.push(change),
        }
    }
    settled
}
