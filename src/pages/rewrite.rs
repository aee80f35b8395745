//! The rows of this node's pages after the node has got a new number or incarnation.
//!
//! Owns: that every page of this node has a row of the present incarnation, or leaves. Never: the lease, or a page of
//! another node.

use std::sync::Arc;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::id::Holder;
use pagewire_cluster::registry::PageRow;

use super::page::Page;
use super::rows::RowError;
use super::store::PageStore;
use super::token::PageTokens;
use crate::protocol::{Close, CloseCode};

/// Rewrites rows for a new incarnation of this node.
pub struct RowRewriter {
    pub(super) store: Arc<PageStore>,
    pub(super) tokens: PageTokens,
}

impl RowRewriter {
    /// Rewrites the rows of all pages after this node has claimed a number again. The rows get the new incarnation; if
    /// the number has changed, the pages are notified of their new address. A page with a row that names another holder
    /// leaves this node. Returns when every page has its row.
    pub async fn rewrite_rows(&self, before: Holder, holder: Holder) {
        self.store.incarnations.ended(before);
        let mut pages = self.store.pages();
        loop {
            let mut left = Vec::new();
            for page in pages {
                match self.rewrite_row(&page, holder).await {
                    Ok(()) if before.node != holder.node => self.tokens.push_address(&page, holder.node),
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, "page row not refreshed");
                        left.push(page);
                    }
                }
            }
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(self.store.timing.lease_renew).await;
            pages = left;
        }
        self.store.incarnations.rewritten();
    }

    /// Rewrites the row of one page.
    ///
    /// # Errors
    ///
    /// The caller must retry on any error.
    async fn rewrite_row(&self, page: &Arc<Page>, holder: Holder) -> Result<(), WriteError> {
        while page.is_owned() {
            let known = page.version();
            let row = self.store.row(holder, known.generation, &page.place(), page.opened(), "");
            match self.store.write_row(page, &known, &row).await {
                Ok(rev) => {
                    self.store.set_row_and_user(page, rev, known.generation, known.user);
                    break;
                }
                Err(RowError::Changed) => {}
                Err(RowError::Lost) => return self.lost(page, holder, &row).await,
                Err(RowError::Write(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handles a row that this node finds missing or changed: it was swept while the node was away, or won by another
    /// node.
    async fn lost(&self, page: &Arc<Page>, holder: Holder, row: &PageRow) -> Result<(), WriteError> {
        if self.store.registry.row(page.key()).await.map_err(|Unavailable| WriteError::Down)?.is_none() {
            match self.store.registry.write(page.key(), row, Precondition::Absent).await {
                Ok(rev) => {
                    self.store.set_row_and_user(page, rev, row.generation, page.user());
                    return Ok(());
                }
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::info!(node = %holder.node, "another node took over a page during the write");
        page.leave(None, Close::new(CloseCode::HeldElsewhere, "another node holds this page"));
        self.store.hub.remove(page);
        self.store.watching.remove_page(page.key());
        Ok(())
    }
}
