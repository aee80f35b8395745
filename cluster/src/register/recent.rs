//! The content of the rows of the log that were read last.
//!
//! Owns: which of them are kept, so that a row for many pages is read once, also while they all ask for it. Never: how one is
//! read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::Publication;
use crate::engine::Unavailable;

/// Number of rows that are kept.
const ROOM: usize = 64;

/// The content of a row when it was read.
type Content = Arc<OnceCell<Arc<[Publication]>>>;

/// Why a row has no content.
enum NoContent {
    Gone,
    Unavailable,
}

/// The rows that were read last.
#[derive(Debug, Default)]
pub(super) struct RecentRows(Mutex<VecDeque<(Arc<str>, Content)>>);

impl RecentRows {
    /// Returns the content of a row, which `read` reads unless another caller has read it or reads it now; `None` if it is
    /// gone.
    pub(super) async fn get(
        &self,
        key: &str,
        read: impl AsyncFnOnce() -> Result<Option<Arc<[Publication]>>, Unavailable>,
    ) -> Result<Option<Arc<[Publication]>>, Unavailable> {
        let content = self.content(key);
        let read = async || match read().await {
            Ok(found) => found.ok_or(NoContent::Gone),
            Err(Unavailable) => Err(NoContent::Unavailable),
        };
        match content.get_or_try_init(read).await {
            Ok(found) => Ok(Some(found.clone())),
            Err(NoContent::Gone) => Ok(None),
            Err(NoContent::Unavailable) => Err(Unavailable),
        }
    }

    fn content(&self, key: &str) -> Content {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = rows.iter().rev().find(|(known, _)| **known == *key) {
            return known.clone();
        }
        let content = Content::default();
        rows.push_back((key.into(), content.clone()));
        if rows.len() > ROOM {
            rows.pop_front();
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_row_that_many_ask_for_is_read_once() {
        let (rows, reads) = (RecentRows::default(), Cell::new(0));
        let read = async || {
            reads.set(reads.get() + 1);
            tokio::task::yield_now().await;
            Ok(Some(Vec::new().into()))
        };
        let found = join_all((0..100).map(|_| rows.get("a", read))).await;
        assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))));
        assert_eq!(reads.get(), 1);
    }

    #[tokio::test]
    async fn a_row_that_could_not_be_read_is_read_again() {
        let rows = RecentRows::default();
        assert!(matches!(rows.get("a", async || Err(Unavailable)).await, Err(Unavailable)));
        assert!(matches!(rows.get("a", async || Ok(None)).await, Ok(None)));
        assert!(matches!(rows.get("a", async || Ok(Some(Vec::new().into()))).await, Ok(Some(_))));
    }
}
