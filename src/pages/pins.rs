//! The lanes that pages keep: when they are written to the rows, and where they are read.
//!
//! Owns: the write that stores new pins in the row of their page. Never: which lane a page keeps
//! (`pagewire_cluster::rollout`).
//!
//! The call that pins a lane does not wait for the write. The write comes a moment later, unless another write of the row,
//! such as a login or a move, has stored the pins by then; a living node hands over the pins that it has not written. If the
//! node dies before that, the next call of the page pins a lane anew.

use std::sync::Arc;

use pagewire_cluster::engine::{Unavailable, WriteError};
use pagewire_cluster::id::Key;

use super::page::{Membership, Page};
use super::rows::RowError;
use super::store::PageStore;

/// Maximum number of rows that one node writes at the same time for new pins.
pub(super) const WRITERS: usize = 32;

impl PageStore {
    /// Stores the pins of a page in its row after a moment, if some are new.
    pub fn store_pins(self: &Arc<Self>, page: &Arc<Page>) {
        if page.pins.begin_storing() {
            let (this, page) = (self.clone(), page.clone());
            tokio::spawn(async move { this.write_pins(&page).await });
        }
    }

    async fn write_pins(&self, page: &Arc<Page>) {
        let mut given_up = false;
        loop {
            tokio::time::sleep(self.timing.pin_write).await;
            // the semaphore is never closed
            let _permit = self.pin_writers.acquire().await;
            if page.pins.end_storing(given_up || !page.is_owned()) {
                return;
            }
            // a page that comes here first gets the pins that its old holder hands over
            let Some(holder) = self.lease.holder().filter(|_| !page.is_installing()) else { continue };
            let known = page.version();
            let row = self.row(holder, known.generation, &page.place(), page.opened(), "");
            match self.write_row(page, &known, &row).await {
                Ok(rev) => drop(page.set_row(rev, known.generation, known.user)),
                Err(RowError::Changed) => {}
                // another node has the page, or the pins do not fit beside the other members of the row
                Err(RowError::Lost | RowError::Write(WriteError::Invalid)) => given_up = true,
                Err(error) => tracing::debug!(%error, "the lanes that a page keeps are written again"),
            }
        }
    }

    /// What a page belongs to, with the lanes that it keeps, as known here or in its row.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn membership(&self, page: Key) -> Result<Option<Membership>, Unavailable> {
        if let Some(here) = self.hub.page(page).filter(|page| page.is_owned()) {
            return Ok(Some(here.place()));
        }
        let row = self.registry.row(page).await?;
        Ok(row.map(|(row, _)| Membership::of_row(&row, row.user.as_deref().map(Arc::from))))
    }
}
