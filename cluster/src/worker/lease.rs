//! The lease of one worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::row::{WorkerId, WorkerRow};
use crate::clock;
use crate::engine::{Bucket, Consistency, Engine, Kv, OperationId, Precondition, Put, WriteError};
use crate::id::Key;
use crate::subject::node_key;
use crate::timing::Timing;

/// The identity of this worker, and whether it may act.
#[derive(Clone)]
pub struct WorkerLease {
    worker: watch::Receiver<Option<WorkerId>>,
    fenced_at_ms: Arc<AtomicU64>,
}

impl WorkerLease {
    /// Returns this incarnation if it may accept work now. Costs one clock read; the clock includes the time in which
    /// the machine is suspended.
    pub fn worker(&self) -> Option<WorkerId> {
        let now_ms = clock::boot().as_millis() as u64;
        (now_ms < self.fenced_at_ms.load(Ordering::Acquire)).then(|| *self.worker.borrow()).flatten()
    }
}

/// A valid claim of the row.
#[derive(Debug, Clone, Copy)]
struct HeldWorkerLease {
    epoch: u64,
    rev: u64,
}

/// Renews the lease of a worker.
pub struct WorkerLeaseKeeper {
    leases: Kv,
    timing: Timing,
    id: Key,
    row: WorkerRow,
    held: Option<HeldWorkerLease>,
    worker: watch::Sender<Option<WorkerId>>,
    fenced_at_ms: Arc<AtomicU64>,
}

impl WorkerLeaseKeeper {
    /// Claims the row of a new worker and waits for the engine as long as necessary.
    pub async fn claim(engine: &Engine, timing: Timing, id: Key, row: WorkerRow) -> (Self, WorkerLease) {
        let (worker, changes) = watch::channel(None);
        let fenced_at_ms = Arc::new(AtomicU64::new(0));
        let lease = WorkerLease { worker: changes, fenced_at_ms: fenced_at_ms.clone() };
        let leases = engine.kv(Bucket::Nodes);
        let mut keeper = Self { leases, timing, id, row, held: None, worker, fenced_at_ms };
        while keeper.held.is_none() {
            keeper.renew().await;
            if keeper.held.is_none() {
                tokio::time::sleep(timing.lease_renew / 3).await;
            }
        }
        (keeper, lease)
    }

    /// Renews until `stop` resolves, then deletes the row. From `draining` on, the row marks the worker as draining, so
    /// that it gets no new work.
    pub async fn keep(mut self, mut draining: watch::Receiver<bool>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(self.timing.lease_renew) => {}
                Ok(_) = draining.wait_for(|draining| *draining), if !self.row.draining => {
                    self.row.draining = true;
                }
            }
            self.renew().await;
        }
        self.release().await;
    }

    /// Renews the lease. No other process writes the row, so an unexpected row was written by this process without a
    /// reply, or the row is gone.
    async fn renew(&mut self) {
        let (sent, key) = (clock::boot(), self.key());
        let put = Put {
            key: key.clone(),
            value: Bytes::new(),
            meta: WorkerRow { epoch: self.held.map(|held| held.epoch), ..self.row.clone() }.encode(),
            expect: self.held.map_or(Precondition::Absent, |held| Precondition::Rev(held.rev)),
            ttl: Some(self.timing.lease_ttl),
            op: OperationId::random(),
        };
        match self.leases.put(put).await {
            Ok(rev) => {
                self.hold(HeldWorkerLease { epoch: self.held.map_or(rev, |held| held.epoch), rev }, sent)
            }
            Err(WriteError::Conflict { .. } | WriteError::Unknown) => {
                let Ok(entry) = self.leases.get(&key, Consistency::Latest).await else { return };
                match entry.and_then(|entry| Some((entry.rev, WorkerRow::decode(&entry.meta)?))) {
                    // the row exists, but the time of the write is unknown: the fence is not moved before the next
                    // renewal
                    Some((rev, row)) => self.held = Some(HeldWorkerLease { epoch: row.epoch_at(rev), rev }),
                    None => {
                        tracing::warn!(worker = %self.id, "this worker's lease has lapsed; it claims a new one");
                        self.held = None;
                        self.fence();
                    }
                }
            }
            Err(WriteError::Down | WriteError::Invalid) => {}
        }
    }

    fn hold(&mut self, held: HeldWorkerLease, sent: Duration) {
        self.held = Some(held);
        let worker = Some(WorkerId { id: self.id, epoch: held.epoch });
        self.worker.send_if_modified(|current| std::mem::replace(current, worker) != worker);
        let fenced_at = sent + self.timing.lease_fence;
        self.fenced_at_ms.store(fenced_at.as_millis() as u64, Ordering::Release);
    }

    fn fence(&self) {
        self.fenced_at_ms.store(0, Ordering::Release);
        self.worker.send_replace(None);
    }

    async fn release(self) {
        let Some(held) = self.held else { return };
        self.fence();
        if let Err(error) = self.leases.delete(&self.key(), Precondition::Rev(held.rev)).await {
            tracing::debug!(%error, "lease not given back, it will expire");
        }
    }

    fn key(&self) -> String {
        node_key::worker(self.id)
    }
}
