//! When a page has news.
//!
//! Owns: waiting for what is published for a page, for processes that tell pages without being asked. Never: taking it
//! (`taking`), or pages.

use super::registers::{Register, Registers, indexed, publications_seen};
use super::{Fields, ItemKey, RegisterError};

impl Registers {
    /// Returns the register that has an item, with the fields of the item, as this process has applied them; `None` if no
    /// register has it.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unavailable`] when the engine is unavailable.
    pub async fn find(&self, item: &ItemKey) -> Result<Option<(Register, Fields)>, RegisterError> {
        let found = self.all().await?.into_iter().find_map(|register| {
            let fields = indexed(&register, item)?.fields.clone();
            Some((register, fields))
        });
        Ok(found)
    }
}

/// The news of one page, as this process sees the log.
pub struct PageNews {
    register: Register,
    page: ItemKey,
}

impl PageNews {
    /// The news of a page of a register.
    pub const fn new(register: Register, page: ItemKey) -> Self {
        Self { register, page }
    }

    /// Resolves when something is published for the page after a position of the log, with the position up to which this
    /// process has seen what is published. It may be taken already: that is not looked at. Never resolves for a page that has
    /// ended.
    pub async fn published(&self, mut after: u64) -> u64 {
        let mut publications = publications_seen(&self.register);
        loop {
            let seen = *publications.borrow_and_update();
            if let Some(head) = indexed(&self.register, &self.page)
                && self.register.view(|view| view.log.has_pending(&head, after))
            {
                return seen;
            }
            after = after.max(seen);
            if publications.changed().await.is_err() {
                // the registers are gone
                std::future::pending::<()>().await;
            }
        }
    }
}
