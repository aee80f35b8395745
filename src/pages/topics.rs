//! Topics: groups of pages that pages join by name.
//!
//! Owns: the topics in a page's row, and the topic index of this node. A topic is a scope like any other: other nodes
//! read it from the row, and it moves with the page. Never: the permission to subscribe.

use std::sync::Arc;

use super::page::{Membership, Page};
use super::rows::RowError;
use super::store::PageStore;
use crate::protocol::{CommandError, ErrorCode};

/// The maximum number of topics of a page. The page's row must hold them all.
const MAX_TOPICS: usize = 16;
/// The maximum length of a topic name, in bytes.
const MAX_NAME: usize = 100;
/// Maximum attempts to write a row that other writers also change.
const ATTEMPTS: usize = 4;

/// Subscribes pages to topics.
pub struct PageTopics {
    pub(super) store: Arc<PageStore>,
}

impl PageTopics {
    /// Subscribes a page to a topic. After the return, messages for the topic reach the page from every node that has
    /// seen the new row.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] for a name of the wrong length, [`ErrorCode::TooLarge`] at the maximum number of
    /// topics, [`ErrorCode::Unavailable`] while the cluster is unavailable or the page moves to another node.
    pub async fn subscribe(&self, page: &Arc<Page>, topic: &str) -> Result<(), CommandError> {
        if !(1..=MAX_NAME).contains(&topic.len()) {
            return Err(CommandError::new(ErrorCode::Malformed, "a topic's name has 1 to 100 bytes"));
        }
        self.rewrite_topics(page, |topics| {
            if topics.iter().any(|known| **known == *topic) {
                return Ok(None);
            }
            if topics.len() == MAX_TOPICS {
                return Err(CommandError::new(ErrorCode::TooLarge, "a page has at most 16 topics"));
            }
            Ok(Some([topics, &[Arc::from(topic)]].concat()))
        })
        .await
    }

    /// Removes a page's subscription to a topic.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unavailable`] while the cluster is unavailable or the page moves to another node.
    pub async fn unsubscribe(&self, page: &Arc<Page>, topic: &str) -> Result<(), CommandError> {
        self.rewrite_topics(page, |topics| {
            let left: Vec<Arc<str>> = topics.iter().filter(|known| ***known != *topic).cloned().collect();
            Ok((left.len() < topics.len()).then_some(left))
        })
        .await
    }

    /// Writes the row with the topics that `change` returns; `None` changes nothing.
    async fn rewrite_topics(
        &self,
        page: &Arc<Page>,
        change: impl Fn(&[Arc<str>]) -> Result<Option<Vec<Arc<str>>>, CommandError>,
    ) -> Result<(), CommandError> {
        for _ in 0..ATTEMPTS {
            let (known, place) = (page.version(), page.place());
            let Some(topics) = change(&place.topics)? else { return Ok(()) };
            let holder = self.store.lease.holder().ok_or_else(CommandError::unavailable)?;
            let place = Membership { topics: topics.clone(), ..place };
            let row = self.store.row(holder, known.generation, &place, page.opened(), "");
            match self.store.write_row(page, &known, &row).await {
                Ok(rev) => {
                    let record = || page.set_row(rev, known.generation, known.user);
                    self.store.hub.set_topics(page, topics, record);
                    return Ok(());
                }
                // another writer was faster, such as a login
                Err(RowError::Changed) => {}
                Err(RowError::Lost) => break,
                Err(RowError::Write(_)) => return Err(CommandError::unavailable()),
            }
        }
        Err(CommandError::new(ErrorCode::Unavailable, "the page is moving to another node"))
    }
}
