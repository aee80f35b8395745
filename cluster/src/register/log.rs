//! The log of a register, as this process has applied it. Pure.
//!
//! Owns: the recipients of its rows, and which rows may be missing. Never: their content, which is read when a page
//! takes it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::entry::Recipients;
use super::item::ItemHead;

/// A row of the log.
#[derive(Debug, Clone)]
pub(super) struct LogRow {
    pub(super) position: u64,
    /// Key of the row.
    pub(super) key: Arc<str>,
    /// Recipients of each publication.
    pub(super) to: Arc<[Recipients]>,
}

/// The publications of a row that are for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingRow {
    pub(super) position: u64,
    pub(super) key: Arc<str>,
    /// Their places in the row.
    pub(super) places: Vec<usize>,
}

/// The rows of the log in the order of their positions.
#[derive(Debug, Default)]
pub(super) struct EntryLog {
    rows: VecDeque<LogRow>,
    /// Rows up to this position may be missing here.
    lost: u64,
}

impl EntryLog {
    /// Adds a row. Keeps at most `room` of them. A row that is known comes again after a reconnect; another one with an
    /// earlier position means that the cluster has lost its data.
    pub(super) fn push(&mut self, row: LogRow, room: usize) {
        if self.rows.back().is_some_and(|last| last.position >= row.position) {
            if self.rows.iter().any(|known| known.key == row.key) {
                return;
            }
            self.rows.clear();
            self.lost = 0;
        }
        self.rows.push_back(row);
        while self.rows.len() > room
            && let Some(oldest) = self.rows.pop_front()
        {
            self.lost = oldest.position;
        }
    }

    /// Removes a row that was deleted, or that has expired.
    pub(super) fn remove(&mut self, key: &str, expired: bool) {
        let Some(place) = self.rows.iter().position(|row| *row.key == *key) else { return };
        if let Some(row) = self.rows.remove(place).filter(|_| expired) {
            self.lost = self.lost.max(row.position);
        }
    }

    /// Returns the position up to which rows may be missing.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns what is for a page after a position.
    pub(super) fn pending(&self, page: &ItemHead, after: u64) -> Vec<PendingRow> {
        let first = self.rows.partition_point(|row| row.position <= after);
        let pending = self.rows.range(first..).filter_map(|row| {
            let included = row.to.iter().enumerate().filter(|(_, to)| to.include(page, row.position));
            let places: Vec<_> = included.map(|(place, _)| place).collect();
            let LogRow { position, key, .. } = row;
            (!places.is_empty()).then(|| PendingRow { position: *position, key: key.clone(), places })
        });
        pending.collect()
    }

    /// Returns whether something is for a page after a position.
    pub(super) fn has_pending(&self, page: &ItemHead, after: u64) -> bool {
        let first = self.rows.partition_point(|row| row.position <= after);
        self.rows.range(first..).any(|row| row.to.iter().any(|to| to.include(page, row.position)))
    }

    /// Returns the rows with publications for one page or user only.
    pub(super) fn only_for<'a>(
        &'a self,
        is_addressed: impl Fn(&Recipients) -> bool + 'a,
    ) -> impl Iterator<Item = &'a LogRow> {
        self.rows.iter().filter(move |row| !row.to.is_empty() && row.to.iter().all(&is_addressed))
    }
}
