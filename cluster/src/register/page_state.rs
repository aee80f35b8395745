//! The state on which the answer to a page depends, besides what is published for the page.
//!
//! Owns: whether the data of a page and of its user are the same as before. Never: the data, which only the application reads.

use std::sync::Arc;

use super::item::ItemHead;
use super::registers::{Register, Registers, indexed};
use super::{ItemKey, ItemLevel, RegisterError};

/// A page with its connection and its user, as this process has applied them. Two equal values mean that neither the data of
/// the page nor those of the user have changed in between, and that the page belongs to the same connection and user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageState {
    connection: Arc<str>,
    user: Arc<str>,
    of_page: DataMark,
    of_user: DataMark,
}

/// Another value after each change of the data of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DataMark {
    created: u64,
    mark: u64,
}

impl DataMark {
    /// `None` for a row of a release that kept no mark.
    fn of(head: &ItemHead) -> Option<Self> {
        (head.data_mark > 0).then_some(Self { created: head.created, mark: head.data_mark })
    }
}

impl PageState {
    /// `None` if the page, its connection or its user does not exist here, or if an older release has written one of them.
    pub(super) fn of(register: &Register, page: &ItemKey) -> Option<Self> {
        let above = |level, id: Option<&str>| indexed(register, &ItemKey::new(level, id?).ok()?);
        let page = indexed(register, page)?;
        let connection = above(ItemLevel::Connection, page.text("connection"))?;
        let user = above(ItemLevel::User, connection.text("user"))?;
        Some(Self {
            of_page: DataMark::of(&page)?,
            of_user: DataMark::of(&user)?,
            connection: connection.id.clone(),
            user: user.id.clone(),
        })
    }

    /// Returns the id of the connection of the page.
    pub fn connection(&self) -> &str {
        &self.connection
    }
}

impl Registers {
    /// Returns the register that has a page, with the state of the page; `None` if no register has the page with its connection
    /// and its user, or if an older release has written one of them.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unavailable`] when the engine is unavailable.
    pub async fn page_state(&self, page: &ItemKey) -> Result<Option<(Register, PageState)>, RegisterError> {
        let found = self.all().await?.into_iter().find_map(|register| {
            let state = PageState::of(&register, page)?;
            Some((register, state))
        });
        Ok(found)
    }
}
