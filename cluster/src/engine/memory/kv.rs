//! The buckets of one process.
//!
//! Owns: the lock around each bucket, its watches, and the task that lets rows expire on time. Never: what a
//! write means (`rows`), and what is kept (`disk`).

use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::disk::{Change, Disk, KeptRow, Place, Step, wall};
use super::rows::{Moment, Rows, is_below};
use crate::engine::{
    Batch, Bucket, Entry, Expect, MAX_WATCHES, Put, Watch, WatchEvent, WatchMode, Watcher, WriteError,
};

struct Watching {
    bucket: Bucket,
    prefix: String,
    mode: WatchMode,
    watcher: Watcher,
    process: Arc<()>,
}

impl Watching {
    /// An event as this watch sees it.
    fn sees(&self, event: WatchEvent) -> WatchEvent {
        match event {
            WatchEvent::Put(entry) if self.mode == WatchMode::Meta => {
                WatchEvent::Put(Entry { value: Bytes::new(), ..entry })
            }
            event => event,
        }
    }

    fn listens(&self, bucket: Bucket, event: &WatchEvent) -> bool {
        let key = match event {
            WatchEvent::Put(entry) => &entry.key,
            WatchEvent::Delete { key, .. } => key,
            WatchEvent::Live => return false,
        };
        self.bucket == bucket && is_below(key, &self.prefix)
    }

    fn tell(&self, event: WatchEvent) {
        // a dropped watch is forgotten when the next one starts
        let _ = self.watcher.send(self.sees(event));
    }
}

struct Shared {
    zero: Instant,
    buckets: [Mutex<Rows>; Bucket::ALL.len()],
    /// Locked only by who holds a bucket or nothing.
    watches: Mutex<Vec<Watching>>,
    expiry: Arc<Notify>,
    expiring: Once,
    disk: Option<Disk>,
}

/// The buckets, and which process looks at them: each has its own watches.
#[derive(Clone)]
pub(in crate::engine) struct Buckets(Arc<Shared>, Arc<()>);

impl Default for Buckets {
    fn default() -> Self {
        Self::holding(Default::default(), None)
    }
}

impl Buckets {
    fn holding(buckets: [Mutex<Rows>; Bucket::ALL.len()], disk: Option<Disk>) -> Self {
        let shared = Shared {
            zero: Instant::now(),
            buckets,
            watches: Mutex::default(),
            expiry: Arc::default(),
            expiring: Once::new(),
            disk,
        };
        Self(Arc::new(shared), Arc::default())
    }

    /// The same as another process sees them.
    pub(super) fn another_process(&self) -> Self {
        Self(self.0.clone(), Arc::default())
    }

    /// What was kept stands again, at its revisions; what comes is kept.
    pub(super) fn restore(revisions: [u64; Bucket::ALL.len()], kept: Vec<KeptRow>, disk: Disk) -> Self {
        let mut buckets = revisions.map(Rows::at);
        let now = wall();
        for KeptRow { bucket, entry, expires } in kept {
            let expires = expires.map(|at| Duration::from_millis(at.saturating_sub(now)));
            buckets[bucket as usize].restore(entry, expires);
        }
        let restored = Self::holding(buckets.map(Mutex::new), Some(disk));
        for bucket in Bucket::ALL {
            restored.wake(&restored.0.open(bucket), None);
        }
        restored
    }

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
        self.0.tell(bucket, &rows, [event]);
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
        self.0.tell(bucket, &rows, event);
        Ok(())
    }

    pub(in crate::engine) fn commit(&self, bucket: Bucket, batch: Vec<Batch>) -> Result<u64, WriteError> {
        let mut rows = self.0.open(bucket);
        let next = rows.next_expiry();
        let (rev, events) = rows.commit(batch, self.0.now())?;
        self.0.tell(bucket, &rows, events);
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
        let process = self.1.clone();
        let watching = Watching { bucket, prefix: prefix.to_owned(), mode, watcher, process };
        let rows = self.0.open(bucket);
        let snapshot = rows.list(prefix).into_iter().map(WatchEvent::Put).chain([WatchEvent::Live]);
        match &self.0.disk {
            None => snapshot.for_each(|event| watching.tell(event)),
            Some(disk) => {
                let notices =
                    snapshot.map(|event| (watching.watcher.clone(), watching.sees(event))).collect();
                let place = Place::Bucket(bucket);
                disk.append(Step { place, mark: rows.revision(), changes: Vec::new(), notices });
            }
        }
        let mut watches = self.0.watches();
        watches.retain(|watching| !watching.watcher.is_closed());
        let own = watches.iter().filter(|watching| Arc::ptr_eq(&watching.process, &self.1)).count();
        assert!(own < MAX_WATCHES, "a process has at most {MAX_WATCHES} watches");
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
        self.tell(bucket, &rows, events);
        rows
    }

    fn watches(&self) -> MutexGuard<'_, Vec<Watching>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the bucket locked, so that watches see changes in the order of their revisions. With a disk they
    /// see them when they are on it.
    fn tell(&self, bucket: Bucket, rows: &Rows, events: impl IntoIterator<Item = WatchEvent>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_none() {
            return;
        }
        let watches = self.watches();
        let Some(disk) = &self.disk else {
            for event in events {
                for watching in watches.iter().filter(|watching| watching.listens(bucket, &event)) {
                    watching.tell(event.clone());
                }
            }
            return;
        };
        let (mut changes, mut notices) = (Vec::new(), Vec::new());
        for event in events {
            let hearing = watches.iter().filter(|watching| watching.listens(bucket, &event));
            notices.extend(hearing.map(|w| (w.watcher.clone(), w.sees(event.clone()))));
            changes.extend(self.change(rows, event));
        }
        disk.append(Step { place: Place::Bucket(bucket), mark: rows.revision(), changes, notices });
    }

    /// What an event is on disk, where time is the wall clock's.
    fn change(&self, rows: &Rows, event: WatchEvent) -> Option<Change> {
        match event {
            WatchEvent::Put(entry) => {
                let left = rows.expires(&entry.key).map(|at| at.saturating_sub(self.now()));
                let expires = left.map(|left| wall().saturating_add(left.as_millis() as u64));
                Some(Change::Put { entry, expires })
            }
            WatchEvent::Delete { key, .. } => Some(Change::Delete { key }),
            WatchEvent::Live => None,
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
