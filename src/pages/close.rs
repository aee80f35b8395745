//! The end of pages: after their resume window, or on request at any level on every node.
//!
//! Owns: the resume window of a page without a socket, the removal of a page's row, and the closing of a scope. Never: a
//! page that moves to another node.
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
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::registry::{Expirable, PageRemoval, RemovalKind, RowLookup};
use pagewire_cluster::wire::{ClosePages, PageEvent};

use super::hub::LastOf;
use super::page::{AttachmentId, Page};
use super::refusal::UNREGISTERED;
use super::store::PageStore;
use crate::protocol::{Close, CloseCode, CommandError, ErrorCode};
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

/// Closes the pages of this node, for a time-out or a request.
pub struct PageCloser {
    pub(super) store: Arc<PageStore>,
    pub(super) peers: PeerClient,
}

impl PageCloser {
    /// Detaches a socket: the page stays for the resume window, then leaves the cluster.
    pub fn detach(self: &Arc<Self>, page: &Arc<Page>, ticket: AttachmentId) {
        if page.detach(ticket) {
            self.store.residents.report(page, PageEvent::Away);
            self.keep_for_window(page, ticket);
        }
    }

    /// Keeps a page without a socket for the resume window, then removes it from the cluster.
    pub(super) fn keep_for_window(self: &Arc<Self>, page: &Arc<Page>, ticket: AttachmentId) {
        let (this, page) = (self.clone(), page.clone());
        tokio::spawn(async move {
            tokio::time::sleep(this.store.options.resume_window).await;
            if page.leave(Some(ticket), Close::new(CloseCode::Unregistered, ""))
                && let Some(last) = this.store.hub.remove(&page)
            {
                this.remove_from_cluster(&page, last, RemovalKind::Forget).await;
            }
        });
    }

    /// Removes a page that has left this node from the cluster. A row without a page would otherwise stay for as long
    /// as this node runs. A session or connection without other pages is idle from here on.
    pub(super) async fn remove_from_cluster(
        &self,
        page: &Arc<Page>,
        last: LastOf,
        removal_kind: RemovalKind,
    ) {
        self.store.residents.report(page, PageEvent::Close);
        self.store.watching.leave(page);
        // other pages that are still here may have no row yet
        let alone = self.store.incarnations.is_rewriting();
        let mut rev = page.version().rev;
        loop {
            let leaving = PageRemoval {
                page: page.key(),
                rev,
                session: page.session(),
                connection: page.connection(),
                user: page.user().as_deref().map(str::to_owned),
                last_of_session: alone || last.of_session,
                last_of_connection: alone || last.of_connection,
            };
            match self.store.registry.leave(&leaving, removal_kind).await {
                Ok(()) | Err(WriteError::Invalid) => return,
                // the row may have been written once more before the page left, with or without a result
                Err(WriteError::Conflict { .. }) => match self.store.own_row(page).await {
                    Ok(Some((_, now))) if now != rev => {
                        rev = now;
                        continue;
                    }
                    Ok(None) => return,
                    Ok(Some(_)) | Err(Unavailable) => {}
                },
                Err(WriteError::Down | WriteError::Unknown) => {}
            }
            tokio::time::sleep(self.store.timing.lease_renew).await;
        }
    }

    /// Closes every page of a session, connection or user on all nodes, and ends its sessions and connections. `None`
    /// when there is nothing to close.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unavailable`] while this node is cut off from its cluster, or when a page keeps moving between
    /// nodes.
    pub async fn unregister(self: &Arc<Self>, scope: Scope) -> Result<Option<CloseOutcome>, CommandError> {
        self.store.lease.holder().ok_or_else(CommandError::unavailable)?;
        let (known, pages) = {
            let view = self.store.registry.view();
            let pages: Vec<_> = view.pages_of(&scope).map(|(page, seen)| (page, seen.holder.node)).collect();
            (!view.expirable_below(&scope).is_empty(), pages)
        };
        let holders: Vec<Holder> =
            self.store.registry.view().nodes().into_iter().map(|(holder, _)| holder).collect();
        let replies = join_all(holders.iter().map(|holder| self.close_at(*holder, &scope))).await;
        let mut outcome = CloseOutcome::default();
        for (holder, closed) in holders.iter().zip(replies) {
            outcome.count(holder.node, closed);
        }
        let silent = pages.into_iter().filter(|(_, node)| outcome.unreachable.contains(node));
        for (page, _) in silent {
            self.write_tombstone(page).await?;
        }
        let marked = self.store.registry.end(&scope).await.map_err(|_| CommandError::unavailable())?;
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
        self.store.lease.holder().ok_or_else(CommandError::unavailable)?;
        let mut outcome = CloseOutcome::default();
        for _ in 0..ATTEMPTS {
            let (row, rev) = match self.look_up(page).await? {
                RowLookup::Page(row, rev) => (row, rev),
                RowLookup::Unregistered => return Ok(Some(outcome)),
                RowLookup::Nothing => return Ok(Some(outcome).filter(|outcome| outcome.closed > 0)),
            };
            let holder = Holder { node: row.node, epoch: row.epoch };
            if self.store.registry.view().is_alive(holder) {
                let scope = Scope::Page(Address { key: page, node: row.node });
                outcome.count(row.node, self.close_at(holder, &scope).await);
                if !outcome.unreachable.is_empty() {
                    self.write_tombstone(page).await?;
                    return Ok(Some(outcome));
                }
            } else {
                let removal = PageRemoval::of_row(page, &row, rev);
                match self.store.registry.leave(&removal, RemovalKind::Unregister).await {
                    Ok(()) => outcome.closed += 1,
                    Err(WriteError::Conflict { .. }) => {}
                    Err(_) => return Err(CommandError::unavailable()),
                }
            }
        }
        Err(moving())
    }

    async fn look_up(&self, page: Key) -> Result<RowLookup, CommandError> {
        Ok(self.store.registry.find(page).await?)
    }

    /// Writes the tombstone of a page on behalf of a node that does not reply.
    async fn write_tombstone(&self, page: Key) -> Result<(), CommandError> {
        for _ in 0..ATTEMPTS {
            let written = match self.look_up(page).await? {
                RowLookup::Page(row, rev) => {
                    let removal = PageRemoval::of_row(page, &row, rev);
                    self.store.registry.leave(&removal, RemovalKind::Unregister).await
                }
                // the row was swept meanwhile
                RowLookup::Nothing => self.store.registry.write_tombstone(page).await,
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
        if self.store.lease.holder() == Some(holder) {
            return Some(self.unregister_here(scope).await);
        }
        let request = ClosePages { scope: scope.clone() };
        // the node writes a row for each of its pages before it replies
        let peers = self.peers.within(self.store.timing.call);
        match peers.request(holder, &request, telemetry::current_trace()).await {
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
        for page in self.store.hub.pages(scope).into_iter().filter(|page| page.is_owned()) {
            page.leave(None, UNREGISTERED);
            if let Some(last) = self.store.hub.remove(&page) {
                closed.push((page, last));
            }
        }
        let count = closed.len() as u64;
        let departing = stream::iter(closed);
        let remove = async |(page, last): (Arc<Page>, LastOf)| {
            self.remove_from_cluster(&page, last, RemovalKind::Unregister).await
        };
        departing.for_each_concurrent(WRITERS, remove).await;
        count
    }

    /// Closes the pages of an ending session or connection, also if this node got no request to close them.
    pub(super) fn on_ending(self: &Arc<Self>, ending: Expirable) {
        let scope = match ending {
            Expirable::Session(key) => Scope::Session(key),
            Expirable::Connection(key) => Scope::Connection(key),
        };
        if self.store.hub.has_pages(&scope) {
            let this = self.clone();
            tokio::spawn(async move { this.unregister_here(&scope).await });
        }
    }

    /// Closes a page that another node unregistered while it could not reach this node.
    pub(super) fn on_unregistered(&self, page: Key, rev: u64) {
        if let Some(page) = self.store.hub.page(page)
            && page.is_owned()
            && page.version().rev < rev
        {
            page.leave(None, UNREGISTERED);
            self.store.residents.report(&page, PageEvent::Close);
            self.store.hub.remove(&page);
            self.store.watching.leave(&page);
        }
    }
}

impl CloseOutcome {
    fn count(&mut self, node: NodeNumber, closed: Option<u64>) {
        self.closed += closed.unwrap_or(0);
        let nodes = if closed.is_some() { &mut self.nodes } else { &mut self.unreachable };
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
}

fn moving() -> CommandError {
    CommandError::new(ErrorCode::Unavailable, "the page is moving between nodes")
}
