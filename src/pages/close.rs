//! Removing pages for good, at any level, on every node.
//!
//! The nodes are asked first, each closes what it has and tells how much that was. For a node that does not answer the
//! notes are left by the one that asks. Then what ends with the scope is marked in the registry: nobody joins it any
//! more, and a node that got a page of it meanwhile closes that when it hears of the mark. An unregistered page leaves
//! a note in place of its row for as long as its client may resume it, so that it does not come back.

use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use pagewire_cluster::engine::{Unavailable, WriteError};
use pagewire_cluster::id::{Address, Holder, Key, NodeNumber};
use pagewire_cluster::registry::{PageRemoval, RemovalKind, RowLookup};
use pagewire_cluster::wire::{PeerRequest, PeerResponse, Scope};

use super::hub::LastOf;
use super::open::UNREGISTERED;
use super::page::Page;
use super::sessions::Sessions;
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry;

/// Rows that one node writes at the same time.
const WRITERS: usize = 64;
/// How often a page that is on its way to another node is looked for.
const ATTEMPTS: usize = 3;

/// What became of the pages of a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloseOutcome {
    /// Pages that are gone now, with a socket or in their resume window.
    pub closed: u64,
    /// The nodes that answered.
    pub nodes: Vec<NodeNumber>,
    /// The nodes that did not: their pages are nobody's any more, and they close them when they hear of it.
    pub unreachable: Vec<NodeNumber>,
}

impl Sessions {
    /// Closes every page of a session, connection or user, wherever it is, and ends its sessions and connections; `None` when there is
    /// nothing of it. Refused while this node is cut off from its cluster.
    pub async fn unregister(self: &Arc<Self>, scope: Scope) -> Result<Option<CloseOutcome>, CommandError> {
        self.lease.holder().ok_or_else(CommandError::unavailable)?;
        let (known, pages) = {
            let view = self.registry.view();
            let pages: Vec<_> = view.pages_of(&scope).map(|(page, seen)| (page, seen.holder.node)).collect();
            (!view.expirable_below(&scope).is_empty(), pages)
        };
        let holders: Vec<Holder> =
            self.registry.view().nodes().into_iter().map(|(holder, _)| holder).collect();
        let answers = join_all(holders.iter().map(|holder| self.close_at(*holder, &scope))).await;
        let mut outcome = CloseOutcome::default();
        for (holder, closed) in holders.iter().zip(answers) {
            outcome.count(holder.node, closed);
        }
        let silent = pages.into_iter().filter(|(_, node)| outcome.unreachable.contains(node));
        for (page, _) in silent {
            self.write_tombstone(page).await?;
        }
        let marked = self.registry.end(&scope).await.map_err(|_| CommandError::unavailable())?;
        let nothing = !known && marked == 0 && outcome.closed == 0 && outcome.unreachable.is_empty();
        Ok(Some(outcome).filter(|_| !nothing))
    }

    /// Closes one page; `None` when there is no such page. Its row says who holds it, and in the end that it is
    /// unregistered.
    pub async fn unregister_page(self: &Arc<Self>, page: Key) -> Result<Option<CloseOutcome>, CommandError> {
        self.lease.holder().ok_or_else(CommandError::unavailable)?;
        let mut outcome = CloseOutcome::default();
        for _ in 0..ATTEMPTS {
            let found = self.registry.find(page).await.map_err(|Unavailable| CommandError::unavailable())?;
            let (row, rev) = match found {
                RowLookup::Page(row, rev) => (row, rev),
                RowLookup::Unregistered => return Ok(Some(outcome)),
                RowLookup::Nothing => return Ok(Some(outcome).filter(|outcome| outcome.closed > 0)),
            };
            let holder = Holder { node: row.node, epoch: row.epoch };
            if self.registry.view().lives(holder) {
                let scope = Scope::Page(Address { key: page, node: row.node });
                outcome.count(row.node, self.close_at(holder, &scope).await);
                if !outcome.unreachable.is_empty() {
                    self.write_tombstone(page).await?;
                    return Ok(Some(outcome));
                }
            } else {
                match self.registry.leave(&PageRemoval::whole(page, &row, rev), RemovalKind::Unregister).await
                {
                    Ok(()) => outcome.closed += 1,
                    Err(WriteError::Conflict { .. }) => {}
                    Err(_) => return Err(CommandError::unavailable()),
                }
            }
        }
        Err(moving())
    }

    /// Leaves the note for a node that does not answer.
    async fn write_tombstone(&self, page: Key) -> Result<(), CommandError> {
        for _ in 0..ATTEMPTS {
            let written =
                match self.registry.find(page).await.map_err(|Unavailable| CommandError::unavailable())? {
                    RowLookup::Page(row, rev) => {
                        self.registry
                            .leave(&PageRemoval::whole(page, &row, rev), RemovalKind::Unregister)
                            .await
                    }
                    // swept meanwhile
                    RowLookup::Nothing => self.registry.write_tombstone(page).await,
                    RowLookup::Unregistered => return Ok(()),
                };
            match written {
                Ok(()) => return Ok(()),
                Err(WriteError::Conflict { .. }) => {}
                Err(_) => return Err(CommandError::unavailable()),
            }
        }
        Err(moving())
    }

    /// How many pages one node has closed; `None` when it does not say.
    async fn close_at(self: &Arc<Self>, holder: Holder, scope: &Scope) -> Option<u64> {
        if self.lease.holder() == Some(holder) {
            return Some(self.unregister_here(scope).await);
        }
        let question = PeerRequest::Unregister { scope: scope.clone() };
        // it writes a row for each of its pages before it answers
        let post = self.post.within(self.timing.call);
        match post.ask(holder, &question, telemetry::current_trace()).await {
            Ok(PeerResponse::Closed { pages }) => Some(pages),
            other => {
                tracing::warn!(node = %holder.node, ?other, "a node does not say what it has closed");
                None
            }
        }
    }

    /// The same for the pages of this node; how many they were.
    pub async fn unregister_here(&self, scope: &Scope) -> u64 {
        let mut closed = Vec::new();
        for page in self.hub.pages(scope).into_iter().filter(|page| page.is_owned()) {
            page.leave(None, UNREGISTERED);
            if let Some(last) = self.hub.remove(&page) {
                closed.push((page, last));
            }
        }
        let count = closed.len() as u64;
        let departing = stream::iter(closed);
        let depart = async |(page, last): (Arc<Page>, LastOf)| {
            self.remove_from_cluster(&page, last, RemovalKind::Unregister).await
        };
        departing.for_each_concurrent(WRITERS, depart).await;
        count
    }
}

impl CloseOutcome {
    fn count(&mut self, node: NodeNumber, closed: Option<u64>) {
        self.closed += closed.unwrap_or(0);
        let said = if closed.is_some() { &mut self.nodes } else { &mut self.unreachable };
        if !said.contains(&node) {
            said.push(node);
        }
    }
}

fn moving() -> CommandError {
    CommandError::new(ErrorCode::Unavailable, "the page is moving between nodes")
}
