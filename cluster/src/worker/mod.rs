//! Workers: processes that run handlers for other processes.
//!
//! Owns: the lease rows of workers, and this process's view of the living ones ([`Workers`]). Never: their work (`job`),
//! or the rules of a lease (`lease`).

mod availability;
mod candidates;
mod directory;
mod exec_mode;
mod lease;
mod row;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

pub use availability::{Affinity, Discovery, ListedWorker, WorkerType};
pub use candidates::{NoCandidate, PARTITIONS, partition};
pub use directory::{WorkerDirectory, WorkerGroup};
pub use exec_mode::{ExecMode, UnknownExecMode};
pub use lease::{WorkerLease, WorkerLeaseKeeper, WorkerSlot, claim_worker};
pub use row::{RowLoad, WorkerId, WorkerRow};

use crate::engine::{
    Bucket, Consistency, Engine, Kv, Message, Precondition, Put, Unavailable, WatchEvent, WatchMode,
    WriteError,
};
use crate::id::Key;
use crate::lease::evict_silent;
use crate::subject::{Subjects, cluster_key, node_key, worker_leaf};
use crate::timing::Timing;

/// The living workers, as this process sees them. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    engine: Engine,
    rows: Kv,
    facts: Kv,
    subjects: Subjects,
    timing: Timing,
    roster: Arc<RwLock<WorkerDirectory>>,
    changes: watch::Sender<u64>,
}

impl Workers {
    /// Creates an empty view; [`Workers::follow`] fills it.
    pub fn new(engine: &Engine, subjects: &Subjects, timing: Timing) -> Self {
        Self {
            engine: engine.clone(),
            rows: engine.kv(Bucket::Nodes),
            facts: engine.kv(Bucket::Cluster),
            subjects: subjects.clone(),
            timing,
            roster: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Sets how the workers of the cluster are found.
    #[must_use]
    pub fn found_by(self, discovery: Discovery) -> Self {
        Self { roster: Arc::new(RwLock::new(WorkerDirectory::new(discovery))), ..self }
    }

    /// Returns the current view under a read lock. Hold the lock only for a short time.
    pub fn roster(&self) -> RwLockReadGuard<'_, WorkerDirectory> {
        self.roster.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a lane of a pool has a living worker.
    pub fn serve(&self, pool: &str, lane: &str) -> bool {
        self.roster().serves(&WorkerGroup::new(pool, lane))
    }

    /// Returns a counter of leases that were added or removed; renewals do not count.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Starts the watch and returns when the view shows every row that existed. The returned future keeps the view
    /// current; it ends only when the engine is gone.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn follow(&self) -> Result<impl Future<Output = ()> + use<>, Unavailable> {
        let mut watch = self.rows.watch(node_key::WORKERS, WatchMode::Value).await?;
        while !self.apply(watch.next().await.ok_or(Unavailable)?) {}
        let this = self.clone();
        Ok(async move {
            while let Some(event) = watch.next().await {
                this.apply(event);
            }
        })
    }

    /// Applies an event to the view. Returns `true` for [`WatchEvent::Live`].
    fn apply(&self, event: WatchEvent) -> bool {
        let mut roster = self.roster.write().unwrap_or_else(PoisonError::into_inner);
        let changed = match event {
            WatchEvent::Live => return true,
            WatchEvent::Put(entry) => match (id_of(&entry.key), WorkerRow::of(&entry)) {
                (Some(id), Some(row)) => {
                    let known = roster.row(id).map(|known| known.draining) == Some(row.draining);
                    let is_current = roster.is_current(WorkerId { id, epoch: row.epoch_at(entry.rev) });
                    roster.put(id, entry.rev, row);
                    !(known && is_current)
                }
                _ => {
                    tracing::warn!(key = entry.key, "worker row of an unknown shape ignored");
                    false
                }
            },
            WatchEvent::Delete { key, .. } => id_of(&key).inspect(|id| roster.remove(*id)).is_some(),
        };
        drop(roster);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
        false
    }

    /// Records a pool of a worker: from then on the pool is known, even when it has no worker.
    pub async fn register_pool(&self, pool: &str) -> Result<(), Unavailable> {
        match self.facts.put(Put::new(cluster_key::pool(pool), "", Precondition::Absent)).await {
            Ok(_) | Err(WriteError::Conflict { .. }) => Ok(()),
            Err(_) => Err(Unavailable),
        }
    }

    /// Returns whether a pool has, or has ever had, a worker.
    pub async fn has_pool(&self, pool: &str) -> Result<bool, Unavailable> {
        if self.roster().pools().any(|known| known == pool) {
            return Ok(true);
        }
        Ok(self.facts.get(&cluster_key::pool(pool), Consistency::Any).await?.is_some())
    }

    /// Requests that a worker accepts no new work, finishes its work and exits. Returns whether the worker confirmed
    /// the request.
    pub async fn drain(&self, worker: Key) -> bool {
        let message = Message::new(self.subjects.worker(worker, worker_leaf::DRAIN), "");
        self.engine.request(message, self.timing.deliver).await.is_ok()
    }

    /// Resolves when that incarnation of a worker is no longer in the view.
    pub async fn left(&self, worker: WorkerId) {
        // an error means that the view is no longer updated
        let _ = self.changes().wait_for(|_| !self.roster().is_current(worker)).await;
    }

    /// Returns whether that incarnation of a worker holds its lease, read from the latest row, because the view may
    /// lag.
    pub async fn is_alive(&self, worker: WorkerId) -> Result<bool, Unavailable> {
        if self.roster().is_current(worker) {
            return Ok(true);
        }
        let key = node_key::worker(worker.id);
        let entry = self.rows.get(&key, Consistency::Latest).await?;
        let epoch = entry.and_then(|entry| Some(WorkerRow::of(&entry)?.epoch_at(entry.rev)));
        Ok(epoch == Some(worker.epoch))
    }

    /// Deletes the lease of a worker when its process is gone: its subject had no responder three times within
    /// `Timing::death_confirmation`. A living worker renews its lease, so the delete at the revision that was read
    /// fails.
    ///
    /// Returns whether that incarnation is dead, evicted by this call or by another process.
    pub async fn evict_dead(&self, worker: WorkerId) -> Result<bool, Unavailable> {
        let key = node_key::worker(worker.id);
        let Some(entry) = self.rows.get(&key, Consistency::Latest).await? else { return Ok(true) };
        let epoch = WorkerRow::of(&entry).map(|row| row.epoch_at(entry.rev));
        if epoch != Some(worker.epoch) {
            return Ok(true);
        }
        let alive = self.subjects.worker(worker.id, worker_leaf::ALIVE);
        evict_silent(&self.engine, self.timing, &alive, &key, entry.rev).await
    }

    /// Returns whether that incarnation of a worker lives. One that holds its lease without a responder is confirmed dead
    /// at once, because users and pages wait for what it has.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when its lease cannot be read now.
    pub async fn lives(&self, worker: WorkerId) -> Result<bool, Unavailable> {
        // one whose death cannot be confirmed now still has its lease
        Ok(self.is_alive(worker).await? && self.evict_dead(worker).await != Ok(true))
    }
}

fn id_of(key: &str) -> Option<Key> {
    key.strip_prefix(node_key::WORKERS)?.rsplit('.').next()?.parse().ok()
}
