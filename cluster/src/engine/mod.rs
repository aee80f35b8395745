//! Three primitives, two engines.
//!
//! Owns: the contract that every domain is written on. Never leaks a NATS type, and no domain asks which
//! engine it runs on. Dispatch is by enum: no trait objects, no generics in the domains.
//!
//! **[`Bus`](bus): messages now, at most once.** `publish` never waits longer than `Timing::publish`.
//! `subscribe` returns when the server has confirmed it and yields messages or a [`Gap`]: a gap is never
//! silent. Order holds per publisher and subscription within a generation of the [`Link`].
//!
//! **[`Kv`](kv): truth.** A bucket is the unit of atomicity and of revision. `Absent` means never written,
//! deleted or expired; a revision is never reused. After [`WriteError::Unknown`] read `Latest` and compare the
//! operation id: that is the only portable way to learn what happened. A watch may skip intermediate versions,
//! never the last one and never a deletion; over reconnects the engine itself does snapshot and difference.
//!
//! **[`Queue`](queue): a durable hint that work waits.** At least once, duplicates possible, redelivered without
//! limit. The record in Kv decides what a delivery means; the queue only says "look at this id".
//!
//! One conformance suite (`tests/conformance`) runs on every engine. [`Faulty`] wraps memory with seeded faults.

mod bus;
mod faulty;
mod kv;
mod memory;
mod nats;
mod queue;

use std::time::Duration;

use tokio::sync::watch as channel;

pub use bus::{
    Feed, Gap, Headers, Link, MAX_PAYLOAD, Message, PublishError, Received, Replies, RequestError,
    Subscription,
};
#[cfg(test)]
pub(crate) use faulty::dice::Dice;
pub use faulty::{Faults, Faulty};
pub use kv::{
    Batch, Bucket, Consistency, Entry, Expect, Kv, MAX_COMMIT, MAX_META, MAX_VALUE, MAX_WATCHES, Op, Put,
    Settled, Watch, WatchEvent, WatchMode, Watcher, WriteError,
};
#[cfg(test)]
pub(crate) use memory::rows::Rows;
pub use memory::{Kept, Memory, OpenError};
pub use nats::{ConnectError, Nats, NatsOptions};
pub use queue::{Delivery, Push, QueueError};

/// The engine did not answer or is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster's engine is unavailable")]
pub struct Down;

/// The engine of this process. Cheap to clone; all clones are one.
#[derive(Clone)]
pub enum Engine {
    /// Everything in this process, with or without a directory that keeps it.
    Memory(Memory),
    /// A NATS cluster with JetStream.
    Nats(Nats),
    /// Memory with seeded faults, for tests and simulation.
    Faulty(Faulty),
}

/// One `match` per operation instead of a trait object.
macro_rules! dispatch {
    ($engine:expr, $inner:ident => $call:expr) => {
        match $engine {
            Engine::Memory($inner) => $call,
            Engine::Nats($inner) => $call,
            Engine::Faulty($inner) => $call,
        }
    };
}
pub(crate) use dispatch;

impl Engine {
    /// Sends one message to whoever listens now.
    pub async fn publish(&self, message: Message) -> Result<(), PublishError> {
        dispatch!(self, e => e.publish(message).await)
    }

    /// Listens. Returns when the server has confirmed it. With a `group`, one member gets each message.
    /// Messages beyond `max_bytes` unread are dropped and reported as one [`Gap::Overflow`].
    pub async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Down> {
        dispatch!(self, e => e.subscribe(pattern, group, max_bytes).await)
    }

    /// Asks and waits for one answer. `message.reply` is set by the engine.
    pub async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        dispatch!(self, e => e.request(message, within).await)
    }

    /// Asks and yields every answer that arrives within the time.
    pub async fn request_many(&self, message: Message, within: Duration) -> Result<Replies, RequestError> {
        dispatch!(self, e => e.request_many(message, within).await)
    }

    /// The state of the connection to the engine. Memory is up, unless it has a disk that takes no writes.
    pub fn link(&self) -> channel::Receiver<Link> {
        dispatch!(self, e => e.link())
    }

    /// A bucket.
    pub fn kv(&self, bucket: Bucket) -> Kv {
        Kv::new(self.clone(), bucket)
    }

    /// Adds a hint. The same id twice may be delivered twice.
    pub async fn push(&self, push: Push) -> Result<(), QueueError> {
        dispatch!(self, e => e.push(push).await)
    }

    /// Takes at most `free_slots` hints of a route; waits up to `wait` for the first.
    pub async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        dispatch!(self, e => e.pull(route, free_slots, wait).await)
    }

    /// The hint is settled and goes.
    pub async fn done(&self, delivery: &Delivery) -> Result<(), QueueError> {
        dispatch!(self, e => e.done(delivery).await)
    }

    /// The hint comes again, not before `after`.
    pub async fn retry(&self, delivery: &Delivery, after: Duration) -> Result<(), QueueError> {
        dispatch!(self, e => e.retry(delivery, after).await)
    }

    /// Still working: postpones the redelivery.
    pub async fn touch(&self, delivery: &Delivery) -> Result<(), QueueError> {
        dispatch!(self, e => e.touch(delivery).await)
    }

    /// How many hints of a route are not settled.
    pub async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        dispatch!(self, e => e.depth(route).await)
    }
}
