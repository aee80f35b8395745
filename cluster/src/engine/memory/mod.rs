//! The embedded engine: everything in this process.
//!
//! Owns: the shape in which [`Engine`](super::Engine) calls it. What each primitive decides is pure and knows
//! neither a lock nor a clock (`routes`, `rows`, `hints`); a thin shell gives it both (`bus`, `kv`, `queue`).
//!
//! Without a directory it keeps nothing, never loses a connection, and nothing here is ever `Down` or `Unknown`. With
//! one (`disk`), rows and hints outlive the process: an answer comes when what it says is on disk, and what cannot be
//! written is `Unknown`, then `Down`, until the disk takes it. Messages of the Bus are never kept.

pub(super) mod bus;
mod disk;
mod hints;
pub(super) mod kv;
pub(super) mod queue;
mod routes;
pub(super) mod rows;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as channel;

use self::bus::{Bus, Fate};
pub use self::disk::OpenError;
use self::disk::{Disk, Loaded, Place};
use self::kv::Buckets;
use self::queue::Queue;
pub(super) use self::rows::legal_commit;
use super::{
    Batch, Bucket, Consistency, Delivery, Down, Entry, Expect, Link, Message, PublishError, Push, Put,
    QueueError, Replies, RequestError, Subscription, Watch, WatchMode, WriteError,
};
use crate::timing::Timing;

/// Everything in this process. All clones are one engine.
#[derive(Clone)]
pub struct Memory {
    pub(super) bus: Bus,
    pub(super) buckets: Buckets,
    pub(super) queue: Queue,
    link: Arc<channel::Sender<Link>>,
    disk: Option<Disk>,
}

/// What an engine found in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Rows that have not expired.
    pub rows: usize,
    /// Hints that are not settled.
    pub hints: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_timing(&Timing::REAL)
    }
}

impl Memory {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty engine with these time-outs.
    pub fn with_timing(timing: &Timing) -> Self {
        Self {
            bus: Bus::default(),
            buckets: Buckets::default(),
            queue: Queue::new(timing),
            link: link(),
            disk: None,
        }
    }

    /// An engine that keeps its rows and hints in a directory, and starts with those that it finds there. One process
    /// at a time has a directory; it is free again when the last clone is gone.
    pub async fn open(path: &Path, timing: &Timing) -> Result<(Self, Kept), OpenError> {
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
        link: Arc<channel::Sender<Link>>,
    ) -> (Self, Kept) {
        let kept = Kept { rows: loaded.rows.len(), hints: loaded.hints.len() };
        let queue = Queue::restore(loaded.hints, timing, disk.clone());
        let buckets = Buckets::restore(loaded.revisions, loaded.rows, disk.clone());
        (Self { bus: Bus::default(), buckets, queue, link, disk: Some(disk) }, kept)
    }

    /// The same engine as another process would have it: processes that share one are for tests and simulations.
    pub fn another_process(&self) -> Self {
        Self { buckets: self.buckets.another_process(), ..self.clone() }
    }

    /// Nothing is begun that could not be kept, and no watch that would hear of nothing.
    fn takes_steps(&self) -> Result<(), Down> {
        self.disk.as_ref().map_or(Ok(()), Disk::takes_steps)
    }

    /// Returns when what a place shows now is on disk; at once without a disk.
    async fn is_kept(&self, place: Place) -> Result<(), Down> {
        match &self.disk {
            None => Ok(()),
            Some(disk) => disk.reach(place, disk.appended(place)).await,
        }
    }

    /// The outcome of a write, told when what it rests on is on disk.
    async fn written<T>(&self, bucket: Bucket, outcome: Result<T, WriteError>) -> Result<T, WriteError> {
        match (self.is_kept(Place::Bucket(bucket)).await, outcome) {
            (Err(Down), Ok(_)) => Err(WriteError::Unknown),
            (Err(Down), Err(WriteError::Conflict { .. })) => Err(WriteError::Down),
            (_, outcome) => outcome,
        }
    }

    /// The outcome of a step of the queue, told when it is on disk.
    async fn queued(&self, outcome: Result<(), QueueError>) -> Result<(), QueueError> {
        outcome?;
        self.is_kept(Place::Queue).await.map_err(|Down| QueueError::Unknown)
    }

    pub(super) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.bus.publish(message, || Fate::Arrives).map(drop)
    }

    pub(super) async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Down> {
        Ok(self.bus.subscribe(pattern, group, max_bytes).1)
    }

    pub(super) async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        self.bus.request(message, within, || Fate::Arrives).await
    }

    pub(super) async fn request_many(
        &self,
        message: Message,
        within: Duration,
    ) -> Result<Replies, RequestError> {
        self.bus.request_many(message, within, || Fate::Arrives)
    }

    pub(super) fn link(&self) -> channel::Receiver<Link> {
        self.link.subscribe()
    }

    pub(super) async fn get(
        &self,
        bucket: Bucket,
        key: &str,
        _consistency: Consistency,
    ) -> Result<Option<Entry>, Down> {
        let entry = self.buckets.get(bucket, key);
        match (&entry, &self.disk) {
            // what else is under way in the bucket does not matter
            (Some(entry), Some(disk)) => disk.reach(Place::Bucket(bucket), entry.rev).await?,
            _ => self.is_kept(Place::Bucket(bucket)).await?,
        }
        Ok(entry)
    }

    pub(super) async fn list(&self, bucket: Bucket, prefix: &str) -> Result<Vec<Entry>, Down> {
        let entries = self.buckets.list(bucket, prefix);
        self.is_kept(Place::Bucket(bucket)).await?;
        Ok(entries)
    }

    pub(super) async fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Down> {
        let entries = self.buckets.scan(bucket, prefix, after_rev, limit);
        self.is_kept(Place::Bucket(bucket)).await?;
        Ok(entries)
    }

    pub(super) async fn put(&self, bucket: Bucket, put: Put) -> Result<u64, WriteError> {
        self.takes_steps().map_err(|Down| WriteError::Down)?;
        self.written(bucket, self.buckets.put(bucket, put)).await
    }

    pub(super) async fn delete(&self, bucket: Bucket, key: &str, expect: Expect) -> Result<(), WriteError> {
        self.takes_steps().map_err(|Down| WriteError::Down)?;
        self.written(bucket, self.buckets.delete(bucket, key, expect)).await
    }

    pub(super) async fn commit(&self, bucket: Bucket, batch: Vec<Batch>) -> Result<u64, WriteError> {
        self.takes_steps().map_err(|Down| WriteError::Down)?;
        self.written(bucket, self.buckets.commit(bucket, batch)).await
    }

    pub(super) async fn watch(&self, bucket: Bucket, prefix: &str, mode: WatchMode) -> Result<Watch, Down> {
        self.takes_steps()?;
        Ok(self.buckets.watch(bucket, prefix, mode))
    }

    pub(super) async fn push(&self, push: Push) -> Result<(), QueueError> {
        self.takes_steps().map_err(|Down| QueueError::Down)?;
        self.queued(self.queue.push(push)).await
    }

    pub(super) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.queue.pull(route, free_slots, wait).await
    }

    pub(super) async fn done(&self, delivery: &Delivery) -> Result<(), QueueError> {
        self.takes_steps().map_err(|Down| QueueError::Down)?;
        self.queue.done(delivery);
        self.queued(Ok(())).await
    }

    pub(super) async fn retry(&self, delivery: &Delivery, after: Duration) -> Result<(), QueueError> {
        self.takes_steps().map_err(|Down| QueueError::Down)?;
        self.queue.retry(delivery, after);
        self.queued(Ok(())).await
    }

    pub(super) async fn touch(&self, delivery: &Delivery) -> Result<(), QueueError> {
        self.queue.touch(delivery);
        Ok(())
    }

    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        Ok(self.queue.depth(route))
    }
}

fn link() -> Arc<channel::Sender<Link>> {
    Arc::new(channel::Sender::new(Link::Up { generation: 1 }))
}
