//! Writes the rows of pages that are added and removed, and the idle rows between them.
//!
//! Owns: which rows are written for each event of a page, a session or a connection, and in which order: single writes,
//! never an atomic batch, for which a NATS server with file storage creates a store on disk. Never: why this order keeps
//! the rule (`idle`), or the repetition of a write while other nodes write at the same time (`idle_writer`).

use super::idle::{Expirable, IdleRow, PageRemoval};
use super::idle_writer::IdleWriter;
use super::sweep::sweep;
use super::{PageRow, Registry, queries};
use crate::engine::{OperationId, Precondition, Put, Resolution, Unavailable, WriteError};
use crate::id::{Key, Scope};
use crate::subject::page_key;

/// How the row of a page is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalKind {
    /// The row is deleted: the client may resume the page as a reset.
    Forget,
    /// The row is replaced by a tombstone for a while: the client may not resume the page.
    Unregister,
}

impl Registry {
    /// Writes the row of a page if the expectation holds, then deletes the idle rows of its session and connection, and
    /// returns the new revision. An unknown outcome is resolved by reading.
    ///
    /// # Errors
    ///
    /// - [`WriteError::Conflict`] when the expectation does not hold, and also when the session or connection is ending.
    /// - [`WriteError::Unknown`] when the row may have been written, also when the page existed before and its session
    ///   or connection began to end during the write.
    pub async fn write(&self, page: Key, row: &PageRow, expect: Precondition) -> Result<u64, WriteError> {
        let expirable = [Expirable::Session(row.session.key), Expirable::Connection(row.connection.key)];
        let seen = self.view().idle.states(&expirable);
        let before = self.idle_writer().current(seen).await.map_err(|Unavailable| WriteError::Down)?;
        if before.iter().any(|state| state.ending) {
            return Err(WriteError::Conflict { actual: None });
        }
        let rev = self.put_row(page, row, expect).await?;
        for state in before {
            match self.idle_writer().replace(state).await {
                Ok(false) => {}
                Ok(true) if expect == Precondition::Absent => {
                    // the same order as for any page that leaves
                    let removal = PageRemoval::of_row(page, row, rev);
                    let withdrawn = self.leave(&removal, RemovalKind::Forget).await;
                    return Err(
                        withdrawn.map_or(WriteError::Unknown, |()| WriteError::Conflict { actual: None })
                    );
                }
                Ok(true) | Err(Unavailable) => return Err(WriteError::Unknown),
            }
        }
        Ok(rev)
    }

    /// Writes the row of a page and resolves an unknown outcome.
    async fn put_row(&self, page: Key, row: &PageRow, expect: Precondition) -> Result<u64, WriteError> {
        let (key, op) = (page_key::page(page), OperationId::random());
        let put = Put { meta: row.encode(), op, ..Put::new(key.clone(), "", expect) };
        match self.rows.put(put).await {
            Err(WriteError::Unknown) => match self.rows.resolve_unknown(&key, op).await {
                Ok(Resolution::Written { rev }) => Ok(rev),
                _ => Err(WriteError::Unknown),
            },
            outcome => outcome,
        }
    }

    /// Removes a page from the cluster, if its row is unchanged. After an error the idle rows may have been written.
    pub async fn leave(&self, leaving: &PageRemoval, kind: RemovalKind) -> Result<(), WriteError> {
        let (writer, mut created) = (self.idle_writer(), Vec::new());
        let seen = self.view().idle.states(&leaving.expirable());
        for state in writer.current(seen).await.map_err(|Unavailable| WriteError::Down)? {
            created.extend(writer.write(leaving, state).await?);
        }
        let (key, expect) = (page_key::page(leaving.page), Precondition::Rev(leaving.rev));
        let removed = match kind {
            RemovalKind::Forget => self.rows.delete(&key, expect).await,
            RemovalKind::Unregister => self.rows.put(self.tombstone(leaving.page, expect)).await.map(drop),
        };
        if let Err(WriteError::Conflict { .. }) = removed {
            for state in created {
                writer.take_back(state).await;
            }
        }
        removed
    }

    /// Writes the tombstone of a page that has no row, so that a node that still has a stale copy cannot write the row
    /// again.
    pub async fn write_tombstone(&self, page: Key) -> Result<(), WriteError> {
        self.rows.put(self.tombstone(page, Precondition::Absent)).await.map(drop)
    }

    fn tombstone(&self, page: Key, expect: Precondition) -> Put {
        let ttl = Some(self.lifetimes.unregistered);
        Put { meta: PageRow::unregistered(), ttl, ..Put::new(page_key::page(page), "", expect) }
    }

    /// Deletes the rows of dead holders, each only at the revision that was read, and returns how many. Safe to run on
    /// any node at any time, but one node is enough. Their sessions and connections get an idle row first, even where
    /// this node still sees a living page: that page may have left before the dead ones joined, and then only the rows
    /// of the dead pages keep the session.
    pub async fn sweep(&self) -> usize {
        sweep(self).await
    }

    /// Marks sessions and connections that have been idle for long enough, so that no page can join any more. Returns
    /// the revision of the last mark. When the view shows the marks, [`Registry::ended`] returns their rows.
    pub async fn mark_idle(&self) -> Option<u64> {
        let due = self.view().due(self.clock.now_ms());
        let mut last = None;
        for (row, rev) in due.into_iter().filter(|(row, _)| !row.ending) {
            if self.view().has_pages(row.of()) {
                // left behind beside a page, or read before the end of its last page: postponed, because only a page
                // that joins may delete it
                let postponed = row.put_off(&self.lifetimes, self.clock.now_ms());
                let _ = self.rows.put(postponed.put(Precondition::Rev(rev))).await;
                continue;
            }
            match self.rows.put(IdleRow { ending: true, ..row }.put(Precondition::Rev(rev))).await {
                Ok(rev) => last = Some(rev),
                // a page has joined meanwhile, or the row is found again
                Err(WriteError::Conflict { .. }) => {}
                Err(_) => break,
            }
        }
        last
    }

    /// Returns the marked sessions and connections that have no page left. The caller removes everything that belongs
    /// to a returned row, then calls [`Registry::remove_idle_row`]. A row is returned again until it is removed.
    pub fn ended(&self) -> Vec<(IdleRow, u64)> {
        queries::ended(&self.view())
    }

    /// Deletes the idle row; every node sees the deletion in its watch. Returns `false` when another process was
    /// faster.
    pub async fn remove_idle_row(&self, row: &IdleRow, rev: u64) -> bool {
        self.rows.delete(&row.of().key(), Precondition::Rev(rev)).await.is_ok()
    }

    /// Marks all sessions and connections that end with a scope, as this node sees them, and returns how many. No page
    /// can join them any more, and nodes that receive the mark close their pages.
    pub async fn end(&self, scope: &Scope) -> Result<usize, WriteError> {
        let below = self.view().expirable_below(scope);
        for row in &below {
            self.rows.put(row.put(Precondition::Any)).await?;
        }
        Ok(below.len())
    }

    pub(super) fn idle_writer(&self) -> IdleWriter<'_> {
        IdleWriter { rows: &self.rows, lifetimes: &self.lifetimes, clock: &self.clock }
    }
}
