//! How far pages have taken the log.
//!
//! Owns: the row of the cursor of a page, and the cursors that this process has seen. Never: what is for a page (`log`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::rows;
use crate::engine::{Consistency, Entry, Kv, Precondition, Put, Unavailable};
use crate::table;
use crate::timing::REGISTER_CURSOR;
use crate::wire;

/// Maximum attempts of one move of a cursor.
const ATTEMPTS: usize = 4;

/// The cursor of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Everything up to this position of the log is taken, or not for the page.
    pub(super) position: u64,
    /// When the row was written, in milliseconds since the Unix epoch.
    pub(super) at: u64,
}

/// A cursor, and what the next write of its row expects.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadCursor {
    pub(super) cursor: Cursor,
    pub(super) expect: Precondition,
}

/// A cursor as this process has seen it last. Another process may have moved it further meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenCursor {
    /// The row as it was read or written.
    pub(super) read: ReadCursor,
    /// Nothing from the cursor to this position is for the page.
    pub(super) passed: u64,
}

/// What this process knows of the cursors of pages, by the keys of their rows.
#[derive(Debug, Default)]
pub(super) struct SeenCursors(Mutex<HashMap<String, SeenCursor>>);

impl SeenCursors {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, SeenCursor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, row: &str) -> Option<SeenCursor> {
        self.lock().get(row).copied()
    }

    pub(super) fn set(&self, row: &str, seen: SeenCursor) {
        self.lock().insert(row.to_owned(), seen);
    }

    pub(super) fn forget(&self, row: &str) {
        let mut seen = self.lock();
        seen.remove(row);
        table::shrink(&mut seen);
    }
}

/// Reads the cursor of a page; `first` if it has no row.
pub(super) async fn read(store: &Kv, row: &str, first: Cursor) -> Result<ReadCursor, Unavailable> {
    let entry = store.get(row, Consistency::Latest).await?;
    let known = entry.as_ref().and_then(|entry| serde_json::from_slice::<Cursor>(&entry.value).ok());
    let cursor = known.filter(|cursor| cursor.position >= first.position).unwrap_or(first);
    Ok(ReadCursor {
        cursor,
        expect: entry.map_or(Precondition::Absent, |Entry { rev, .. }| Precondition::Rev(rev)),
    })
}

/// Moves the cursor of a page. Returns the revision of its row, or `None` if another process has moved it meanwhile.
///
/// # Errors
///
/// [`Unavailable`] if it is not known whether it was moved: what it has passed may be taken.
pub(super) async fn advance(
    store: &Kv,
    row: &str,
    to: Cursor,
    expect: Precondition,
) -> Result<Option<u64>, Unavailable> {
    let put = Put { ttl: Some(REGISTER_CURSOR), ..Put::new(row, wire::encode(&to), expect) };
    rows::put(store, &put, ATTEMPTS).await.map_err(|_| Unavailable)
}
