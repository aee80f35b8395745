//! The rows of this node's pages after the result of a write was lost.
//!
//! Owns: recognising a row that this node has written although the result was lost, and removing such a row when it has
//! no page. A page keeps the revision of its row; a write without a result may have changed that revision. The next
//! write then meets a conflict and reads the row. The row is the page's own if it names this process and a generation
//! that the page has written. Never: the content of a row.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pagewire_cluster::engine::{Unavailable, WriteError};
use pagewire_cluster::id::{Holder, Key};
use pagewire_cluster::registry::{PageRemoval, PageRow, RemovalKind, RowLookup};

use super::page::{Page, RowVersion};
use super::sessions::Sessions;
use super::token::PageClaims;
use crate::protocol::FrameBody;

/// Maximum number of earlier incarnations (epochs) of this node that are remembered: a row of an earlier one is still
/// this process's own.
const LIVES: usize = 16;

/// The holder that has the frames that the client missed, and the generation of the next row. A row of this node that
/// still names the old holder is an earlier attempt with a lost result: it produced no page, and no client has its
/// token.
pub(super) fn to_ask(row: &PageRow, holder: Holder, claims: &PageClaims) -> (Option<Holder>, u32) {
    let stands = Holder { node: row.node, epoch: row.epoch };
    let (old, repeated) = match row.prev {
        None => (Some(stands), false),
        Some(prev) if stands == holder => (Some(prev), claims.generation + 1 == row.generation),
        Some(_) => (None, false),
    };
    (old, if repeated { row.generation } else { row.generation + 1 })
}

impl Sessions {
    /// Remembers an incarnation (epoch) of this node that ended because its lease was lost.
    pub(super) fn remember_life(&self, holder: Holder) {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        if lives.len() == LIVES {
            lives.remove(0);
        }
        lives.push(holder);
    }

    /// Whether this process wrote the row.
    pub(super) fn is_own(&self, row: &PageRow) -> bool {
        let holder = Holder { node: row.node, epoch: row.epoch };
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        self.lease.holder() == Some(holder) || lives.contains(&holder)
    }

    /// The row of a page and its revision, if this process wrote it for this page.
    pub(super) async fn own_row(&self, page: &Page) -> Result<Option<(PageRow, u64)>, Unavailable> {
        let row = self.registry.row(page.key()).await?;
        Ok(row.filter(|(row, _)| self.is_own(row) && page.has_written(row.generation)))
    }

    /// After a conflict: adopts the row of an earlier write of this page with a lost result. `false` when there is no
    /// such write, so that the row belongs to another node.
    pub(super) async fn adopt(&self, page: &Arc<Page>) -> Result<bool, Unavailable> {
        let Some((row, rev)) = self.own_row(page).await? else { return Ok(false) };
        let before = page.version();
        if before.rev >= rev {
            return Ok(false);
        }
        tracing::debug!(rev, "a page's row was written although its answer was lost");
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

    /// Whether the page knows a newer row than `before` after a conflict, so that the write can be repeated. Another
    /// writer of this node may have been faster, or an earlier write with a lost result may have succeeded.
    pub(super) async fn knows_better(
        &self,
        page: &Arc<Page>,
        before: &RowVersion,
    ) -> Result<bool, Unavailable> {
        Ok(page.version().rev > before.rev || self.adopt(page).await?)
    }

    /// Removes the row of a page that is not here, in case it was written although the result was lost. Keeps the row
    /// if the page has come here by then. The client of a `new` page does not know the page, so the removal starts at
    /// once; otherwise it starts after the resume window.
    pub(super) fn disown(self: &Arc<Self>, page: Key, generation: u32, new: bool) {
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
                self.registry.leave(&PageRemoval::whole(page, &row, rev), RemovalKind::Forget).await
            }
            RowLookup::Page(..) | RowLookup::Nothing | RowLookup::Unregistered => Ok(()),
        }
    }
}
