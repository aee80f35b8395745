//! The documents that this process applies, the latches that it holds, and what it knows of users.
//!
//! Owns: all under one lock, so that no document is applied without the latches that are valid for it. Never: where they come
//! from.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use super::active::{ActiveRollout, AssignmentCounts};
use super::admission::{AdmissionTable, AdmittedUsers, PoolAdmissions, admitted};
use super::admission_writer::AdmissionQueue;
use super::enrolment::{Enrolment, EnrolmentTable};
use super::enrolment_rules::EnrolmentMode;
use super::entered_users::EnteredUsers;
use super::lane::RoutingKey;
use super::latch::{ClosedLanes, HeldLatch, Holding, LatchSet};
use super::spec::RolloutSpec;
use super::waiting::is_open;
use crate::engine::Entry;
use crate::subject::config_key;
use crate::wire::{AbortLatch, SignedLatch};

/// The documents and latches of one process.
#[derive(Debug, Default)]
pub(super) struct AppliedRollouts {
    table: RwLock<SplitTable>,
    pub(super) counts: AssignmentCounts,
    /// A counter of applied changes.
    pub(super) changes: watch::Sender<u64>,
    /// A counter of those that are of documents or latches: there are far fewer of them than of rows of users.
    pub(super) document_changes: watch::Sender<u64>,
    pub(super) entered: EnteredUsers,
    pub(super) asking: AdmissionQueue,
    /// Messages of latches that were not genuine.
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct SplitTable {
    splits: HashMap<String, Arc<ActiveRollout>>,
    latches: LatchSet,
    enrolled: EnrolmentTable,
    admitted: AdmissionTable,
}

impl AppliedRollouts {
    /// Applies a document.
    pub(super) fn install(&self, document: RolloutSpec) {
        self.write_documents(|table| {
            // after a reconnect the same document arrives again; keep its counts
            if table.splits.get(&document.pool).is_some_and(|split| split.document == document) {
                return false;
            }
            tracing::info!(pool = document.pool, revision = document.rev, "rollout applied");
            table.latches.apply(&document);
            let closed = table.latches.closed(&document);
            let split = ActiveRollout::new(document, &self.counts).closing(closed, &self.counts);
            table.splits.insert(split.document.pool.clone(), Arc::new(split));
            true
        });
    }

    /// Takes the document with that key away.
    pub(super) fn remove(&self, key: &str) {
        self.write_documents(|table| {
            let gone: Vec<String> =
                table.splits.keys().filter(|pool| config_key::rollout(pool) == key).cloned().collect();
            for pool in &gone {
                table.splits.remove(pool);
                table.latches.drop_pool(pool);
            }
            !gone.is_empty()
        });
    }

    /// Applies a genuine latch.
    pub(super) fn hold(&self, held: HeldLatch) -> Holding {
        let AbortLatch { pool, lane, revision, by, .. } = held.latch.clone();
        let mut holding = Holding::Foreign;
        self.write_documents(|table| {
            let split = table.splits.get(&pool).cloned();
            holding = table.latches.hold(held, split.as_ref().map(|split| &split.document));
            let Some(split) = split.filter(|_| holding == Holding::New) else { return false };
            let closed = table.latches.closed(&split.document);
            table.splits.insert(pool.clone(), Arc::new(split.closing(closed, &self.counts)));
            true
        });
        match holding {
            Holding::New => tracing::warn!(pool, lane, revision, by, "the lane is taken back at once"),
            Holding::Full => {
                tracing::error!(pool, lane, "too many aborts wait to be written: this one is not applied");
            }
            Holding::Known | Holding::Passed | Holding::Foreign => {}
        }
        holding
    }

    /// Whether the document of a pool gives a lane no work, by itself.
    pub(super) fn is_closed_by_document(&self, pool: &str, lane: &str) -> bool {
        self.split(pool).is_some_and(|split| !is_open(&split.document, &ClosedLanes::new(), lane))
    }

    /// Changes documents or latches. `change` returns whether something has changed.
    fn write_documents(&self, change: impl FnOnce(&mut SplitTable) -> bool) {
        if self.write(change) {
            self.document_changes.send_modify(|count| *count += 1);
        }
    }

    /// Changes the table. `change` returns whether something has changed, and so does this.
    fn write(&self, change: impl FnOnce(&mut SplitTable) -> bool) -> bool {
        let has_changed = change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner));
        if has_changed {
            self.changes.send_modify(|count| *count += 1);
        }
        has_changed
    }

    fn table(&self) -> RwLockReadGuard<'_, SplitTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn split(&self, pool: &str) -> Option<Arc<ActiveRollout>> {
        self.table().splits.get(pool).cloned()
    }

    /// Returns the documents, sorted by pool.
    pub(super) fn documents(&self) -> Vec<RolloutSpec> {
        let mut documents: Vec<_> =
            self.table().splits.values().map(|split| split.document.clone()).collect();
        documents.sort_by(|a, b| a.pool.cmp(&b.pool));
        documents
    }

    /// Returns the documents with their counts, in no order.
    pub(super) fn splits(&self) -> Vec<Arc<ActiveRollout>> {
        self.table().splits.values().cloned().collect()
    }

    /// Applies the row of a user.
    pub(super) fn enrol(&self, entry: &Entry) {
        self.write(|table| table.enrolled.put(entry));
    }

    /// Takes the row of a user, or of admitted users, with that key away.
    pub(super) fn unenrol(&self, key: &str) {
        self.write(|table| table.enrolled.delete(key) || table.admitted.delete(key));
    }

    /// Returns what is remembered of a unit.
    pub(super) fn enrolment(&self, pool: &str, unit: RoutingKey<'_>) -> Option<Arc<Enrolment>> {
        self.row(pool, unit).map(|(_, row)| row)
    }

    /// Returns the same with the revision of its entry.
    pub(super) fn row(&self, pool: &str, unit: RoutingKey<'_>) -> Option<(u64, Arc<Enrolment>)> {
        self.table().enrolled.find(pool, unit)
    }

    /// Returns rows of users that have no effect any more, with their revisions.
    pub(super) fn stale(&self, document: &RolloutSpec) -> Vec<(String, u64)> {
        self.table().enrolled.stale(document)
    }

    /// Whether a pool has as many rows of users as it may.
    pub(super) fn is_full(&self, pool: &str) -> bool {
        self.table().enrolled.is_full(pool)
    }

    /// Returns what is remembered of a unit, and who is admitted to the lanes of a pool.
    pub(super) fn known_of(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
    ) -> (Option<Arc<Enrolment>>, Option<Arc<PoolAdmissions>>) {
        let table = self.table();
        (table.enrolled.find(pool, unit).map(|(_, row)| row), table.admitted.of_pool(pool))
    }

    /// Applies the row of the admitted users of a lane.
    pub(super) fn admit(&self, entry: &Entry) {
        self.write(|table| table.admitted.put(entry));
    }

    /// Applies the row that is stored now, whatever is known here.
    pub(super) fn replace_admitted(&self, entry: &Entry) {
        self.write(|table| table.admitted.replace(entry));
    }

    /// Applies a row that this process has written.
    pub(super) fn set_admitted(&self, key: &str, rev: u64, row: AdmittedUsers) {
        self.write(|table| table.admitted.set(key.to_owned(), rev, row));
    }

    /// Returns the row of the admitted users of a lane, with the revision of its entry.
    pub(super) fn admitted(&self, pool: &str, lane: &str) -> Option<(u64, Arc<AdmittedUsers>)> {
        self.table().admitted.find(pool, lane)
    }

    /// Returns the users who stay in a lane; `None` for a lane whose users do not stay.
    pub(super) fn lane_users(&self, document: &RolloutSpec, lane: &str) -> Option<BTreeSet<String>> {
        let is_latched = document.enrolment.mode == EnrolmentMode::Latched;
        let start = document.enrolment.started.get(lane).filter(|_| is_latched)?;
        let table = self.table();
        let rows = table.admitted.of_pool(&document.pool);
        let row = rows.as_deref().and_then(|rows| admitted(rows, document, lane));
        let mut users: BTreeSet<_> = row.into_iter().flat_map(AdmittedUsers::users).cloned().collect();
        users.extend(table.enrolled.latched(&document.pool, lane, start.rev));
        Some(users)
    }

    /// Returns the latches.
    pub(super) fn latches(&self) -> Vec<HeldLatch> {
        self.table().latches.list()
    }

    /// Whether this very latch is held.
    pub(super) fn holds(&self, signed: &SignedLatch) -> bool {
        self.table().latches.holds(signed)
    }

    /// Counts a latch that is not genuine.
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many latches were not genuine.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
