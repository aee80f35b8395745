//! Which lane a user's work goes to, and how that changes: a canary by weight.
//!
//! Owns: the document of each pool (`rollout.<pool>` in the bucket `config`), its history, the function from user to
//! lane (contract of `tests/golden/lanes.json`), and the proof that every node has applied a change. Never: who runs
//! the work of a lane, and never a draw: a user's lane is the same everywhere, for as long as the weights stand.
//!
//! One watch per process keeps the documents. A node says which revision it has applied when it is asked on its own
//! subject, and the question may wait for a revision: the answer is of this life of the node, nothing is written or
//! left behind, and whoever asks measures a change with its own clock.

mod change;
mod document;
mod lane;
mod split;
mod spread;
#[cfg(test)]
mod tests;
mod weight;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

pub use change::{ChangeError, Changed};
pub use document::{BASE, Document, Fallback, Invalid, Lane, Wanted, is_name, reweigh};
pub use lane::{Unit, bucket};
pub use split::{Assigned, Reason};
pub use spread::Spread;
pub use weight::{BUCKETS, InvalidWeight, Weight};

use crate::delivery::Post;
use crate::engine::{Bucket, Down, Engine, Kv, WatchEvent, WatchMode};
use crate::subject::config_key;
use crate::wire::RolloutState;
use split::{Counts, Split, decide};

/// The rollouts of all pools, as this process has applied them. Cheap to clone.
#[derive(Clone)]
pub struct Rollouts {
    store: Kv,
    post: Post,
    /// How long a question for a revision waits for it here.
    patience: Duration,
    splits: Arc<RwLock<HashMap<String, Arc<Split>>>>,
    counts: Arc<Counts>,
    applied: watch::Sender<u64>,
    measured: spread::Measured,
}

impl Rollouts {
    /// Nothing applied; call [`Rollouts::follow`]. `within` is what `post` waits for an answer.
    pub fn new(engine: &Engine, post: Post, within: Duration) -> Self {
        Self {
            store: engine.kv(Bucket::Config),
            post,
            // half of it, so that a node that lags can still say so
            patience: within / 2,
            splits: Arc::default(),
            counts: Arc::default(),
            applied: watch::Sender::new(0),
            measured: spread::Measured::default(),
        }
    }

    /// Starts the watch and returns when every document that stood is applied. The returned future applies changes;
    /// it ends only when the engine is gone.
    pub async fn follow(&self) -> Result<impl Future<Output = ()> + use<>, Down> {
        let mut watch = self.store.watch(config_key::ROLLOUTS, WatchMode::Value).await?;
        while !self.apply(watch.next().await.ok_or(Down)?) {}
        let this = self.clone();
        Ok(async move {
            while let Some(event) = watch.next().await {
                this.apply(event);
            }
        })
    }

    /// `true` for [`WatchEvent::Live`].
    fn apply(&self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Live => return true,
            WatchEvent::Put(entry) => match Document::decode(&entry.value) {
                Some(document) => self.install(document),
                None => tracing::error!(key = entry.key, "rollout of an unknown shape not applied"),
            },
            WatchEvent::Delete { key, .. } => {
                self.write(|splits| splits.retain(|pool, _| config_key::rollout(pool) != key));
            }
        }
        false
    }

    fn install(&self, document: Document) {
        // the same document again, after a reconnect: what it has counted stays
        if self.split(&document.pool).is_some_and(|split| split.document == document) {
            return;
        }
        tracing::info!(pool = document.pool, revision = document.rev, "rollout applied");
        let split = Arc::new(Split::new(document, &self.counts));
        self.write(|splits| {
            splits.insert(split.document.pool.clone(), split);
        });
    }

    fn write(&self, change: impl FnOnce(&mut HashMap<String, Arc<Split>>)) {
        change(&mut self.splits.write().unwrap_or_else(PoisonError::into_inner));
        self.applied.send_modify(|count| *count += 1);
    }

    fn split(&self, pool: &str) -> Option<Arc<Split>> {
        self.splits.read().unwrap_or_else(PoisonError::into_inner).get(pool).cloned()
    }

    /// The lane for work of a user or connection: the single entry point of calls and jobs. `serves` says whether a
    /// lane of that pool has a living worker. Counted, except in pools without a document: their names are whatever
    /// a client writes.
    pub fn lane_for(&self, pool: &str, unit: Unit<'_>, serves: impl FnOnce(&str) -> bool) -> Assigned {
        match self.split(pool) {
            Some(split) => split.assign(unit, serves),
            None => decide(&Document::unwritten(pool), unit, serves).0,
        }
    }

    /// The same, only asked: nothing is counted.
    pub fn explain(&self, pool: &str, unit: Unit<'_>, serves: impl FnOnce(&str) -> bool) -> Assigned {
        match self.split(pool) {
            Some(split) => decide(&split.document, unit, serves).0,
            None => decide(&Document::unwritten(pool), unit, serves).0,
        }
    }

    /// Whether this process has applied a document of the pool.
    pub fn knows(&self, pool: &str) -> bool {
        self.split(pool).is_some()
    }

    /// The documents that this process has applied, by pool.
    pub fn documents(&self) -> Vec<Document> {
        let splits = self.splits.read().unwrap_or_else(PoisonError::into_inner);
        let mut documents: Vec<_> = splits.values().map(|split| split.document.clone()).collect();
        documents.sort_by(|a, b| a.pool.cmp(&b.pool));
        documents
    }

    /// Pool, lane and reason of what this process has assigned since it started, and how often.
    pub fn assignments(&self) -> Vec<(String, String, Reason, u64)> {
        self.counts.list()
    }

    /// What this process has applied of a pool, as soon as that is the revision or a later one; what it has anyway
    /// when that takes too long.
    pub async fn state(&self, pool: &str, revision: u64) -> RolloutState {
        let mut applied = self.applied.subscribe();
        let revised = applied.wait_for(|_| self.revision(pool) >= revision);
        // late: the state says so
        let _ = tokio::time::timeout(self.patience, revised).await;
        let split = self.split(pool);
        RolloutState {
            revision: split.as_ref().map_or(0, |split| split.document.rev),
            observed: split.map(|split| split.observed()).unwrap_or_default(),
            took_us: self.measured.of(pool, self.revision(pool)),
        }
    }

    fn revision(&self, pool: &str) -> u64 {
        self.split(pool).map_or(0, |split| split.document.rev)
    }
}
