//! The embedded engine: all three primitives in this process.
//!
//! Owns: the methods that [`Engine`](super::Engine) calls. The decisions of each primitive are pure and use
//! neither a lock nor a clock (`routes`, `rows`, `queue_state`); a thin shell supplies both (`bus`, `kv`, `queue`).
//!
//! Without a directory nothing is durable, no connection can be lost, and no operation returns `Down` or
//! `Unknown`. With a directory (`disk`), rows and work items outlive the process: an operation returns when
//! the data that its result depends on is on disk. A write that cannot be stored returns `Unknown`, and later
//! writes return `Down` until the disk accepts writes again. Messages of the Bus are never stored.

pub(super) mod bus;
mod disk;
pub(super) mod kv;
pub(super) mod queue;
mod queue_state;
mod routes;
pub(super) mod rows;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as channel;

use self::bus::Bus;
pub use self::disk::OpenError;
use self::disk::{Disk, JournalStream, Loaded};
use self::kv::Buckets;
use self::queue::Queue;
#[cfg(feature = "simulation")]
pub(super) use self::rows::legal_commit;
use super::{
    BatchOp, Bucket, ConnectionState, Consistency, Enqueue, Entry, Message, Precondition, PublishError, Put,
    QueueError, QueueMessage, RequestError, Subscription, Unavailable, Watch, WatchMode, WriteError,
};
use crate::clock::ClusterClock;
use crate::timing::Timing;

/// An engine that runs in this process. All clones share one engine.
#[derive(Clone)]
pub struct Memory {
    pub(super) bus: Bus,
    pub(super) buckets: Buckets,
    pub(super) queue: Queue,
    link: Arc<channel::Sender<ConnectionState>>,
    clock: ClusterClock,
    disk: Option<Disk>,
}

/// The number of rows and work items that an engine loaded from its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryStats {
    /// Rows that have not expired.
    pub rows: usize,
    /// Work items that are not settled.
    pub work_items: usize,
}

impl Memory {
    /// Creates an empty engine with these time-outs.
    pub fn with_timing(timing: &Timing) -> Self {
        Self {
            bus: Bus::default(),
            buckets: Buckets::default(),
            queue: Queue::new(timing),
            link: link(),
            clock: ClusterClock::of_this_process(),
            disk: None,
        }
    }

    /// Opens an engine that stores its rows and work items in a directory and starts with those that it finds
    /// there. One process at a time owns a directory; dropping the last clone releases it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the directory is in use, was written by a later version, is damaged, or cannot be
    /// read or written.
    pub async fn open(path: &Path, timing: &Timing) -> Result<(Self, RecoveryStats), OpenError> {
        let link = link();
        let (directory, opening_timing, telling) = (path.to_owned(), *timing, link.clone());
        let opening = move || Disk::open(&directory, &opening_timing, telling);
        let (disk, loaded) = tokio::task::spawn_blocking(opening).await.unwrap_or_else(|ended| {
            Err(OpenError::Unreadable { path: path.to_owned(), reason: ended.to_string() })
        })?;
        Ok(Self::holding(disk, loaded, timing, link))
    }

    fn holding(
        disk: Disk,
        loaded: Loaded,
        timing: &Timing,
        link: Arc<channel::Sender<ConnectionState>>,
    ) -> (Self, RecoveryStats) {
        let kept = RecoveryStats { rows: loaded.rows.len(), work_items: loaded.items.len() };
        let queue = Queue::restore(loaded.items, timing, disk.clone());
        let buckets = Buckets::restore(loaded.revisions, loaded.rows, disk.clone());
        let clock = ClusterClock::of_this_process();
        (Self { bus: Bus::default(), buckets, queue, link, clock, disk: Some(disk) }, kept)
    }

    /// Returns [`Unavailable`] while the disk accepts no writes. No write starts then, because it could not be stored,
    /// and no watch starts, because it would receive no events.
    fn check_writable(&self) -> Result<(), Unavailable> {
        self.disk.as_ref().map_or(Ok(()), Disk::check_writable)
    }

    /// Waits until the current state of a stream is on disk. Returns at once without a disk.
    async fn wait_durable(&self, place: JournalStream) -> Result<(), Unavailable> {
        match &self.disk {
            None => Ok(()),
            Some(disk) => disk.reach(place, disk.appended(place)).await,
        }
    }

    /// Returns the outcome of a write once the state it depends on is on disk.
    async fn written<T>(&self, bucket: Bucket, outcome: Result<T, WriteError>) -> Result<T, WriteError> {
        match (self.wait_durable(JournalStream::Bucket(bucket)).await, outcome) {
            (Err(Unavailable), Ok(_)) => Err(WriteError::Unknown),
            (Err(Unavailable), Err(WriteError::Conflict { .. })) => Err(WriteError::Down),
            (_, outcome) => outcome,
        }
    }

    /// Returns the outcome of a queue operation once it is on disk.
    async fn queued(&self, outcome: Result<(), QueueError>) -> Result<(), QueueError> {
        outcome?;
        self.wait_durable(JournalStream::Queue).await.map_err(|Unavailable| QueueError::Unknown)
    }

    pub(super) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.bus.publish(message, || false).map(drop)
    }

    pub(super) async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Unavailable> {
        Ok(self.bus.subscribe(pattern, group, max_bytes).1)
    }

    pub(super) async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        self.bus.request(message, within, || false).await
    }

    pub(super) fn clock(&self) -> ClusterClock {
        self.clock.clone()
    }

    pub(super) fn link(&self) -> channel::Receiver<ConnectionState> {
        self.link.subscribe()
    }

    pub(super) async fn get(
        &self,
        bucket: Bucket,
        key: &str,
        _consistency: Consistency,
    ) -> Result<Option<Entry>, Unavailable> {
        let entry = self.buckets.get(bucket, key);
        match (&entry, &self.disk) {
            // wait for this entry only, not for later writes in the bucket
            (Some(entry), Some(disk)) => disk.reach(JournalStream::Bucket(bucket), entry.rev).await?,
            _ => self.wait_durable(JournalStream::Bucket(bucket)).await?,
        }
        Ok(entry)
    }

    pub(super) async fn list(&self, bucket: Bucket, prefix: &str) -> Result<Vec<Entry>, Unavailable> {
        let entries = self.buckets.list(bucket, prefix);
        self.wait_durable(JournalStream::Bucket(bucket)).await?;
        Ok(entries)
    }

    pub(super) async fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        let entries = self.buckets.scan(bucket, prefix, after_rev, limit);
        self.wait_durable(JournalStream::Bucket(bucket)).await?;
        Ok(entries)
    }

    pub(super) async fn put(&self, bucket: Bucket, put: Put) -> Result<u64, WriteError> {
        self.check_writable().map_err(|Unavailable| WriteError::Down)?;
        self.written(bucket, self.buckets.put(bucket, put)).await
    }

    pub(super) async fn delete(
        &self,
        bucket: Bucket,
        key: &str,
        expect: Precondition,
    ) -> Result<(), WriteError> {
        self.check_writable().map_err(|Unavailable| WriteError::Down)?;
        self.written(bucket, self.buckets.delete(bucket, key, expect)).await
    }

    pub(super) async fn commit(&self, bucket: Bucket, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        self.check_writable().map_err(|Unavailable| WriteError::Down)?;
        self.written(bucket, self.buckets.commit(bucket, batch)).await
    }

    pub(super) async fn watch(
        &self,
        bucket: Bucket,
        prefixes: Vec<String>,
        mode: WatchMode,
    ) -> Result<Watch, Unavailable> {
        self.check_writable()?;
        Ok(self.buckets.watch(bucket, prefixes, mode))
    }

    pub(super) async fn push(&self, push: Enqueue) -> Result<(), QueueError> {
        self.check_writable().map_err(|Unavailable| QueueError::Down)?;
        self.queued(self.queue.push(push)).await
    }

    /// Adds a work item. The next step that waits for the disk stores this one as well.
    pub(super) fn push_unconfirmed(&self, push: Enqueue) -> Result<(), QueueError> {
        self.check_writable().map_err(|Unavailable| QueueError::Down)?;
        self.queue.push(push)
    }

    pub(super) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        self.queue.pull(route, free_slots, wait).await
    }

    pub(super) async fn ack(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.check_writable().map_err(|Unavailable| QueueError::Down)?;
        self.queue.ack(delivery);
        self.queued(Ok(())).await
    }

    /// Settles a work item. The next step that waits for the disk stores this one as well.
    pub(super) async fn ack_unconfirmed(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.check_writable().map_err(|Unavailable| QueueError::Down)?;
        self.queue.ack(delivery);
        Ok(())
    }

    pub(super) async fn nak(&self, delivery: &QueueMessage, after: Duration) -> Result<(), QueueError> {
        self.check_writable().map_err(|Unavailable| QueueError::Down)?;
        self.queue.nak(delivery, after);
        self.queued(Ok(())).await
    }

    pub(super) async fn extend(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.queue.extend(delivery);
        Ok(())
    }

    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        Ok(self.queue.depth(route))
    }
}

fn link() -> Arc<channel::Sender<ConnectionState>> {
    Arc::new(channel::Sender::new(ConnectionState::Up { generation: 1 }))
}

#[cfg(feature = "simulation")]
impl Default for Memory {
    fn default() -> Self {
        Self::with_timing(&Timing::PRODUCTION)
    }
}

#[cfg(feature = "simulation")]
impl Memory {
    /// Creates an empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a handle as another process would have it, with its own watches. Several processes on one
    /// engine exist only in tests and simulations.
    pub fn new_process_handle(&self) -> Self {
        Self { buckets: self.buckets.new_process_handle(), ..self.clone() }
    }
}
