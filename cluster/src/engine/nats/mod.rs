//! The NATS engine: the only module that names `async_nats`.
//!
//! Owns: the engine's handle, its options, and the reasons for refusing a server. Never: decisions of a
//! domain.
//!
//! Each process has two connections: `control` (Kv, and therefore leases) and `data` (Bus and Queue), so that
//! a burst of messages never delays the renewal of a lease.
//!
//! Each module below names, after `Avoids`, the defect of async-nats 0.51 or the behaviour of the server that
//! makes its own code necessary.
//!
//! - `connect`: first connect and reconnects
//! - `connection`: sending and requesting
//! - `write_batcher`: gathers messages into few writes
//! - `reply_router`: replies
//! - `headers`, `version`
//! - `bus`
//! - `api`: the wire format of JetStream
//! - `streams`: names and creation of streams
//! - `kv`: single keys
//! - `listing`: many keys
//! - `batch`: atomic batches
//! - `watch` and `known_keys`: watches
//! - `leader_clock`: samples of the servers' clock
//! - `queue`

mod api;
mod batch;
mod bus;
mod connect;
mod connection;
#[cfg(test)]
mod fake;
mod headers;
mod known_keys;
mod kv;
mod leader_clock;
mod listing;
mod pull_request;
mod queue;
mod reply_router;
mod streams;
mod version;
mod watch;
mod write_batcher;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{WeakUnboundedSender, unbounded_channel};
use tokio::sync::watch as channel;

pub use self::batch::batches_sent;
use self::connect::ConnectionTasks;
use self::connection::NatsConnection;
use self::kv::KvStream;
use self::queue::WorkQueue;
use self::streams::Streams;
use self::watch::WatchTask;
use super::{
    BatchOp, Bucket, ConnectionState, Consistency, Enqueue, Entry, MAX_WATCHES, Message, Precondition,
    PublishError, Put, QueueError, QueueMessage, RequestError, Subscription, Unavailable, Watch, WatchEvent,
    WatchMode, WriteError,
};
use crate::clock::{ClockSample, ClusterClock, ServerOffset, server_offsets};

/// Options for the connection to the cluster's NATS.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// URLs `nats://host:port` of one or more servers of one NATS cluster.
    pub urls: Vec<String>,
    /// Replicas of streams and buckets: 1 or 3.
    pub replicas: usize,
    /// The name of this Pagewire cluster. Several clusters can share one NATS.
    pub cluster: String,
    /// The client name shown in NATS's monitoring.
    pub client_name: String,
    /// Time-outs.
    pub timing: crate::timing::Timing,
}

/// The reason why a process cannot use this NATS.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server is too old.
    #[error(
        "NATS server {found} is too old: pagewire needs 2.12.12 or later of 2.12, 2.14.3 or later of 2.14, or 2.15 and up"
    )]
    Version {
        /// The version that the server reported.
        found: String,
    },
    /// The server could not be reached, or refused the connection.
    #[error("cannot use NATS at {urls}: {reason}")]
    Unreachable {
        /// The URLs that were tried, without credentials.
        urls: String,
        /// A description of the failure.
        reason: String,
    },
}

/// A NATS cluster with JetStream. Dropping the last clone closes the connections.
#[derive(Clone)]
pub struct Nats {
    inner: Arc<NatsInner>,
}

struct NatsInner {
    control: NatsConnection,
    data: NatsConnection,
    streams: Arc<Streams>,
    queue: WorkQueue,
    link: channel::Receiver<ConnectionState>,
    clock: ClusterClock,
    watches: Mutex<Vec<WeakUnboundedSender<WatchEvent>>>,
    /// Aborted on drop; every other task ends as a consequence.
    _tasks: ConnectionTasks,
}

impl Nats {
    /// Connects, checks the server's version and creates missing streams.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Version`] when a server is too old; [`ConnectError::Unreachable`] when a server cannot
    /// be reached, refuses the connection or its streams, or has too small a `max_payload`.
    pub async fn connect(options: NatsOptions) -> Result<Self, ConnectError> {
        let mut tasks = ConnectionTasks::default();
        let control = connect::connect(&options, "control", &mut tasks).await?;
        let data = connect::connect(&options, "data", &mut tasks).await?;
        let streams = Streams::new(&options.cluster, options.replicas);
        let ensured = streams.ensure_all(&control).await;
        ensured.map_err(|reason| connect::refused(&options, reason))?;

        let (sender, link) = channel::channel(ConnectionState::Up { generation: 1 });
        tasks.spawn(connection::join(control.link.clone(), data.link.clone(), sender));
        tasks.spawn(streams::maintain(streams.clone(), control.clone()));
        let clock = ClusterClock::of_an_engine();
        let queue = WorkQueue::new(data.clone(), streams.clone(), clock.clone());
        let streams = Arc::new(streams);
        let watches = Mutex::default();
        let inner = NatsInner { control, data, streams, queue, link, clock, watches, _tasks: tasks };
        let this = Self { inner: Arc::new(inner) };
        // a process knows the time of the cluster before it writes the first time; the lease measures it again
        if let Err(Unavailable) = this.measure_clock().await {
            tracing::debug!("the time of the cluster is not known before the first lease");
        }
        Ok(this)
    }

    fn store(&self, bucket: Bucket) -> KvStream {
        let NatsInner { control, streams, .. } = &*self.inner;
        KvStream { control: control.clone(), streams: streams.clone(), bucket }
    }

    pub(super) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        bus::publish(&self.inner.data, message).await
    }

    pub(super) async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Unavailable> {
        bus::subscribe(&self.inner.data, pattern, group, max_bytes).await
    }

    pub(super) async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        bus::request(&self.inner.data, message, within).await
    }

    pub(super) fn clock(&self) -> ClusterClock {
        self.inner.clock.clone()
    }

    /// Adds a sample to the clock: the time of the leader of the leases.
    async fn measure_clock(&self) -> Result<(), Unavailable> {
        if let Some((_, sample)) = self.store(Bucket::Nodes).leader_clock().await? {
            self.inner.clock.add(sample);
        }
        Ok(())
    }

    /// Returns the servers that lead a bucket and whose clocks differ from that of the leader of the leases.
    pub(super) async fn server_offsets(&self) -> Result<Vec<ServerOffset>, Unavailable> {
        let Some((_, reference)) = self.store(Bucket::Nodes).leader_clock().await? else {
            return Ok(Vec::new());
        };
        let mut clocks = Vec::new();
        for bucket in Bucket::ALL {
            clocks.extend(self.store(bucket).leader_clock().await?);
        }
        Ok(server_offsets(&reference, &clocks))
    }

    /// Adds a sample to the clock: the time at which the leader of a bucket stored a revision.
    pub(super) async fn sample_clock(
        &self,
        bucket: Bucket,
        rev: u64,
        sent: Duration,
        received: Duration,
    ) -> Result<(), Unavailable> {
        let stored = self.store(bucket).stored_at(rev).await?;
        if let Some(shown) = stored {
            self.inner.clock.add(ClockSample { sent, received, shown });
        }
        Ok(())
    }

    pub(super) fn link(&self) -> channel::Receiver<ConnectionState> {
        self.inner.link.clone()
    }

    pub(super) async fn get(
        &self,
        bucket: Bucket,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Entry>, Unavailable> {
        self.store(bucket).get(key, consistency).await
    }

    pub(super) async fn list(&self, bucket: Bucket, prefix: &str) -> Result<Vec<Entry>, Unavailable> {
        self.store(bucket).list(prefix).await
    }

    pub(super) async fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        self.store(bucket).scan(prefix, after_rev, limit).await
    }

    pub(super) async fn put(&self, bucket: Bucket, put: &Put) -> Result<u64, WriteError> {
        self.store(bucket).put(put).await
    }

    pub(super) async fn delete(
        &self,
        bucket: Bucket,
        key: &str,
        expect: Precondition,
    ) -> Result<(), WriteError> {
        self.store(bucket).delete(key, expect).await
    }

    pub(super) async fn commit(&self, bucket: Bucket, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        self.store(bucket).commit(batch).await
    }

    pub(super) async fn watch(
        &self,
        bucket: Bucket,
        prefixes: Vec<String>,
        mode: WatchMode,
        pace: Option<Duration>,
    ) -> Result<Watch, Unavailable> {
        if !self.inner.control.is_up() {
            return Err(Unavailable);
        }
        let (watcher, events) = unbounded_channel();
        {
            let mut watches = self.inner.watches.lock().unwrap_or_else(PoisonError::into_inner);
            watches.retain(|watch| watch.upgrade().is_some_and(|watch| !watch.is_closed()));
            assert!(watches.len() < MAX_WATCHES, "a process has at most {MAX_WATCHES} watches");
            watches.push(watcher.downgrade());
        }
        tokio::spawn(WatchTask::new(self.store(bucket), prefixes, mode, pace, watcher).run());
        Ok(Watch { events })
    }

    pub(super) async fn push(&self, push: Enqueue) -> Result<(), QueueError> {
        self.inner.queue.push(push).await
    }

    pub(super) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        self.inner.queue.pull(route, free_slots, wait).await
    }

    pub(super) async fn ack(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.inner.queue.ack(delivery).await
    }

    pub(super) async fn ack_unconfirmed(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.inner.queue.ack_unconfirmed(delivery).await
    }

    pub(super) async fn nak(&self, delivery: &QueueMessage, after: Duration) -> Result<(), QueueError> {
        self.inner.queue.nak(delivery, after).await
    }

    pub(super) async fn extend(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.inner.queue.extend(delivery).await
    }

    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        self.inner.queue.depth(route).await
    }
}
