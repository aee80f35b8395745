//! The buckets of one process.
//!
//! Owns: the lock around each bucket, its watches, and the task that lets rows expire on time. Never: what a
//! write means (`rows`).

use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::rows::{Moment, Rows, is_below};
use crate::engine::{
    Batch, Bucket, Entry, Expect, MAX_WATCHES, Put, Watch, WatchEvent, WatchMode, Watcher, WriteError,
};

struct Watching {
    bucket: Bucket,
    prefix: String,
    mode: WatchMode,
    watcher: Watcher,
}

impl Watching {
    fn tell(&self, event: WatchEvent) {
        let event = match event {
            WatchEvent::Put(entry) if self.mode == WatchMode::Meta => {
                WatchEvent::Put(Entry { value: Bytes::new(), ..entry })
            }
            event => event,
        };
        // a dropped watch is forgotten when the next one starts
        let _ = self.watcher.send(event);
    }
}

struct Shared {
    zero: Instant,
    buckets: [Mutex<Rows>; Bucket::ALL.len()],
    /// Locked only by who holds a bucket or nothing.
    watches: Mutex<Vec<Watching>>,
    expiry: Arc<Notify>,
    expiring: Once,
}

#[derive(Clone)]
pub(in crate::engine) struct Buckets(Arc<Shared>);

impl Default for Buckets {
    fn default() -> Self {
        Self(Arc::new(Shared {
            zero: Instant::now(),
            buckets: Default::default(),
            watches: Mutex::default(),
            expiry: Arc::default(),
            expiring: Once::new(),
        }))
    }
}

impl Buckets {
    pub(in crate::engine) fn get(&self, bucket: Bucket, key: &str) -> Option<Entry> {
        self.0.open(bucket).get(key)
    }

    pub(in crate::engine) fn list(&self, bucket: Bucket, prefix: &str) -> Vec<Entry> {
        self.0.open(bucket).list(prefix)
    }

    pub(in crate::engine) fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Vec<Entry> {
        self.0.open(bucket).scan(prefix, after_rev, limit)
    }

    pub(in crate::engine) fn put(&self, bucket: Bucket, put: Put) -> Result<u64, WriteError> {
        let mut rows = self.0.open(bucket);
        let next = rows.next_expiry();
        let (rev, event) = rows.put(put, self.0.now())?;
        self.0.tell(bucket, [event]);
        self.wake(&rows, next);
        Ok(rev)
    }

    pub(in crate::engine) fn delete(
        &self,
        bucket: Bucket,
        key: &str,
        expect: Expect,
    ) -> Result<(), WriteError> {
        let mut rows = self.0.open(bucket);
        let event = rows.delete(key, expect)?;
        self.0.tell(bucket, event);
        Ok(())
    }

    pub(in crate::engine) fn commit(&self, bucket: Bucket, batch: Vec<Batch>) -> Result<u64, WriteError> {
        let mut rows = self.0.open(bucket);
        let next = rows.next_expiry();
        let (rev, events) = rows.commit(batch, self.0.now())?;
        self.0.tell(bucket, events);
        self.wake(&rows, next);
        Ok(rev)
    }

    /// The snapshot and the registration happen under one lock, so nothing lies between them.
    ///
    /// # Panics
    ///
    /// With more than [`MAX_WATCHES`]: a watch per user is a design fault.
    pub(in crate::engine) fn watch(&self, bucket: Bucket, prefix: &str, mode: WatchMode) -> Watch {
        let (watcher, events) = mpsc::unbounded_channel();
        let watching = Watching { bucket, prefix: prefix.to_owned(), mode, watcher };
        let rows = self.0.open(bucket);
        for entry in rows.list(prefix) {
            watching.tell(WatchEvent::Put(entry));
        }
        watching.tell(WatchEvent::Live);
        let mut watches = self.0.watches();
        watches.retain(|watching| !watching.watcher.is_closed());
        assert!(watches.len() < MAX_WATCHES, "a process has at most {MAX_WATCHES} watches");
        watches.push(watching);
        Watch { events }
    }

    /// Expiry needs its task from the first row with a TTL on, and has to be told of an earlier one.
    fn wake(&self, rows: &Rows, before: Option<Moment>) {
        let earlier = rows.next_expiry().is_some_and(|next| before.is_none_or(|before| next < before));
        if earlier {
            self.0.expiring.call_once(|| drop(tokio::spawn(expire(Arc::downgrade(&self.0)))));
            self.0.expiry.notify_one();
        }
    }
}

impl Shared {
    fn now(&self) -> Moment {
        self.zero.elapsed()
    }

    /// The rows as they stand now. A poisoned lock is still usable: every step leaves the rows consistent.
    fn open(&self, bucket: Bucket) -> MutexGuard<'_, Rows> {
        let mut rows = self.buckets[bucket as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let events = rows.expire(self.now());
        self.tell(bucket, events);
        rows
    }

    fn watches(&self) -> MutexGuard<'_, Vec<Watching>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the bucket locked, so that watches see changes in the order of their revisions.
    fn tell(&self, bucket: Bucket, events: impl IntoIterator<Item = WatchEvent>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_none() {
            return;
        }
        let watches = self.watches();
        for event in events {
            let key = match &event {
                WatchEvent::Put(entry) => &entry.key,
                WatchEvent::Delete { key, .. } => key,
                WatchEvent::Live => continue,
            };
            let listens = |watching: &&Watching| watching.bucket == bucket && is_below(key, &watching.prefix);
            for watching in watches.iter().filter(listens) {
                watching.tell(event.clone());
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.expiry.notify_one();
    }
}

/// Lets rows expire on time, so that watches see it, until the engine is gone.
async fn expire(engine: Weak<Shared>) {
    while let Some(shared) = engine.upgrade() {
        let next = Bucket::ALL.iter().filter_map(|bucket| shared.open(*bucket).next_expiry()).min();
        let wait = next.map_or(Duration::MAX, |next| next.saturating_sub(shared.now()));
        let changed = shared.expiry.clone();
        // the task must not keep the engine alive
        drop(shared);
        let _ = timeout(wait, changed.notified()).await;
    }
}
