//! Writes the rows of pages that are added and removed, and the idle rows between them.
//!
//! Owns: what is written for each event of a page, a session or a connection. Never: the rule of `idle`, or the retries
//! while other nodes commit at the same time (`idle_commit`).

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt;
use futures_util::stream;

use super::idle::{self, Expirable, IdleRow, IdleState, PageRemoval};
use super::idle_commit::{CommittedRows, IdleCommit};
use super::{PageRow, Registry};
use crate::engine::{BatchOp, OperationId, Precondition, Put, Resolution, WriteError};
use crate::id::{Key, Scope};
use crate::subject::page_key;

/// Rows of dead nodes that are deleted concurrently.
const SWEEPERS: usize = 16;

/// How the row of a page is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalKind {
    /// The row is deleted: the client may resume the page as a reset.
    Forget,
    /// The row is replaced by a tombstone for a while: the client may not resume the page.
    Unregister,
}

impl Registry {
    /// Writes the row of a page if the expectation holds, deletes the idle rows of its session and connection, and
    /// returns the new revision. An unknown outcome is resolved by reading.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] when the expectation does not hold, and also when the session or connection is ending.
    pub async fn write(&self, page: Key, row: &PageRow, expect: Precondition) -> Result<u64, WriteError> {
        let (key, op) = (page_key::page(page), OperationId::random());
        let put =
            Put { key: key.clone(), value: Vec::new().into(), meta: row.encode(), expect, ttl: None, op };
        let expirable = [Expirable::Session(row.session.key), Expirable::Connection(row.connection.key)];
        let outcome = self.commit(&expirable, |states| idle::join(put.clone(), states)).await;
        match outcome {
            Ok(CommittedRows::One(rev)) => Ok(rev),
            // a commit does not return the revision of each row
            Ok(CommittedRows::Several) | Err(WriteError::Unknown) => {
                match self.rows.resolve_unknown(&key, op).await {
                    Ok(Resolution::Written { rev }) => Ok(rev),
                    _ => Err(WriteError::Unknown),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a page from the cluster, if its row is unchanged.
    pub async fn leave(&self, leaving: &PageRemoval, kind: RemovalKind) -> Result<(), WriteError> {
        let (key, expect) = (page_key::page(leaving.page), Precondition::Rev(leaving.rev));
        let own = match kind {
            RemovalKind::Forget => BatchOp::Delete { key, expect },
            RemovalKind::Unregister => BatchOp::Put(Put {
                meta: PageRow::unregistered(),
                ttl: Some(self.lifetimes.unregistered),
                ..Put::new(key, "", expect)
            }),
        };
        let plan = |states: &[IdleState]| {
            Some(leaving.leave(own.clone(), states, &self.lifetimes, self.clock.now_ms()))
        };
        self.commit(&leaving.expirable(), plan).await.map(drop)
    }

    /// Writes the tombstone of a page that has no row, so that a node that still has a stale copy cannot write the row
    /// again.
    pub async fn write_tombstone(&self, page: Key) -> Result<(), WriteError> {
        let put = Put {
            meta: PageRow::unregistered(),
            ttl: Some(self.lifetimes.unregistered),
            ..Put::new(page_key::page(page), "", Precondition::Absent)
        };
        self.rows.put(put).await.map(drop)
    }

    /// Deletes the rows of dead holders, each only at the revision that was read, and returns how many. Safe to run on
    /// any node at any time, but one node is enough. Their sessions and connections get an idle row first, even where
    /// this node still sees a living page: that page may have left before the dead ones joined, and then only the rows
    /// of the dead pages keep the session.
    pub async fn sweep(&self) -> usize {
        let dead: Vec<PageRemoval> = self.view().dead().into_iter().map(PageRemoval::of_dead).collect();
        let of: HashMap<Expirable, PageRemoval> =
            dead.iter().flat_map(|page| page.expirable().into_iter().map(|of| (of, page.clone()))).collect();
        let idle = stream::iter(of).map(async |(of, leaving)| {
            let plan =
                |states: &[IdleState]| Some(leaving.idle(states, &self.lifetimes, self.clock.now_ms()));
            self.commit(&[of], plan).await.is_ok().then_some(of)
        });
        let idle = idle.buffer_unordered(SWEEPERS).filter_map(std::future::ready);
        let idle: HashSet<Expirable> = idle.collect().await;
        // the others wait for the next sweep
        let safe = dead.into_iter().filter(|page| page.expirable().iter().all(|of| idle.contains(of)));
        let swept = stream::iter(safe).map(async |page| {
            self.rows.delete(&page_key::page(page.page), Precondition::Rev(page.rev)).await.is_ok()
        });
        swept.buffer_unordered(SWEEPERS).filter(|swept| std::future::ready(*swept)).count().await
    }

    /// Marks sessions and connections that have been idle for long enough, so that no page can join any more. The
    /// caller removes everything that belongs to a returned row, then calls [`Registry::remove_idle_row`]. A row is
    /// returned again until it is removed.
    pub async fn end_idle(&self) -> Vec<(IdleRow, u64)> {
        let mut ending = Vec::new();
        let due = self.view().due(self.clock.now_ms());
        for (row, rev) in due {
            let of = row.of();
            if self.view().has_pages(of) {
                // left behind by a page that had not received it, or read before the end of its last page: postponed,
                // because only a page that joins may delete it; a row that is ending has pages that are about to be
                // closed
                if !row.ending {
                    let _ = self
                        .rows
                        .put(row.put_off(&self.lifetimes, self.clock.now_ms()).put(Precondition::Rev(rev)))
                        .await;
                }
            } else if row.ending {
                ending.push((row, rev));
            } else {
                let row = IdleRow { ending: true, ..row };
                match self.rows.put(row.put(Precondition::Rev(rev))).await {
                    Ok(rev) => ending.push((row, rev)),
                    // a page has joined meanwhile, or the row is found again
                    Err(WriteError::Conflict { .. }) => {}
                    Err(_) => break,
                }
            }
        }
        ending
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

    async fn commit(
        &self,
        of: &[Expirable],
        plan: impl Fn(&[IdleState]) -> Option<Vec<BatchOp>>,
    ) -> Result<CommittedRows, WriteError> {
        let seen = self.view().idle.states(of);
        IdleCommit { rows: &self.rows, of }.run(seen, plan).await
    }
}
