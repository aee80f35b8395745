//! The quarantine of the pool of this worker, as it knows it.
//!
//! Owns: the copy of the row that is read again at each renewal of the lease, and the reports of this worker. Never: which
//! kinds are quarantined (`pagewire_cluster::job::Quarantine`).

use std::sync::{Arc, PoisonError, RwLock};

use pagewire_cluster::clock::unix_ms;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::job::{ExecutorDeath, Jobs, KindEvent, Quarantine, Quarantines};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::HandlerError;

/// The quarantine of one pool.
pub struct PoolQuarantine {
    rows: Quarantines,
    timing: Timing,
    pool: String,
    release: String,
    known: RwLock<Quarantine>,
}

impl PoolQuarantine {
    pub(crate) fn new(jobs: &Jobs, pool: &str, release: &str) -> Arc<Self> {
        Arc::new(Self {
            rows: Quarantines::new(&jobs.engine),
            timing: jobs.timing,
            pool: pool.to_owned(),
            release: release.to_owned(),
            known: RwLock::default(),
        })
    }

    /// Reads the row again and again. Never returns.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            self.read().await;
            tokio::time::sleep(self.timing.lease_renew).await;
        }
    }

    async fn read(&self) {
        match self.rows.of(&self.pool).await {
            Ok(now) => *self.known.write().unwrap_or_else(PoisonError::into_inner) = now,
            Err(Unavailable) => {
                tracing::debug!(pool = self.pool, "the quarantine of the pool cannot be read now")
            }
        }
    }

    /// Returns whether work of this kind has to run in an executor of its own, because an executor died under it.
    pub fn is_suspect(&self, kind: &str) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).is_suspect(kind)
    }

    /// Returns the error of work whose kind is quarantined.
    pub fn refusal(&self, kind: &str) -> Option<HandlerError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let deaths = known.refused(kind)?.deaths;
        let message = format!("{kind} is quarantined: {deaths} executors died while they ran nothing else");
        Some(HandlerError::new(ErrorCode::Quarantined, message))
    }

    /// Reports that an executor died while it ran this kind.
    pub(crate) async fn died(&self, kind: &str, alone: bool, log: String) {
        let at = unix_ms();
        let death = ExecutorDeath { alone, log, release: self.release.clone(), at };
        self.report(kind, &KindEvent::Died(death)).await;
        if let Some(refusal) = self.refusal(kind) {
            tracing::error!(pool = self.pool, kind, "{}", refusal.message);
        }
    }

    /// Reports that work of a suspected kind has ended in an executor of its own.
    pub(crate) async fn survived(&self, kind: &str) {
        self.report(kind, &KindEvent::Survived).await;
    }

    async fn report(&self, kind: &str, event: &KindEvent) {
        match self.rows.apply(&self.pool, kind, event).await {
            Ok(_) => self.read().await,
            Err(Unavailable) => {
                tracing::warn!(pool = self.pool, kind, ?event, "not recorded in the quarantine")
            }
        }
    }
}
