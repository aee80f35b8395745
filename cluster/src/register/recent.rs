//! The content of the rows of the log that were read last.
//!
//! Owns: which of them are kept, so that a row for many pages is read once. Never: reading one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Publication;

/// Number of rows that are kept.
const ROOM: usize = 64;

type Row = (Arc<str>, Arc<[Publication]>);

/// The rows that were read last.
#[derive(Debug, Default)]
pub(super) struct RecentRows(Mutex<VecDeque<Row>>);

impl RecentRows {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<[Publication]>> {
        self.lock().iter().find(|(known, _)| **known == *key).map(|(_, row)| row.clone())
    }

    pub(super) fn put(&self, key: Arc<str>, row: Arc<[Publication]>) {
        let mut rows = self.lock();
        rows.push_back((key, row));
        if rows.len() > ROOM {
            rows.pop_front();
        }
    }
}
