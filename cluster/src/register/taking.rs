//! What a page takes from the log.
//!
//! Owns: the order of reading the cursor, reading the rows and moving the cursor. Never: the rows themselves (`log`).

use std::sync::Arc;

use serde::Serialize;

use super::cursors::{self, Cursor, ReadCursor, SeenCursor};
use super::entry::{self, LogEntry, Publication};
use super::item::ItemHead;
use super::log::PendingRow;
use super::registers::{Register, indexed};
use super::{ItemKey, RegisterError};
use crate::engine::{Consistency, Precondition};
use crate::timing::REGISTER_LOG;
use crate::wire;

/// Maximum attempts to move a cursor that other processes move at the same time.
const ATTEMPTS: usize = 16;
/// Maximum number of rows in one answer.
const MAX_TAKEN: usize = 500;
/// Maximum size of the entries of one answer as JSON, in bytes. An answer has to fit into a frame of a child (1 MiB), because
/// the cursor has moved when it is sent. A row alone is smaller (`MAX_MESSAGE`).
pub(super) const MAX_BYTES: usize = 700 * 1024;

/// What a page has taken.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Taken {
    /// What was published for the page since it took the last time, oldest first.
    pub entries: Vec<LogEntry>,
    /// Whether something may be missing, because the page has not taken for too long.
    pub reset: bool,
}

/// What is for a page, and where its cursor goes.
pub(super) struct Pending {
    rows: Vec<PendingRow>,
    /// Everything up to this position is in `rows`, or not for the page.
    position: u64,
    /// Rows up to this position may be missing.
    lost: u64,
}

/// The content of rows, up to the size of an answer.
struct ReadRows {
    entries: Vec<LogEntry>,
    /// Whether none of the rows was gone.
    is_whole: bool,
    /// Position of the last row that is included; `None` if all are.
    cut: Option<u64>,
}

/// The cursor of one page.
pub(super) struct PageCursor<'a> {
    register: &'a Register,
    page: &'a ItemKey,
    head: Arc<ItemHead>,
    /// The key of its row.
    row: String,
}

impl Register {
    /// Takes what was published for a page since it took the last time, as much as fits into one answer. Each entry is taken
    /// once, whichever process asks.
    /// `is_peek`: the entries stay.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unknown`] if there is no such page, [`RegisterError::Unavailable`] if nothing could be taken;
    /// if the engine did not answer to the move of the cursor, the entries may be taken.
    pub async fn take(&self, page: &ItemKey, is_peek: bool) -> Result<Taken, RegisterError> {
        let cursor = PageCursor::of(self, page).await?;
        let mut seen = if is_peek { None } else { cursor.seen() };
        for _ in 0..ATTEMPTS {
            let (SeenCursor { read, passed }, pending) = cursor.look(seen).await?;
            let Some(pending) = pending else { return Ok(Taken::default()) };
            let now = self.now_ms();
            let ReadRows { entries, is_whole, cut } = self.read_rows(&pending.rows).await?;
            let is_late = now > read.cursor.at + REGISTER_LOG.as_millis() as u64;
            let reset = !is_whole || pending.lost > passed || is_late;
            let position = cut.unwrap_or(pending.position);
            if is_peek || cursor.advance(Cursor { position, at: now }, read.expect).await? {
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
        let cursor = PageCursor::of(self, page).await?;
        let (_, pending) = cursor.look(cursor.seen()).await?;
        Ok(pending.is_some())
    }

    /// Reads the content of rows, up to [`MAX_BYTES`], but at least one row.
    async fn read_rows(&self, rows: &[PendingRow]) -> Result<ReadRows, RegisterError> {
        let (mut entries, mut is_whole) = (Vec::new(), true);
        let (mut size, mut last) = (0, None);
        for PendingRow { position, key, places } in rows {
            let Some(publications) = self.publications(key).await? else {
                is_whole = false;
                last = Some(*position);
                continue;
            };
            let included = places.iter().filter_map(|place| publications.get(*place));
            let row: Vec<_> = included
                .map(|publication| LogEntry { position: *position, publication: publication.clone() })
                .collect();
            size += wire::encode(&row).len();
            if size > MAX_BYTES && !entries.is_empty() {
                return Ok(ReadRows { entries, is_whole, cut: last });
            }
            entries.extend(row);
            last = Some(*position);
        }
        Ok(ReadRows { entries, is_whole, cut: None })
    }

    /// Returns the content of a row of the log; `None` if it is gone.
    pub(super) async fn publications(&self, key: &str) -> Result<Option<Arc<[Publication]>>, RegisterError> {
        let read = async || {
            let mut found = self.store().get(key, Consistency::Any).await?;
            if found.is_none() {
                found = self.store().get(key, Consistency::Latest).await?;
            }
            Ok(found.and_then(|entry| entry::decode(&entry.value)).map(Arc::from))
        };
        Ok(self.recent().get(key, read).await?)
    }
}

impl<'a> PageCursor<'a> {
    /// The cursor of a page that exists.
    pub(super) async fn of(register: &'a Register, page: &'a ItemKey) -> Result<Self, RegisterError> {
        let head = register.page(page).await?;
        Ok(Self { register, page, head, row: page.cursor(&register.name) })
    }

    /// Returns it as it was seen last, because another process rarely takes for the same page. A position that is not
    /// reached any more is one of before the cluster lost its data.
    fn seen(&self) -> Option<SeenCursor> {
        self.register.seen().get(&self.row).filter(|seen| seen.passed <= self.register.position())
    }

    /// Keeps it as it was seen last, while the index of this process has the page: the end of the page removes it.
    fn remember(&self, seen: SeenCursor) {
        self.register.seen().set(&self.row, seen);
        // checked after that, because the page may end meanwhile
        if indexed(self.register, self.page).is_none() {
            self.register.seen().forget(&self.row);
        }
    }

    /// Returns it and what is for the page after it, or `None` if nothing is and its row is not to be written again.
    pub(super) async fn look(
        &self,
        seen: Option<SeenCursor>,
    ) -> Result<(SeenCursor, Option<Pending>), RegisterError> {
        let seen = match seen {
            Some(seen) => seen,
            None => self.read().await?,
        };
        let SeenCursor { read, passed } = seen;
        let pending = self.pending(passed);
        let is_fresh = self.register.now_ms() < read.cursor.at + REGISTER_LOG.as_millis() as u64 / 3;
        if pending.rows.is_empty() && pending.lost <= passed && is_fresh {
            self.remember(SeenCursor { read, passed: pending.position });
            return Ok((seen, None));
        }
        Ok((seen, Some(pending)))
    }

    /// Reads it; without a row it is at the beginning of the page.
    async fn read(&self) -> Result<SeenCursor, RegisterError> {
        let first = Cursor { position: self.head.since, at: self.head.created };
        let read = cursors::read(self.register.store(), &self.row, first).await?;
        Ok(SeenCursor { read, passed: read.cursor.position })
    }

    /// Moves it. Returns `false` if another process was faster.
    async fn advance(&self, to: Cursor, expect: Precondition) -> Result<bool, RegisterError> {
        let Some(rev) = cursors::advance(self.register.store(), &self.row, to, expect).await? else {
            return Ok(false);
        };
        let read = ReadCursor { cursor: to, expect: Precondition::Rev(rev) };
        self.remember(SeenCursor { read, passed: to.position });
        Ok(true)
    }

    /// Returns what is for the page after a position, as far as this process has applied the log.
    fn pending(&self, after: u64) -> Pending {
        let applied = self.register.position();
        let views = self.register.views();
        let Some(view) = views.get(self.register.name.as_str()) else {
            return Pending { rows: Vec::new(), position: after.max(applied), lost: 0 };
        };
        let mut rows = view.log.pending(&self.head, after);
        let is_all = rows.len() <= MAX_TAKEN;
        rows.truncate(MAX_TAKEN);
        let last = rows.last().map_or(after, |row| row.position);
        let position = if is_all { last.max(applied) } else { last };
        Pending { position, rows, lost: view.log.lost() }
    }
}
