//! The lease of one worker.
//!
//! Owns: the content of its row. Never: the rules of a lease (`lease`). A worker's id is new for every process, so no
//! other process competes for its slot.

use super::row::{RowLoad, WorkerId, WorkerRow};
use crate::engine::{Engine, Entry, Precondition, Unavailable};
use crate::id::Key;
use crate::lease::{Incompatible, Lease, LeaseContent, LeaseKeeper, LeaseKind, Proto};
use crate::subject::node_key;
use crate::timing::Timing;

/// The identity of this worker, and whether it may act.
pub type WorkerLease = Lease<WorkerId>;

impl WorkerLease {
    /// Returns this incarnation if it may accept work now.
    pub fn worker(&self) -> Option<WorkerId> {
        self.holder()
    }
}

/// The lease of a worker. A worker that has lapsed keeps its epoch while its row is still there, so that its work goes
/// on.
pub struct WorkerSlot {
    id: Key,
    row: WorkerRow,
    /// Measures what the worker does, at each write of its row.
    load: Option<Box<dyn Fn() -> RowLoad + Send + Sync>>,
}

/// Keeps the lease of a worker.
pub type WorkerLeaseKeeper = LeaseKeeper<WorkerSlot>;

/// Claims the row of a new worker and waits for the engine as long as necessary.
///
/// # Errors
///
/// [`Incompatible`] when a living process of the cluster has no wire version in common with this one.
pub async fn claim_worker(
    engine: &Engine,
    timing: Timing,
    id: Key,
    row: WorkerRow,
) -> Result<(WorkerLeaseKeeper, WorkerLease), Incompatible> {
    LeaseKeeper::claim(engine, timing, WorkerSlot { id, row, load: None }).await
}

impl WorkerLeaseKeeper {
    /// Writes into each row what the worker does then.
    #[must_use]
    pub fn measuring(mut self, load: impl Fn() -> RowLoad + Send + Sync + 'static) -> Self {
        self.kind_mut().load = Some(Box::new(load));
        self
    }
}

impl LeaseKind for WorkerSlot {
    type Slot = Key;
    type Holder = WorkerId;
    /// Whether the worker takes nothing new.
    type Note = bool;
    const RESUMES: bool = true;

    fn proto(&self) -> Proto {
        self.row.proto
    }

    fn key(&self, id: Key) -> String {
        node_key::worker(id)
    }

    fn holder(&self, id: Key, epoch: u64) -> WorkerId {
        WorkerId { id, epoch }
    }

    fn encode(&self, epoch: Option<u64>, offset_ms: Option<i64>) -> LeaseContent {
        let load = self.load.as_ref().map(|load| load());
        WorkerRow { epoch, offset_ms, load, ..self.row.clone() }.content()
    }

    async fn choose(&self, _: &[Entry], _: Option<Key>) -> Result<Option<(Key, Precondition)>, Unavailable> {
        Ok(Some((self.id, Precondition::Absent)))
    }

    fn set_note(&mut self, is_draining: bool) {
        self.row.draining = is_draining;
    }
}
