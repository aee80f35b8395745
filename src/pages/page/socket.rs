//! The attachment of a socket to a page: how a socket comes, and what it finds.
//!
//! Owns: the types of an attachment. The newest attachment wins: a socket with an older id gets
//! [`CloseCode::Replaced`](crate::protocol::CloseCode::Replaced). Never: the state of the page, or a socket.

use std::sync::Arc;

use pagewire_cluster::wire::PageEvent;

use crate::protocol::{Close, ResumeOutcome};

/// The attachment of a socket to a page. The newest one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentId(pub(super) u64);

impl AttachmentId {
    /// The id of a page that no socket of this node has held.
    pub(in crate::pages) const NONE: Self = Self(0);
}

/// The state of the outbox after [`Page::take`](super::Page::take).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// No frame left; wait for [`Page::changed`](super::Page::changed).
    Empty,
    /// The byte budget is used up and more frames wait.
    More,
    /// Close the socket with this.
    Close(Close),
}

/// What happens to a socket that is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pages) enum SendAway {
    /// Its client opens another one, and this one serves the page until then.
    Moves,
    /// It closes, and its client is advised to come back.
    Closes,
    /// No socket holds the page.
    NoSocket,
}

/// How a socket attaches to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pages) enum AttachKind {
    /// The page is new.
    New,
    /// The client has seen everything up to `seq`.
    Resumed {
        /// The last number seen.
        seq: u64,
    },
    /// The page was held by another node and its frames are lost.
    Elsewhere,
}

impl AttachKind {
    /// Returns what the executors of a resident page are told.
    pub(in crate::pages) const fn event(self) -> PageEvent {
        match self {
            Self::New => PageEvent::Wake,
            Self::Resumed { .. } | Self::Elsewhere => PageEvent::Back,
        }
    }
}

/// The facts about the page's past that the `registered` frame contains.
pub(in crate::pages) struct RegisteredState {
    pub(in crate::pages) recovered: ResumeOutcome,
    pub(in crate::pages) seq: u64,
    pub(in crate::pages) received: u64,
    pub(in crate::pages) generation: u32,
    pub(in crate::pages) user: Option<Arc<str>>,
}
