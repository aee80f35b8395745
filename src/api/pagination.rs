//! How lists are cut into pieces.
//!
//! A cursor is the place of the last item in an order that does not change, so it stays good while things come and go.

use pagewire_cluster::id::Key;
use serde::{Deserialize, Serialize};

use super::error::ApiError;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// One piece of a list.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Paginated<T> {
    /// This piece.
    pub(super) items: Vec<T>,
    /// What to ask the next piece with; `null` at the end.
    pub(super) next_cursor: Option<String>,
}

impl<T> Paginated<T> {
    /// A list that comes in one piece.
    pub(super) const fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The first `limit` of the items, which come in the order of their cursors; no more than one is looked at beyond.
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

/// Which piece of a list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// `next_cursor` of the piece before.
    pub(super) cursor: Option<String>,
    /// At most this many items, up to 1000; 100 if absent.
    pub(super) limit: Option<usize>,
}

impl PageQuery {
    /// The key that the piece before ended with, of a list in the order of keys.
    pub(super) fn after(&self) -> Result<Option<Key>, ApiError> {
        let key = |cursor: &String| cursor.parse().map_err(|_| ApiError::malformed("this is not a cursor"));
        self.cursor.as_ref().map(key).transpose()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }
}
