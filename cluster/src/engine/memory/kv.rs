//! The buckets of one process.
//!
//! Owns: the lock of each bucket, its watches, and the task that lets rows expire on time. Never: the meaning
//! of a write (`rows`) or its storage (`disk`).

use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::disk::{Disk, JournalChange, JournalEntry, JournalStream, KeptRow};
use super::rows::{Moment, Rows, is_below};
use crate::clock;
use crate::engine::{
    BatchOp, Bucket, Entry, MAX_WATCHES, Precondition, Put, Watch, WatchEvent, WatchMode, WatchSender,
    WriteError,
};

struct ActiveWatch {
    bucket: Bucket,
    prefixes: Vec<String>,
    mode: WatchMode,
    watcher: WatchSender,
    process: Arc<()>,
}

impl ActiveWatch {
    /// Returns the event as this watch delivers it: without values in mode `Meta`.
    fn sees(&self, event: WatchEvent) -> WatchEvent {
        match event {
            WatchEvent::Put(entry) if self.mode == WatchMode::Meta => {
                WatchEvent::Put(Entry { value: Bytes::new(), ..entry })
            }
            event => event,
        }
    }

    fn matches(&self, bucket: Bucket, event: &WatchEvent) -> bool {
        let key = match event {
            WatchEvent::Put(entry) => &entry.key,
            WatchEvent::Delete { key, .. } => key,
            WatchEvent::Live => return false,
        };
        self.bucket == bucket && self.prefixes.iter().any(|prefix| is_below(key, prefix))
    }

    fn notify(&self, event: WatchEvent) {
        // the watch was dropped; it is removed when the next watch starts
        let _ = self.watcher.send(self.sees(event));
    }
}

struct SharedBuckets {
    zero: Instant,
    buckets: [Mutex<Rows>; Bucket::ALL.len()],
    /// Lock order: take this lock alone or while holding the lock of one bucket.
    watches: Mutex<Vec<ActiveWatch>>,
    expiry: Arc<Notify>,
    expiring: Once,
    disk: Option<Disk>,
}

/// The buckets as one process sees them: processes share the rows, and each has its own watches.
#[derive(Clone)]
pub(in crate::engine) struct Buckets(Arc<SharedBuckets>, Arc<()>);

impl Default for Buckets {
    fn default() -> Self {
        Self::holding(Default::default(), None)
    }
}

impl Buckets {
    fn holding(buckets: [Mutex<Rows>; Bucket::ALL.len()], disk: Option<Disk>) -> Self {
        let shared = SharedBuckets {
            zero: Instant::now(),
            buckets,
            watches: Mutex::default(),
            expiry: Arc::default(),
            expiring: Once::new(),
            disk,
        };
        Self(Arc::new(shared), Arc::default())
    }

    /// Returns the same buckets as another process sees them.
    #[cfg(feature = "simulation")]
    pub(super) fn new_process_handle(&self) -> Self {
        Self(self.0.clone(), Arc::default())
    }

    /// Restores the stored rows at their revisions. Later changes are stored on `disk`.
    pub(super) fn restore(revisions: [u64; Bucket::ALL.len()], kept: Vec<KeptRow>, disk: Disk) -> Self {
        let mut buckets = revisions.map(Rows::at);
        let now = clock::unix_ms();
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
        self.0.notify(bucket, &rows, [event]);
        self.wake(&rows, next);
        Ok(rev)
    }

    pub(in crate::engine) fn delete(
        &self,
        bucket: Bucket,
        key: &str,
        expect: Precondition,
    ) -> Result<(), WriteError> {
        let mut rows = self.0.open(bucket);
        let event = rows.delete(key, expect)?;
        self.0.notify(bucket, &rows, event);
        Ok(())
    }

    pub(in crate::engine) fn commit(&self, bucket: Bucket, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        let mut rows = self.0.open(bucket);
        let next = rows.next_expiry();
        let (rev, events) = rows.commit(batch, self.0.now())?;
        self.0.notify(bucket, &rows, events);
        self.wake(&rows, next);
        Ok(rev)
    }

    /// Starts a watch. The snapshot and the registration happen under one lock, so no change is missed
    /// between them.
    ///
    /// # Panics
    ///
    /// When the process has [`MAX_WATCHES`] watches already. A design that needs a watch per user is wrong.
    pub(in crate::engine) fn watch(&self, bucket: Bucket, prefixes: Vec<String>, mode: WatchMode) -> Watch {
        let (watcher, events) = mpsc::unbounded_channel();
        let process = self.1.clone();
        let watching = ActiveWatch { bucket, prefixes, mode, watcher, process };
        let rows = self.0.open(bucket);
        let standing = watching.prefixes.iter().flat_map(|prefix| rows.list(prefix));
        let snapshot = standing.map(WatchEvent::Put).chain([WatchEvent::Live]);
        match &self.0.disk {
            None => snapshot.for_each(|event| watching.notify(event)),
            Some(disk) => {
                let notifications =
                    snapshot.map(|event| (watching.watcher.clone(), watching.sees(event))).collect();
                let place = JournalStream::Bucket(bucket);
                disk.append(JournalEntry {
                    place,
                    mark: rows.revision(),
                    changes: Vec::new(),
                    notifications,
                });
            }
        }
        let mut watches = self.0.watches();
        watches.retain(|watching| !watching.watcher.is_closed());
        let own = watches.iter().filter(|watching| Arc::ptr_eq(&watching.process, &self.1)).count();
        assert!(own < MAX_WATCHES, "a process has at most {MAX_WATCHES} watches");
        watches.push(watching);
        Watch { events }
    }

    /// Starts the expiry task with the first row that has a TTL, and wakes it when a row expires earlier than
    /// the next known expiry.
    fn wake(&self, rows: &Rows, before: Option<Moment>) {
        let earlier = rows.next_expiry().is_some_and(|next| before.is_none_or(|before| next < before));
        if earlier {
            self.0.expiring.call_once(|| drop(tokio::spawn(expire(Arc::downgrade(&self.0)))));
            self.0.expiry.notify_one();
        }
    }
}

impl SharedBuckets {
    fn now(&self) -> Moment {
        self.zero.elapsed()
    }

    /// Locks a bucket and removes the rows that have expired. The rows are consistent after every step, so a
    /// poisoned lock is still usable.
    fn open(&self, bucket: Bucket) -> MutexGuard<'_, Rows> {
        let mut rows = self.buckets[bucket as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let events = rows.expire(self.now());
        self.notify(bucket, &rows, events);
        rows
    }

    fn watches(&self) -> MutexGuard<'_, Vec<ActiveWatch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers events to the watches. The caller holds the lock of the bucket, so watches see changes in the
    /// order of their revisions. With a disk, watches receive the events after they are on disk.
    fn notify(&self, bucket: Bucket, rows: &Rows, events: impl IntoIterator<Item = WatchEvent>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_none() {
            return;
        }
        let watches = self.watches();
        let Some(disk) = &self.disk else {
            for event in events {
                for watching in watches.iter().filter(|watching| watching.matches(bucket, &event)) {
                    watching.notify(event.clone());
                }
            }
            return;
        };
        let (mut changes, mut notifications) = (Vec::new(), Vec::new());
        for event in events {
            let matching = watches.iter().filter(|watching| watching.matches(bucket, &event));
            notifications.extend(matching.map(|w| (w.watcher.clone(), w.sees(event.clone()))));
            changes.extend(self.change(rows, event));
        }
        disk.append(JournalEntry {
            place: JournalStream::Bucket(bucket),
            mark: rows.revision(),
            changes,
            notifications,
        });
    }

    /// Converts an event to a change on disk, with its expiry as wall clock time.
    fn change(&self, rows: &Rows, event: WatchEvent) -> Option<JournalChange> {
        match event {
            WatchEvent::Put(entry) => {
                let left = rows.expires(&entry.key).map(|at| at.saturating_sub(self.now()));
                let expires = left.map(|left| clock::unix_ms().saturating_add(left.as_millis() as u64));
                Some(JournalChange::Put { entry, expires })
            }
            WatchEvent::Delete { key, .. } => Some(JournalChange::Delete { key }),
            WatchEvent::Live => None,
        }
    }
}

impl Drop for SharedBuckets {
    fn drop(&mut self) {
        self.expiry.notify_one();
    }
}

/// Removes rows when they expire, so that watches see it in time. Ends after the engine was dropped.
async fn expire(engine: Weak<SharedBuckets>) {
    while let Some(shared) = engine.upgrade() {
        let next = Bucket::ALL.iter().filter_map(|bucket| shared.open(*bucket).next_expiry()).min();
        let wait = next.map_or(Duration::MAX, |next| next.saturating_sub(shared.now()));
        let changed = shared.expiry.clone();
        // the task must not keep the engine alive
        drop(shared);
        let _ = timeout(wait, changed.notified()).await;
    }
}
