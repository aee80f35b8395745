//! The embedded engine: everything in this process.
//!
//! Owns: the shape in which [`Engine`](super::Engine) calls it. What each primitive decides is pure and knows
//! neither a lock nor a clock (`routes`, `rows`, `hints`); a thin shell gives it both (`bus`, `kv`, `queue`).
//! Never loses a connection: its link is always up and nothing here is ever `Down` or `Unknown`.

pub(super) mod bus;
mod hints;
pub(super) mod kv;
pub(super) mod queue;
mod routes;
pub(super) mod rows;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as channel;

use self::bus::{Bus, Fate};
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
            link: Arc::new(channel::Sender::new(Link::Up { generation: 1 })),
        }
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
        Ok(self.buckets.get(bucket, key))
    }

    pub(super) async fn list(&self, bucket: Bucket, prefix: &str) -> Result<Vec<Entry>, Down> {
        Ok(self.buckets.list(bucket, prefix))
    }

    pub(super) async fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Down> {
        Ok(self.buckets.scan(bucket, prefix, after_rev, limit))
    }

    pub(super) async fn put(&self, bucket: Bucket, put: Put) -> Result<u64, WriteError> {
        self.buckets.put(bucket, put)
    }

    pub(super) async fn delete(&self, bucket: Bucket, key: &str, expect: Expect) -> Result<(), WriteError> {
        self.buckets.delete(bucket, key, expect)
    }

    pub(super) async fn commit(&self, bucket: Bucket, batch: Vec<Batch>) -> Result<u64, WriteError> {
        self.buckets.commit(bucket, batch)
    }

    pub(super) async fn watch(&self, bucket: Bucket, prefix: &str, mode: WatchMode) -> Result<Watch, Down> {
        Ok(self.buckets.watch(bucket, prefix, mode))
    }

    pub(super) async fn push(&self, push: Push) -> Result<(), QueueError> {
        self.queue.push(push)
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
        self.queue.done(delivery);
        Ok(())
    }

    pub(super) async fn retry(&self, delivery: &Delivery, after: Duration) -> Result<(), QueueError> {
        self.queue.retry(delivery, after);
        Ok(())
    }

    pub(super) async fn touch(&self, delivery: &Delivery) -> Result<(), QueueError> {
        self.queue.touch(delivery);
        Ok(())
    }

    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        Ok(self.queue.depth(route))
    }
}
