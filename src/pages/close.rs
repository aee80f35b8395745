//! Closes pages permanently, at any level, on every node.
//!
//! All nodes get a request first; each closes its own pages and reports their number. For a node that does not reply,
//! the requesting node writes the tombstones. Then the sessions and connections that end with the scope are marked in
//! the registry. No page joins a marked one, and a node that received a page of it meanwhile closes that page when it
//! sees the mark. A closed page leaves a tombstone in place of its row for as long as its client may resume it, so
//! that it does not come back.

use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use pagewire_cluster::engine::{Unavailable, WriteError};
use pagewire_cluster::id::{Address, Holder, Key, NodeNumber, Scope};
use pagewire_cluster::registry::{PageRemoval, RemovalKind, RowLookup};
use pagewire_cluster::wire::ClosePages;

use super::hub::LastOf;
use super::open::UNREGISTERED;
use super::page::Page;
use super::sessions::Sessions;
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry;

/// Maximum number of rows that one node writes at the same time.
const WRITERS: usize = 64;
/// Maximum attempts to find a page that is moving between nodes.
const ATTEMPTS: usize = 3;

/// Result of closing the pages of a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloseOutcome {
    /// Closed pages, with a socket or in their resume window.
    pub closed: u64,
    /// The nodes that replied.
    pub nodes: Vec<NodeNumber>,
    /// The nodes that did not reply. Their pages have tombstones by now; each node closes its pages when it sees those.
    pub unreachable: Vec<NodeNumber>,
}

impl Sessions {
    /// Closes every page of a session, connection or user on all nodes, and ends its sessions and connections. `None`
    /// when there is nothing to close.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unavailable`] while this node is cut off from its cluster, or when a page keeps moving between
    /// nodes.
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

    /// Closes one page; `None` when there is no such page. The page's row names its holder, and afterwards records that
    /// the page is unregistered.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unavailable`] while this node is cut off from its cluster, or when the page keeps moving between
    /// nodes.
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

    /// Writes the tombstone of a page on behalf of a node that does not reply.
    async fn write_tombstone(&self, page: Key) -> Result<(), CommandError> {
        for _ in 0..ATTEMPTS {
            let written =
                match self.registry.find(page).await.map_err(|Unavailable| CommandError::unavailable())? {
                    RowLookup::Page(row, rev) => {
                        self.registry
                            .leave(&PageRemoval::whole(page, &row, rev), RemovalKind::Unregister)
                            .await
                    }
                    // the row was swept meanwhile
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

    /// Closes the pages of the scope on one node. Returns their number; `None` when the node does not report it.
    async fn close_at(self: &Arc<Self>, holder: Holder, scope: &Scope) -> Option<u64> {
        if self.lease.holder() == Some(holder) {
            return Some(self.unregister_here(scope).await);
        }
        let request = ClosePages { scope: scope.clone() };
        // the node writes a row for each of its pages before it replies
        let post = self.post.within(self.timing.call);
        match post.ask(holder, &request, telemetry::current_trace()).await {
            Ok(closed) => Some(closed.pages),
            Err(error) => {
                tracing::warn!(node = %holder.node, %error, "a node did not report the pages that it closed");
                None
            }
        }
    }

    /// Closes the pages of the scope on this node and returns their number.
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
