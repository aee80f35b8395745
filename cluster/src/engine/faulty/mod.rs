//! Memory with seeded faults: every outcome that the contract names, at a configured rate.
//!
//! Owns: what each operation does under each fault. Never: which fault happens and when (`process`), or a fault that a
//! real engine could not show.
//!
//! Each handle is one process with a link of its own; several handles on one [`Memory`] are a cluster. The outcomes of
//! a sequence of calls depend on the seed alone, with one exception so that waiting callers make progress: a broken
//! link heals after some calls or after a short time, whichever comes first.

mod blind;
mod faults;
mod kv;
mod life;
mod outage;
mod process;
mod watch;

use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};

pub use self::faults::Faults;
pub use self::process::FaultyProcess;
use self::process::WriteFault;
use super::{
    BatchOp, Bucket, ConnectionState, Consistency, Enqueue, Entry, Memory, Message, Precondition,
    PublishError, Put, QueueError, QueueMessage, RequestError, Subscription, Unavailable, Watch, WatchMode,
    WriteError,
};
use crate::clock::{ClockSample, ClusterClock};

/// The longest write from which the engine's clock is sampled.
const LONGEST_SAMPLE: Duration = Duration::from_millis(50);

/// One process on a [`Memory`], with seeded faults. All clones are one process.
#[derive(Clone)]
pub struct Faulty {
    process: FaultyProcess,
}

impl Faulty {
    /// Creates a process on this memory. Equal seeds and faults give equal outcomes to equal sequences of calls.
    pub fn new(memory: Memory, seed: u64, faults: Faults) -> Self {
        Self { process: FaultyProcess::new(memory, seed, faults) }
    }

    /// Gives the process a wall clock that is ahead of the engine's by so many milliseconds. Its clock of the cluster
    /// then shows the engine's time only from the first renewal of a lease on.
    #[must_use]
    pub fn with_wall_ahead(mut self, ahead_ms: i64) -> Self {
        self.process.clock = ClusterClock::with_wall_ahead(ahead_ms);
        self
    }

    /// Returns the process, to suspend it or to end it.
    pub fn process(&self) -> &FaultyProcess {
        &self.process
    }

    pub(super) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.process
            .run(async {
                self.process.call().map_err(|Unavailable| PublishError::Down)?;
                if self.process.hits(self.process.faults().full) {
                    return Err(PublishError::Full);
                }
                self.process.memory.bus.publish(message, || self.process.drops_message()).map(drop)
            })
            .await
    }

    pub(super) async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Unavailable> {
        self.process
            .run(async {
                self.process.call()?;
                let (listener, subscription) = self.process.memory.bus.subscribe(pattern, group, max_bytes);
                self.process.lock().listeners.push(listener);
                Ok(subscription)
            })
            .await
    }

    /// Injects the faults of a request before its reply.
    async fn inject_request_faults(&self, message: &Message, within: Duration) -> Result<(), RequestError> {
        self.process.call().map_err(|Unavailable| RequestError::Down)?;
        if self.process.hits(self.process.faults().no_responder) {
            return Err(RequestError::NoResponder);
        }
        let (late, broken) = (
            self.process.hits(self.process.faults().deadline),
            self.process.hits(self.process.faults().broken),
        );
        if broken || (late && self.process.hits(500)) {
            // the request is delivered, but its reply is not
            let reply = self
                .process
                .memory
                .bus
                .request(message.clone(), Duration::ZERO, || self.process.drops_message())
                .await;
            if let Err(error @ (RequestError::NoResponder | RequestError::TooLarge)) = reply {
                return Err(error);
            }
        }
        if broken {
            self.process.cut();
            return Err(RequestError::Down);
        }
        if late {
            tokio::time::sleep(within).await;
            return Err(RequestError::Deadline);
        }
        Ok(())
    }

    pub(super) async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        self.process
            .run(async {
                self.inject_request_faults(&message, within).await?;
                self.process.memory.bus.request(message, within, || self.process.drops_message()).await
            })
            .await
    }

    pub(super) fn clock(&self) -> ClusterClock {
        self.process.clock.clone()
    }

    /// Adds a sample of the engine's clock: the engine stored a write when its reply was received. There is no sample of
    /// a write during which the process was suspended.
    pub(super) async fn sample_clock(&self, sent: Duration, received: Duration) -> Result<(), Unavailable> {
        if received.saturating_sub(sent) > LONGEST_SAMPLE {
            return Err(Unavailable);
        }
        let shown = crate::clock::unix().saturating_sub(crate::clock::boot().saturating_sub(received));
        self.process.clock.add(ClockSample { sent, received, shown });
        Ok(())
    }

    pub(super) fn link(&self) -> channel::Receiver<ConnectionState> {
        self.process.link.subscribe()
    }

    pub(super) async fn get(
        &self,
        bucket: Bucket,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Entry>, Unavailable> {
        self.process.run(async { self.process.read(bucket, key, consistency) }).await
    }

    pub(super) async fn list(&self, bucket: Bucket, prefix: &str) -> Result<Vec<Entry>, Unavailable> {
        self.process
            .run(async {
                self.process.call()?;
                Ok(self.process.memory.buckets.list(bucket, prefix))
            })
            .await
    }

    pub(super) async fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        self.process
            .run(async {
                self.process.call()?;
                Ok(self.process.memory.buckets.scan(bucket, prefix, after_rev, limit))
            })
            .await
    }

    pub(super) async fn put(&self, bucket: Bucket, put: Put) -> Result<u64, WriteError> {
        self.commit(bucket, vec![BatchOp::Put(put)]).await
    }

    pub(super) async fn delete(
        &self,
        bucket: Bucket,
        key: &str,
        expect: Precondition,
    ) -> Result<(), WriteError> {
        let step = BatchOp::Delete { key: key.to_owned(), expect };
        self.commit(bucket, vec![step]).await.map(drop)
    }

    pub(super) async fn commit(&self, bucket: Bucket, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        self.process
            .run(async {
                let puts = batch.iter().filter_map(|step| match step {
                    BatchOp::Put(put) => Some(put.key.clone()),
                    BatchOp::Delete { .. } | BatchOp::Check { .. } => None,
                });
                let keys: Vec<String> = puts.collect();
                let written = self.process.write(bucket, batch);
                self.process.wrote(&keys);
                written
            })
            .await
    }

    pub(super) async fn watch(
        &self,
        bucket: Bucket,
        prefixes: Vec<String>,
        mode: WatchMode,
    ) -> Result<Watch, Unavailable> {
        self.process
            .run(async {
                self.process.call()?;
                let (watcher, events) = mpsc::unbounded_channel();
                let rng = self.process.lock().rng.split();
                let inner = self.process.memory.buckets.watch(bucket, prefixes, mode);
                tokio::spawn(watch::delay(inner, watcher, rng, self.process.faults().late, self.link()));
                Ok(Watch { events })
            })
            .await
    }

    pub(super) async fn push(&self, push: Enqueue) -> Result<(), QueueError> {
        let twice = self.process.hits(self.process.faults().duplicate).then(|| push.clone());
        self.run_queue_operation(|| {
            self.process.memory.queue.push(push)?;
            twice.map_or(Ok(()), |push| self.process.memory.queue.push(push))
        })
        .await
    }

    pub(super) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        self.process
            .run(async {
                self.process.call().map_err(|Unavailable| QueueError::Down)?;
                if self.process.hits(self.process.faults().unknown) {
                    // pulled, and lost in transit: they are delivered again
                    self.process.memory.queue.pull(route, free_slots, Duration::ZERO).await?;
                    return Err(QueueError::Unknown);
                }
                self.process.memory.queue.pull(route, free_slots, wait).await
            })
            .await
    }

    pub(super) async fn ack(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.run_queue_operation(|| {
            self.process.memory.queue.ack(delivery);
            Ok(())
        })
        .await
    }

    pub(super) async fn ack_unconfirmed(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.process
            .run(async {
                self.process.call().map_err(|Unavailable| QueueError::Down)?;
                if !self.process.drops_message() {
                    self.process.memory.queue.ack(delivery);
                }
                Ok(())
            })
            .await
    }

    pub(super) async fn nak(&self, delivery: &QueueMessage, after: Duration) -> Result<(), QueueError> {
        self.run_queue_operation(|| {
            self.process.memory.queue.nak(delivery, after);
            Ok(())
        })
        .await
    }

    pub(super) async fn extend(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.run_queue_operation(|| {
            self.process.memory.queue.extend(delivery);
            Ok(())
        })
        .await
    }

    /// Runs an operation of the queue. It is never delayed: repeating it is safe, so a late one would find no further
    /// bug.
    async fn run_queue_operation(
        &self,
        operation: impl FnOnce() -> Result<(), QueueError>,
    ) -> Result<(), QueueError> {
        self.process.run(async { self.queue_operation(operation) }).await
    }

    fn queue_operation(&self, operation: impl FnOnce() -> Result<(), QueueError>) -> Result<(), QueueError> {
        self.process.call().map_err(|Unavailable| QueueError::Down)?;
        match self.process.change() {
            WriteFault::Acknowledged => operation(),
            WriteFault::Silent => operation().and(Err(QueueError::Unknown)),
            WriteFault::Never | WriteFault::Later(_) => Err(QueueError::Unknown),
        }
    }

    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        self.process
            .run(async {
                self.process.call().map_err(|Unavailable| QueueError::Down)?;
                Ok(self.process.memory.queue.depth(route))
            })
            .await
    }
}

#[cfg(test)]
mod tests;
