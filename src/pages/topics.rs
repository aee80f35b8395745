//! Topics: groups of pages that their pages choose.
//!
//! Owns: what a page's row says of them, and the index here. A topic is a scope like any other: the row is where
//! other nodes see it, and it moves with the page. Never: who may subscribe.

use std::sync::Arc;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};

use super::page::{Membership, Page};
use super::sessions::Sessions;
use crate::protocol::{CommandError, ErrorCode};

/// The most topics of a page: its row has to hold them.
const MAX_TOPICS: usize = 16;
/// The longest name, in bytes.
const MAX_NAME: usize = 100;
/// How often a row that others write too is written again.
const ATTEMPTS: usize = 4;

impl Sessions {
    /// From its return on, messages for the topic reach the page from every node that has heard of it.
    pub async fn subscribe(&self, page: &Arc<Page>, topic: &str) -> Result<(), CommandError> {
        if !(1..=MAX_NAME).contains(&topic.len()) {
            return Err(CommandError::new(ErrorCode::Malformed, "a topic's name has 1 to 100 bytes"));
        }
        self.retopic(page, |topics| {
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

    /// The page hears of the topic no more.
    pub async fn unsubscribe(&self, page: &Arc<Page>, topic: &str) -> Result<(), CommandError> {
        self.retopic(page, |topics| {
            let left: Vec<Arc<str>> = topics.iter().filter(|known| ***known != *topic).cloned().collect();
            Ok((left.len() < topics.len()).then_some(left))
        })
        .await
    }

    /// Writes the row with what `change` makes of the topics; `None` changes nothing.
    async fn retopic(
        &self,
        page: &Arc<Page>,
        change: impl Fn(&[Arc<str>]) -> Result<Option<Vec<Arc<str>>>, CommandError>,
    ) -> Result<(), CommandError> {
        for _ in 0..ATTEMPTS {
            let (standing, place) = (page.standing(), page.place());
            let Some(topics) = change(&place.topics)? else { return Ok(()) };
            let holder = self.lease.holder().ok_or_else(CommandError::unavailable)?;
            let place = Membership { topics: topics.clone(), ..place };
            let row = self.row(holder, standing.generation, &place, page.opened(), "");
            match self.registry.write(page.key(), &row, Precondition::Rev(standing.rev)).await {
                Ok(rev) => {
                    self.hub
                        .set_topics(page, topics, || page.set_row(rev, standing.generation, standing.user));
                    return Ok(());
                }
                // another writer was faster: a login, or another holder
                Err(WriteError::Conflict { .. }) => match self.knows_better(page, &standing).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(Unavailable) => return Err(CommandError::unavailable()),
                },
                Err(_) => return Err(CommandError::unavailable()),
            }
        }
        Err(CommandError::new(ErrorCode::Unavailable, "the page is on its way to another node"))
    }
}
