//! The watch that feeds the open jobs of a worker.
//!
//! Owns: the watch on the rows of the partitions that a worker owns, and its replacement when they change. Never: the
//! jobs themselves (`open_jobs`).

use std::collections::BTreeSet;

use pagewire_cluster::engine::{Entry, Kv, Unavailable, Watch, WatchEvent, WatchMode};
use pagewire_cluster::subject::job_key;
use pagewire_cluster::worker::PARTITIONS;

/// An event of the open rows.
#[derive(Debug)]
pub(crate) enum OpenEvent {
    /// A row exists.
    Put(Entry),
    /// A row was deleted.
    Deleted(String),
    /// Every row that existed was yielded. Jobs in rows that were not yielded since the partitions changed are gone or
    /// are not this worker's.
    Complete,
    /// The engine is gone.
    Ended,
}

/// The rows of the open jobs of some partitions.
pub(crate) struct OpenWatch {
    store: Kv,
    pool: String,
    partitions: BTreeSet<u8>,
    /// `None` without partitions.
    watch: Option<Watch>,
}

impl OpenWatch {
    /// Prepares a watch of no partition.
    pub(crate) fn new(store: &Kv, pool: &str) -> Self {
        Self { store: store.clone(), pool: pool.to_owned(), partitions: BTreeSet::new(), watch: None }
    }

    /// Watches these partitions from now on. All their rows come again, then [`OpenEvent::Complete`]. Returns whether
    /// they are other partitions than before.
    pub(crate) async fn select(&mut self, partitions: BTreeSet<u8>) -> Result<bool, Unavailable> {
        if partitions == self.partitions {
            return Ok(false);
        }
        let prefixes = match partitions.len() {
            all if all == usize::from(PARTITIONS) => vec![job_key::open(&self.pool)],
            _ => partitions.iter().map(|partition| job_key::open_in(&self.pool, *partition)).collect(),
        };
        // before the next one: the watches of a process are limited
        (self.watch, self.partitions) = (None, BTreeSet::new());
        if !prefixes.is_empty() {
            self.watch = Some(self.store.watch_several(prefixes, WatchMode::Meta).await?);
        }
        self.partitions = partitions;
        Ok(true)
    }

    /// Returns the next event; never, without partitions.
    pub(crate) async fn next(&mut self) -> OpenEvent {
        let Some(watch) = &mut self.watch else { return std::future::pending().await };
        match watch.next().await {
            Some(WatchEvent::Put(entry)) => OpenEvent::Put(entry),
            Some(WatchEvent::Delete { key, .. }) => OpenEvent::Deleted(key),
            Some(WatchEvent::Live) => OpenEvent::Complete,
            None => OpenEvent::Ended,
        }
    }
}
