//! The three primitives (Bus, Kv, Queue) and the engines that implement them.
//!
//! Owns: the contract that every domain is written against. Never: a NATS type in the contract, or a domain
//! that depends on the engine it runs on. Dispatch is by enum: no trait objects, no generics in the domains.
//!
//! **`Bus`: messages, delivered at most once.** `publish` never waits longer than `Timing::publish`.
//! `subscribe` returns when the server has confirmed the subscription. A subscription yields messages or a
//! [`Gap`]; a gap is never silent. Order holds per publisher and subscription within a generation of the
//! [`ConnectionState`].
//!
//! **`Kv`: the durable records.** A bucket is the unit of atomicity and of revision. `Absent` means
//! never written, deleted or expired. A revision is never reused. After [`WriteError::Unknown`], read with
//! `Latest` and compare the operation id: no other method to learn the outcome works on every engine. A watch
//! may skip intermediate versions, but never the last version and never a deletion. After a reconnect the
//! engine itself takes a snapshot and reports the difference.
//!
//! **`Queue`: durable work items.** A work item is delivered at least once, possibly more often, and
//! redelivered without limit. The record in Kv decides the meaning of a delivery; the queue only refers to
//! the record by its id.
//!
//! One conformance suite (`tests/conformance`) runs on every engine. With the feature `simulation`, the engine
//! `Faulty` wraps the memory engine and injects seeded faults; the product is built without it.

mod bus;
#[cfg(feature = "simulation")]
mod faulty;
mod kv;
mod memory;
mod nats;
mod queue;

use std::time::Duration;

use tokio::sync::watch as channel;

use crate::clock::{ClusterClock, ServerOffset};

#[cfg(feature = "simulation")]
pub use crate::simulation::FaultRng;
pub use bus::{
    BusEvent, ConnectionState, Gap, Headers, MAX_PAYLOAD, Message, PublishError, RequestError, Subscription,
    SubscriptionSender,
};
#[cfg(feature = "simulation")]
pub use faulty::{Faults, Faulty, FaultyProcess};
pub use kv::{
    BatchOp, Bucket, Consistency, Entry, Kv, MAX_COMMIT, MAX_META, MAX_VALUE, MAX_WATCHES, MAX_WORKERS,
    OperationId, Precondition, Put, Resolution, Watch, WatchEvent, WatchMode, WatchSender, WriteError,
};
#[cfg(test)]
pub(crate) use memory::rows::Rows;
pub use memory::{Memory, OpenError, RecoveryStats};
pub use nats::{ConnectError, Nats, NatsOptions, batches_sent};
pub use queue::{Enqueue, QueueError, QueueMessage};

/// Error: the engine did not reply or is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster's engine is unavailable")]
pub struct Unavailable;

/// The engine of this process. Cheap to clone; all clones share one engine.
#[derive(Clone)]
pub enum Engine {
    /// The embedded engine in this process, with or without a directory that makes it durable.
    Memory(Memory),
    /// A NATS cluster with JetStream.
    Nats(Nats),
    /// The memory engine with seeded faults, for tests and simulations.
    #[cfg(feature = "simulation")]
    Faulty(Faulty),
}

/// Calls the method on the inner engine: one `match` per operation instead of a trait object.
macro_rules! dispatch {
    ($engine:expr, $inner:ident => $call:expr) => {
        match $engine {
            Engine::Memory($inner) => $call,
            Engine::Nats($inner) => $call,
            #[cfg(feature = "simulation")]
            Engine::Faulty($inner) => $call,
        }
    };
}
pub(crate) use dispatch;

impl Engine {
    /// Sends one message to the current subscribers of its subject.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; in every case the message was not sent.
    pub async fn publish(&self, message: Message) -> Result<(), PublishError> {
        dispatch!(self, e => e.publish(message).await)
    }

    /// Subscribes to a pattern. Returns when the server has confirmed the subscription. With a `group`, each
    /// message is delivered to one member of the group. Messages beyond `max_bytes` of unread bytes are
    /// dropped and reported as one [`Gap::Overflow`].
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is not connected or refuses the subscription.
    pub async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Unavailable> {
        dispatch!(self, e => e.subscribe(pattern, group, max_bytes).await)
    }

    /// Sends a request and waits for one reply, at most `within`. The engine sets `message.reply`.
    ///
    /// # Errors
    ///
    /// [`RequestError`]; see there in which cases the request may have been processed.
    pub async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        dispatch!(self, e => e.request(message, within).await)
    }

    /// Returns the state of the connection to the engine. The memory engine is always up, except while its
    /// disk accepts no writes.
    pub fn link(&self) -> channel::Receiver<ConnectionState> {
        dispatch!(self, e => e.link())
    }

    /// Returns the clock of the engine, which all processes of the cluster share.
    pub fn clock(&self) -> ClusterClock {
        dispatch!(self, e => e.clock())
    }

    /// Returns the servers of the engine whose clocks differ from the clock of the cluster by more than
    /// [`LARGEST_OFFSET_MS`](crate::clock::LARGEST_OFFSET_MS), as far as they lead a bucket now.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when a server does not reply.
    pub async fn server_offsets(&self) -> Result<Vec<ServerOffset>, Unavailable> {
        match self {
            Self::Nats(e) => e.server_offsets().await,
            Self::Memory(_) => Ok(Vec::new()),
            #[cfg(feature = "simulation")]
            Self::Faulty(_) => Ok(Vec::new()),
        }
    }

    /// Returns a handle on a bucket.
    pub fn kv(&self, bucket: Bucket) -> Kv {
        Kv::new(self.clone(), bucket)
    }

    /// Adds a work item. Pushing the same id twice may deliver it twice.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; after [`QueueError::Unknown`] the work item may have been added.
    pub async fn push(&self, push: Enqueue) -> Result<(), QueueError> {
        dispatch!(self, e => e.push(push).await)
    }

    /// Adds a work item like [`Engine::push`], whose loss in a power cut costs its reader nothing but time: with a data
    /// directory it is on disk with the next step that waits for the disk.
    ///
    /// # Errors
    ///
    /// [`QueueError`], as for [`Engine::push`].
    pub async fn push_unconfirmed(&self, push: Enqueue) -> Result<(), QueueError> {
        match self {
            Self::Memory(e) => e.push_unconfirmed(push),
            Self::Nats(e) => e.push(push).await,
            #[cfg(feature = "simulation")]
            Self::Faulty(e) => e.push(push).await,
        }
    }

    /// Takes at most `free_slots` work items of a route. Waits up to `wait` for the first one, then returns
    /// an empty list. A `*` in the place of a token pulls from all such routes. Two different patterns of pulls must not
    /// match a common route, because an engine may divide its work items among patterns. A work item in
    /// transit to a dropped pull is returned at once, or delivered again after `Timing::redelivery`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Down`] when the engine is unavailable, [`QueueError::Invalid`] when the route is
    /// illegal.
    pub async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        dispatch!(self, e => e.pull(route, free_slots, wait).await)
    }

    /// Acknowledges a delivery: the work item is settled and removed from the queue.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; the work item is delivered again unless the acknowledgement arrived.
    pub async fn ack(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        dispatch!(self, e => e.ack(delivery).await)
    }

    /// Acknowledges a delivery like [`Engine::ack`] and does not wait until the work item is settled. An acknowledgement
    /// that is lost leads to another delivery after `Timing::redelivery`.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; the acknowledgement was not sent.
    pub async fn ack_unconfirmed(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        dispatch!(self, e => e.ack_unconfirmed(delivery).await)
    }

    /// Returns a delivery to the queue; it is delivered again, not before `after` has passed.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; without the acknowledgement the work item is delivered again after
    /// `Timing::redelivery`.
    pub async fn nak(&self, delivery: &QueueMessage, after: Duration) -> Result<(), QueueError> {
        dispatch!(self, e => e.nak(delivery, after).await)
    }

    /// Postpones the redelivery of a work item that is still being processed.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; the redelivery may not have been postponed.
    pub async fn extend(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        dispatch!(self, e => e.extend(delivery).await)
    }

    /// Returns the number of work items of a route that are not settled. A `*` in the place of a token counts all such
    /// routes.
    ///
    /// # Errors
    ///
    /// [`QueueError::Down`] when the engine is unavailable, [`QueueError::Invalid`] when the route is
    /// illegal.
    pub async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        dispatch!(self, e => e.depth(route).await)
    }
}
