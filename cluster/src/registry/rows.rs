//! Writing rows: pages that come and go, and what is idle in between.
//!
//! Owns: the commits that keep the rule of `idle`, whatever other nodes do at the same time. Never: what the rule is.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt;
use futures_util::stream;

use super::idle::{self, Expirable, IdleRow, IdleState, PageRemoval};
use super::{PageRow, Registry};
use crate::clock::unix_ms;
use crate::engine::{
    BatchOp, Consistency, OperationId, Precondition, Put, Resolution, Unavailable, WriteError,
};
use crate::id::Key;
use crate::subject::page_key;
use crate::wire::Scope;

/// How often a commit is tried with what stands there now. Somebody else was faster each time.
const ATTEMPTS: usize = 8;
/// Rows of dead nodes that are deleted at the same time.
const SWEEPERS: usize = 16;

/// What becomes of the row of a page that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalKind {
    /// It goes: the page may come back as a reset.
    Forget,
    /// It says so for a while: the page may not come back.
    Unregister,
}

impl Registry {
    /// Writes the row of a page if the expectation holds, and takes away the idle rows of what it joins; the new
    /// revision. A conflict, too, when that is ending. An unknown outcome is resolved by reading.
    pub async fn write(&self, page: Key, row: &PageRow, expect: Precondition) -> Result<u64, WriteError> {
        let (key, op) = (page_key::page(page), OperationId::random());
        let put =
            Put { key: key.clone(), value: Vec::new().into(), meta: row.encode(), expect, ttl: None, op };
        let lasting = [Expirable::Session(row.session.key), Expirable::Connection(row.connection.key)];
        let outcome = self.commit(&lasting, |stands| idle::join(put.clone(), stands)).await;
        match outcome {
            Ok(RowWrite::Row(rev)) => Ok(rev),
            // a commit does not tell the revision of each row
            Ok(RowWrite::Several) | Err(WriteError::Unknown) => {
                match self.rows.resolve_unknown(&key, op).await {
                    Ok(Resolution::Written { rev }) => Ok(rev),
                    _ => Err(WriteError::Unknown),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The page leaves the cluster, if its row is still as it was.
    pub async fn leave(&self, leaving: &PageRemoval, farewell: RemovalKind) -> Result<(), WriteError> {
        let (key, expect) = (page_key::page(leaving.page), Precondition::Rev(leaving.rev));
        let own = match farewell {
            RemovalKind::Forget => BatchOp::Delete { key, expect },
            RemovalKind::Unregister => BatchOp::Put(Put {
                meta: PageRow::unregistered(),
                ttl: Some(self.lifetimes.unregistered),
                ..Put::new(key, "", expect)
            }),
        };
        let plan =
            |stands: &[IdleState]| Some(leaving.leave(own.clone(), stands, &self.lifetimes, unix_ms()));
        self.commit(&leaving.lasting(), plan).await.map(drop)
    }

    /// A page that has no row is unregistered, too: whoever still counts it as its own cannot bring it back.
    pub async fn write_tombstone(&self, page: Key) -> Result<(), WriteError> {
        let put = Put {
            meta: PageRow::unregistered(),
            ttl: Some(self.lifetimes.unregistered),
            ..Put::new(page_key::page(page), "", Precondition::Absent)
        };
        self.rows.put(put).await.map(drop)
    }

    /// Rows of dead holders go, each only at the revision seen; how many. Safe to run anywhere at any time, worth running
    /// on one node. Everything that they belonged to gets an idle row first, also where this node still sees a living
    /// page: that page may have left before the dead ones came, and then nothing but their rows stands for the session.
    pub async fn sweep(&self) -> usize {
        let dead: Vec<PageRemoval> = self.view().dead().into_iter().map(PageRemoval::of_dead).collect();
        let of: HashMap<Expirable, PageRemoval> =
            dead.iter().flat_map(|page| page.lasting().into_iter().map(|of| (of, page.clone()))).collect();
        let idle = stream::iter(of).map(async |(of, leaving)| {
            let plan = |stands: &[IdleState]| Some(leaving.idle(stands, &self.lifetimes, unix_ms()));
            self.commit(&[of], plan).await.is_ok().then_some(of)
        });
        let idle = idle.buffer_unordered(SWEEPERS).filter_map(std::future::ready);
        let idle: HashSet<Expirable> = idle.collect().await;
        // the others wait for the next sweep
        let safe = dead.into_iter().filter(|page| page.lasting().iter().all(|of| idle.contains(of)));
        let swept = stream::iter(safe).map(async |page| {
            self.rows.delete(&page_key::page(page.page), Precondition::Rev(page.rev)).await.is_ok()
        });
        swept.buffer_unordered(SWEEPERS).filter(|swept| std::future::ready(*swept)).count().await
    }

    /// Marks what has been idle for long enough, so that nobody joins it any more. Whoever gets a row here removes
    /// what belongs to it, then calls [`Registry::remove_idle_row`]. Found again while it is not ended.
    pub async fn end_idle(&self) -> Vec<(IdleRow, u64)> {
        let mut ending = Vec::new();
        let due = self.view().due(unix_ms());
        for (row, rev) in due {
            let of = row.of();
            if self.view().has_pages(of) {
                // left by a page that had not heard of it, or seen before the end of its last page: put off, because
                // only a page that joins may delete it; what is ending has pages that are about to go
                if !row.ending {
                    let _ = self
                        .rows
                        .put(row.put_off(&self.lifetimes, unix_ms()).put(Precondition::Rev(rev)))
                        .await;
                }
            } else if row.ending {
                ending.push((row, rev));
            } else {
                let row = IdleRow { ending: true, ..row };
                match self.rows.put(row.put(Precondition::Rev(rev))).await {
                    Ok(rev) => ending.push((row, rev)),
                    // joined meanwhile, or it is found again
                    Err(WriteError::Conflict { .. }) => {}
                    Err(_) => break,
                }
            }
        }
        ending
    }

    /// Nothing is left of it: its row goes, which every node hears. `false`: somebody else was faster.
    pub async fn remove_idle_row(&self, row: &IdleRow, rev: u64) -> bool {
        self.rows.delete(&row.of().key(), Precondition::Rev(rev)).await.is_ok()
    }

    /// Marks everything that ends with a scope, as this node sees it: nobody joins it any more, and nodes that hear of
    /// it close its pages. How much that is.
    pub async fn end(&self, scope: &Scope) -> Result<usize, WriteError> {
        let below = self.view().expirable_below(scope);
        for row in &below {
            self.rows.put(row.put(Precondition::Any)).await?;
        }
        Ok(below.len())
    }

    /// Commits what `plan` makes of the idle rows, first as this node has seen them, then as they stand.
    async fn commit(
        &self,
        of: &[Expirable],
        plan: impl Fn(&[IdleState]) -> Option<Vec<BatchOp>>,
    ) -> Result<RowWrite, WriteError> {
        let mut stands = self.view().idle_states(of);
        if stands.iter().any(|stand| stand.ending) {
            // it may have ended since, and begun anew
            stands = self.latest(of).await.map_err(|Unavailable| WriteError::Down)?;
        }
        for _ in 0..ATTEMPTS {
            let batch = plan(&stands).ok_or(WriteError::Conflict { actual: None })?;
            let conflict = match self.write_all(batch).await {
                Err(conflict @ WriteError::Conflict { .. }) => conflict,
                outcome => return outcome,
            };
            let before = std::mem::take(&mut stands);
            stands = self.latest(of).await.map_err(|Unavailable| conflict)?;
            if stands == before {
                // it is the row of the page that is not as expected
                return Err(conflict);
            }
        }
        Err(WriteError::Conflict { actual: None })
    }

    async fn write_all(&self, mut batch: Vec<BatchOp>) -> Result<RowWrite, WriteError> {
        if batch.is_empty() {
            return Ok(RowWrite::Several);
        }
        match (batch.pop(), batch.is_empty()) {
            (Some(BatchOp::Put(put)), true) => self.rows.put(put).await.map(RowWrite::Row),
            (Some(BatchOp::Delete { key, expect }), true) => {
                self.rows.delete(&key, expect).await.map(|()| RowWrite::Several)
            }
            (last, _) => {
                batch.extend(last);
                self.rows.commit(batch).await.map(|_| RowWrite::Several)
            }
        }
    }

    async fn latest(&self, of: &[Expirable]) -> Result<Vec<IdleState>, Unavailable> {
        let mut stands = Vec::with_capacity(of.len());
        for &of in of {
            let entry = self.rows.get(&of.key(), Consistency::Latest).await?;
            let ending =
                entry.as_ref().and_then(|entry| IdleRow::decode(&entry.meta)).is_some_and(|row| row.ending);
            stands.push(IdleState { of, rev: entry.map(|entry| entry.rev), ending });
        }
        Ok(stands)
    }
}

/// What a write has told of its revision.
enum RowWrite {
    /// The row's.
    Row(u64),
    /// None of a single row.
    Several,
}
