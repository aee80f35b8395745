//! Pagination of lists.
//!
//! A cursor is the position of the last item in an order that does not change, so it stays valid while items are
//! added and removed.

use pagewire_cluster::id::Key;
use serde::{Deserialize, Serialize};

use super::error::ApiError;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// One page of a list.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Paginated<T> {
    /// The items of this page.
    pub(super) items: Vec<T>,
    /// The `cursor` of the next request; `null` at the end.
    pub(super) next_cursor: Option<String>,
}

impl<T> Paginated<T> {
    /// A complete list in one response.
    pub(super) const fn complete(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The first `limit` of the items, which must be in the order of their cursors. At most one more item is read.
    pub(super) fn paginate(
        items: impl Iterator<Item = T>,
        limit: usize,
        cursor: impl Fn(&T) -> String,
    ) -> Self {
        let mut items: Vec<T> = items.take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(cursor);
        Self { items, next_cursor }
    }
}

/// Selects a page of a list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// `next_cursor` of the previous response.
    pub(super) cursor: Option<String>,
    /// Maximum number of items, up to 1000; 100 if absent.
    pub(super) limit: Option<usize>,
}

impl PageQuery {
    /// Reads the cursor of a list in the order of keys: the key of the last item of the previous response.
    pub(super) fn after(&self) -> Result<Option<Key>, ApiError> {
        let key = |cursor: &String| cursor.parse().map_err(|_| ApiError::malformed("this is not a cursor"));
        self.cursor.as_ref().map(key).transpose()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }
}
