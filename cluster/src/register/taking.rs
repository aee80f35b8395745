//! What a page takes from the log.
//!
//! Owns: the order of reading the cursor, reading the rows and moving the cursor. Never: the rows themselves (`log`).

use std::sync::Arc;

use serde::Serialize;

use super::cursors::{self, Cursor, ReadCursor, SeenCursor};
use super::entry::{self, LogEntry, Publication};
use super::item::ItemHead;
use super::log::PendingRow;
use super::registers::Register;
use super::{ItemKey, RegisterError};
use crate::engine::{Consistency, Precondition};
use crate::timing::REGISTER_LOG;

/// Maximum attempts to move a cursor that other processes move at the same time.
const ATTEMPTS: usize = 16;
/// Maximum number of rows in one answer.
const MAX_TAKEN: usize = 500;

/// What a page has taken.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Taken {
    /// What was published for the page since it took the last time, oldest first.
    pub entries: Vec<LogEntry>,
    /// Whether something may be missing, because the page has not taken for too long.
    pub reset: bool,
}

/// What is for a page, and where its cursor goes.
struct Pending {
    rows: Vec<PendingRow>,
    /// Everything up to this position is in `rows`, or not for the page.
    position: u64,
    /// Rows up to this position may be missing.
    lost: u64,
}

impl Register {
    /// Takes what was published for a page since it took the last time. Each entry is taken once, whichever process asks.
    /// `is_peek`: the entries stay.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unknown`] if there is no such page, [`RegisterError::Unavailable`] if nothing could be taken;
    /// if the engine did not answer to the move of the cursor, the entries may be taken.
    pub async fn take(&self, page: &ItemKey, is_peek: bool) -> Result<Taken, RegisterError> {
        let head = self.page(page).await?;
        let row = page.cursor(&self.name);
        let kept = REGISTER_LOG.as_millis() as u64;
        let mut seen = if is_peek { None } else { self.seen_cursor(&row) };
        for _ in 0..ATTEMPTS {
            let (SeenCursor { read, passed }, pending) = self.look(&row, &head, seen).await?;
            let Some(pending) = pending else { return Ok(Taken::default()) };
            let now = self.now_ms();
            let (entries, is_whole) = self.read_rows(&pending.rows).await?;
            let reset = !is_whole || pending.lost > passed || now > read.cursor.at + kept;
            if is_peek {
                return Ok(Taken { entries, reset });
            }
            let cursor = Cursor { position: pending.position, at: now };
            if let Some(rev) = cursors::advance(self.store(), &row, cursor, read.expect).await? {
                let read = ReadCursor { cursor, expect: Precondition::Rev(rev) };
                self.seen().set(&row, SeenCursor { read, passed: cursor.position });
                return Ok(Taken { entries, reset });
            }
            seen = None;
        }
        Err(RegisterError::Overloaded)
    }

    /// Returns whether [`Register::take`] is due for a page: something is for it or may be missing, or it has not taken for so
    /// long that its cursor has to be written again. Nothing is read of what was published.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unknown`] if there is no such page, [`RegisterError::Unavailable`] when the engine is unavailable.
    pub async fn has_news(&self, page: &ItemKey) -> Result<bool, RegisterError> {
        let head = self.page(page).await?;
        let row = page.cursor(&self.name);
        let (_, pending) = self.look(&row, &head, self.seen_cursor(&row)).await?;
        Ok(pending.is_some())
    }

    /// Returns the cursor of a page as it was seen last, because another process rarely takes for the same page. A position
    /// that is not reached any more is one of before the cluster lost its data.
    fn seen_cursor(&self, row: &str) -> Option<SeenCursor> {
        self.seen().get(row).filter(|seen| seen.passed <= self.position())
    }

    /// Returns the cursor of a page and what is for the page after it, or `None` if nothing is and the row of the cursor is
    /// not to be written again.
    async fn look(
        &self,
        row: &str,
        head: &ItemHead,
        seen: Option<SeenCursor>,
    ) -> Result<(SeenCursor, Option<Pending>), RegisterError> {
        let seen = match seen {
            Some(seen) => seen,
            None => self.read_cursor(row, head).await?,
        };
        let SeenCursor { read, passed } = seen;
        let pending = self.pending(head, passed);
        let is_fresh = self.now_ms() < read.cursor.at + REGISTER_LOG.as_millis() as u64 / 3;
        if pending.rows.is_empty() && pending.lost <= passed && is_fresh {
            self.seen().set(row, SeenCursor { read, passed: pending.position });
            return Ok((seen, None));
        }
        Ok((seen, Some(pending)))
    }

    /// Reads the cursor of a page; without a row it is at the beginning of the page.
    async fn read_cursor(&self, row: &str, head: &ItemHead) -> Result<SeenCursor, RegisterError> {
        let first = Cursor { position: head.since, at: head.created };
        let read = cursors::read(self.store(), row, first).await?;
        Ok(SeenCursor { read, passed: read.cursor.position })
    }

    /// Returns what is for a page after a position, as far as this process has applied the log.
    fn pending(&self, head: &ItemHead, after: u64) -> Pending {
        let applied = self.position();
        let views = self.views();
        let Some(view) = views.get(self.name.as_str()) else {
            return Pending { rows: Vec::new(), position: after.max(applied), lost: 0 };
        };
        let mut rows = view.log.pending(head, after);
        let is_all = rows.len() <= MAX_TAKEN;
        rows.truncate(MAX_TAKEN);
        let last = rows.last().map_or(after, |row| row.position);
        let position = if is_all { last.max(applied) } else { last };
        Pending { position, rows, lost: view.log.lost() }
    }

    /// Reads the content of rows. Returns `false` if a row is gone.
    async fn read_rows(&self, rows: &[PendingRow]) -> Result<(Vec<LogEntry>, bool), RegisterError> {
        let (mut entries, mut is_whole) = (Vec::new(), true);
        for PendingRow { position, key, places } in rows {
            let Some(publications) = self.publications(key).await? else {
                is_whole = false;
                continue;
            };
            let included = places.iter().filter_map(|place| publications.get(*place));
            entries.extend(
                included
                    .map(|publication| LogEntry { position: *position, publication: publication.clone() }),
            );
        }
        Ok((entries, is_whole))
    }

    /// Reads the content of a row of the log; `None` if it is gone.
    pub(super) async fn publications(&self, key: &str) -> Result<Option<Arc<[Publication]>>, RegisterError> {
        if let Some(known) = self.recent().get(key) {
            return Ok(Some(known));
        }
        let mut found = self.store().get(key, Consistency::Any).await?;
        if found.is_none() {
            found = self.store().get(key, Consistency::Latest).await?;
        }
        let Some(entry) = found else { return Ok(None) };
        let Some(read) = entry::decode(&entry.value) else { return Ok(None) };
        let publications: Arc<[Publication]> = read.into();
        self.recent().put(key.into(), publications.clone());
        Ok(Some(publications))
    }
}
