//! The state on which the answer to a page depends, besides what is published for the page.
//!
//! Owns: whether the data of a page and of its user are the same as before. Never: the data, which only the application reads.

use std::sync::Arc;

use super::item::ItemHead;
use super::registers::{Register, indexed};
use super::{ItemKey, ItemLevel};

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
    /// Returns the id of the connection of the page.
    pub fn connection(&self) -> &str {
        &self.connection
    }
}

impl Register {
    /// Returns the state of a page; `None` if the page, its connection or its user does not exist here, or if an older release
    /// has written one of them.
    pub fn page_state(&self, page: &ItemKey) -> Option<PageState> {
        let above = |level, id: Option<&str>| indexed(self, &ItemKey::new(level, id?).ok()?);
        let page = indexed(self, page)?;
        let connection = above(ItemLevel::Connection, page.text("connection"))?;
        let user = above(ItemLevel::User, connection.text("user"))?;
        Some(PageState {
            of_page: DataMark::of(&page)?,
            of_user: DataMark::of(&user)?,
            connection: connection.id.clone(),
            user: user.id.clone(),
        })
    }
}
