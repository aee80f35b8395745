//! The writes of rows of this node's pages, and what follows when the result of a write was lost.
//!
//! Owns: writing the next row of a page, recognising a row that this node has written although the result was lost, and
//! removing such a row when it has no page. A page keeps the revision of its row; a write without a result may have
//! changed that revision. The next write then meets a conflict and reads the row. The row is the page's own if it names
//! this process and a generation that the page has written. Never: the content of a row.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::id::{Holder, Key};
use pagewire_cluster::registry::{PageRemoval, PageRow, RemovalKind, RowLookup};

use super::page::{Page, RowVersion};
use super::store::PageStore;
use crate::protocol::FrameBody;

/// Reason why the next row of a page was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    /// Another writer of this node was faster, or an earlier write with a lost result has succeeded. The page knows the
    /// newer row now: decide again.
    #[error("the row has changed")]
    Changed,
    /// The row belongs to another node, or is gone.
    #[error("the row belongs to another node")]
    Lost,
    /// The engine refused the write or gave no result.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl PageStore {
    /// Writes the next row of a page in place of the row `known`, and returns its revision. The caller records it.
    pub(super) async fn write_row(
        &self,
        page: &Arc<Page>,
        known: &RowVersion,
        next: &PageRow,
    ) -> Result<u64, RowError> {
        match self.registry.write(page.key(), next, Precondition::Rev(known.rev)).await {
            Err(WriteError::Conflict { .. }) => {
                // another writer of this node may have been faster, or an earlier write with a lost result has succeeded
                let newer = page.version().rev > known.rev || self.adopt_own_row(page).await?;
                Err(if newer { RowError::Changed } else { RowError::Lost })
            }
            outcome => {
                let rev = outcome?;
                page.pins.stored(&next.pins);
                Ok(rev)
            }
        }
    }

    /// Whether this process wrote the row.
    fn is_own(&self, row: &PageRow) -> bool {
        let holder = Holder { node: row.node, epoch: row.epoch };
        self.lease.holder() == Some(holder) || self.incarnations.contains(holder)
    }

    /// The row of a page and its revision, if this process wrote it for this page.
    pub(super) async fn own_row(&self, page: &Page) -> Result<Option<(PageRow, u64)>, Unavailable> {
        let row = self.registry.row(page.key()).await?;
        Ok(row.filter(|(row, _)| self.is_own(row) && page.has_written(row.generation)))
    }

    /// After a conflict: adopts the row of an earlier write of this page with a lost result. `false` when there is no
    /// such write, so that the row belongs to another node.
    async fn adopt_own_row(&self, page: &Arc<Page>) -> Result<bool, WriteError> {
        let found = self.own_row(page).await.map_err(|Unavailable| WriteError::Down)?;
        let Some((row, rev)) = found else { return Ok(false) };
        let before = page.version();
        if before.rev >= rev {
            return Ok(false);
        }
        tracing::debug!(rev, "a page's row was written although the response was lost");
        let user = self.intern(row.user.as_deref());
        self.set_row_and_user(page, rev, row.generation, user.clone());
        let topics: Vec<Arc<str>> = row.topics.iter().map(|topic| topic.as_str().into()).collect();
        if topics != before.topics {
            self.hub.set_topics(page, topics, || page.version().rev == rev);
        }
        if let (None, Some(user)) = (before.user, user) {
            page.push_unsequenced(FrameBody::identity(&user));
        }
        Ok(true)
    }

    /// Removes the row of a page that is not here, in case it was written although the result was lost. Keeps the row
    /// if the page has come here by then. The client of a `new` page does not know the page, so the removal starts at
    /// once; otherwise it starts after the resume window.
    pub(super) fn remove_unclaimed_row(self: &Arc<Self>, page: Key, generation: u32, new: bool) {
        let this = self.clone();
        tokio::spawn(async move {
            let wait = if new { Duration::ZERO } else { this.options.resume_window };
            tokio::time::sleep(wait).await;
            while this.remove_row_without_page(page, generation, new).await.is_err() {
                tokio::time::sleep(this.timing.lease_renew).await;
            }
        });
    }

    /// Removes the row unless the page is here.
    ///
    /// # Errors
    ///
    /// The caller must retry on any error.
    async fn remove_row_without_page(&self, page: Key, generation: u32, new: bool) -> Result<(), WriteError> {
        if self.hub.page(page).is_some_and(|page| page.is_owned()) {
            return Ok(());
        }
        if new {
            // a write that is still in transit conflicts with the tombstone
            match self.registry.write_tombstone(page).await {
                Err(WriteError::Conflict { .. }) => {}
                outcome => return outcome,
            }
        }
        match self.registry.find(page).await.map_err(|Unavailable| WriteError::Down)? {
            RowLookup::Page(row, rev) if self.is_own(&row) && row.generation == generation => {
                self.registry.leave(&PageRemoval::of_row(page, &row, rev), RemovalKind::Forget).await
            }
            RowLookup::Page(..) | RowLookup::Nothing | RowLookup::Unregistered => Ok(()),
        }
    }
}
