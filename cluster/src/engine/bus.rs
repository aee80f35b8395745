//! Types of the Bus, and the byte-bounded queue behind every subscription.
//!
//! Owns: [`Message`], [`ConnectionState`] and the pair [`SubscriptionSender`] (the engine's end) / [`Subscription`]
//! (the reader's end). Never: the transport of messages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::trace::TraceParent;

/// The largest payload of a message, in bytes.
pub const MAX_PAYLOAD: usize = 512 * 1024;

/// Metadata sent beside a payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// The sender's trace span.
    pub trace: Option<TraceParent>,
}

/// A message on the Bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The subject of the message; created by `subject::Subjects`.
    pub subject: String,
    /// The subject to which a reply is published.
    pub reply: Option<String>,
    /// Metadata beside the payload.
    pub headers: Headers,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

impl Message {
    /// Creates a message without headers.
    pub fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), payload: payload.into(), ..Self::default() }
    }

    /// Creates the reply to this message. Returns `None` if its sender expects no reply.
    pub fn reply_with(&self, payload: impl Into<Bytes>) -> Option<Self> {
        let subject = self.reply.clone()?;
        Some(Self { subject, reply: None, headers: self.headers.clone(), payload: payload.into() })
    }
}

/// The reason why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The send queue had no room within `Timing::publish`; try again later.
    #[error("the engine's send queue is full")]
    Full,
    /// Not connected.
    #[error("the cluster's engine is unavailable")]
    Down,
    /// The payload has more than [`MAX_PAYLOAD`] bytes.
    #[error("a message has at most {MAX_PAYLOAD} bytes")]
    TooLarge,
}

/// The reason why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The subject has no subscriber; known at once.
    #[error("the subject has no responder")]
    NoResponder,
    /// No reply in time. The request may have been processed.
    #[error("no reply in time")]
    Deadline,
    /// Not connected. The request may have been processed if the connection was lost after sending.
    #[error("the cluster's engine is unavailable")]
    Down,
    /// The payload has more than [`MAX_PAYLOAD`] bytes.
    #[error("a message has at most {MAX_PAYLOAD} bytes")]
    TooLarge,
}

/// The state of the connection to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Connected. The generation grows with every reconnect.
    Up {
        /// Starts at 1.
        generation: u64,
    },
    /// Not connected.
    Down {
        /// The time when the connection was lost.
        since: Instant,
    },
}

/// A mark in a subscription: messages may be missing at this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The connection was lost and is restored.
    Reconnect,
    /// The reader was too slow for its byte budget.
    Overflow,
}

/// An item that a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// A message.
    Message(Message),
    /// Messages may be missing here.
    Gap(Gap),
}

#[derive(Default)]
struct Backlog {
    items: VecDeque<BusEvent>,
    bytes: usize,
    /// An overflow gap was pushed after the last message. It also covers further messages that do not fit.
    overflowing: bool,
    writer_gone: bool,
    reader_gone: bool,
    /// The reader wants what has arrived, and nothing more.
    leaving: bool,
}

struct SubscriptionQueue {
    backlog: Mutex<Backlog>,
    arrived: Notify,
    left: Notify,
    max_bytes: usize,
    /// The engine has messages on their way when the reader leaves, and drops its end after the last one.
    is_distant: bool,
}

impl SubscriptionQueue {
    /// Locks the backlog. The data is consistent after every step, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's end of a subscription.
pub struct SubscriptionSender(Arc<SubscriptionQueue>);

/// The reader's end of a subscription. Dropping it unsubscribes.
pub struct Subscription(Arc<SubscriptionQueue>);

/// Creates a subscription that holds at most `max_bytes` of unread subjects and payloads. A message that is
/// larger than the limit is accepted when the queue is empty.
pub(super) fn subscription(max_bytes: usize) -> (SubscriptionSender, Subscription) {
    pair(max_bytes, false)
}

/// Creates a subscription to messages of a server: those on their way still arrive after the reader has left.
pub(super) fn distant_subscription(max_bytes: usize) -> (SubscriptionSender, Subscription) {
    pair(max_bytes, true)
}

fn pair(max_bytes: usize, is_distant: bool) -> (SubscriptionSender, Subscription) {
    let shared = Arc::new(SubscriptionQueue {
        backlog: Mutex::default(),
        arrived: Notify::new(),
        left: Notify::new(),
        max_bytes,
        is_distant,
    });
    (SubscriptionSender(shared.clone()), Subscription(shared))
}

impl SubscriptionSender {
    /// Appends an item without waiting. Returns `false` when the reader was dropped or has left.
    pub fn push(&self, received: BusEvent) -> bool {
        let mut backlog = self.0.lock();
        if backlog.reader_gone || (backlog.leaving && !self.0.is_distant) {
            return false;
        }
        match received {
            BusEvent::Message(message) => {
                // count the subject as well, so that messages without payload are not free
                let size = message.payload.len() + message.subject.len();
                if backlog.bytes + size > self.0.max_bytes && !backlog.items.is_empty() {
                    if !std::mem::replace(&mut backlog.overflowing, true) {
                        backlog.items.push_back(BusEvent::Gap(Gap::Overflow));
                    }
                } else {
                    backlog.overflowing = false;
                    backlog.bytes += size;
                    backlog.items.push_back(BusEvent::Message(message));
                }
            }
            gap @ BusEvent::Gap(_) => {
                if backlog.items.back() != Some(&gap) {
                    backlog.items.push_back(gap);
                }
            }
        }
        drop(backlog);
        self.0.arrived.notify_one();
        true
    }

    /// Returns whether the reader takes no more messages: it dropped its end, or has left an engine of this process.
    pub fn is_closed(&self) -> bool {
        let backlog = self.0.lock();
        backlog.reader_gone || (backlog.leaving && !self.0.is_distant)
    }

    /// Waits until the reader leaves or drops its end. Supports one waiter, which does not wait for `closed`. Cancel-safe.
    pub async fn left(&self) {
        let has_left = || {
            let backlog = self.0.lock();
            backlog.reader_gone || backlog.leaving
        };
        while !has_left() {
            self.0.left.notified().await;
        }
    }

    /// Waits until the reader drops its end. Supports one waiter. Cancel-safe.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.0.left.notified().await;
        }
    }
}

impl Drop for SubscriptionSender {
    fn drop(&mut self) {
        self.0.lock().writer_gone = true;
        self.0.arrived.notify_one();
    }
}

impl Subscription {
    /// Unsubscribes, but keeps what has arrived: `next` returns it, and then `None`. Over a network, a few
    /// more may arrive, and one that comes in the moment in which a silent subscription is ended may be lost.
    pub fn leave(&mut self) {
        self.0.lock().leaving = true;
        self.0.left.notify_one();
    }

    /// Waits for the next message or gap. Returns `None` after the engine was dropped, or after the last message if this
    /// reader has left. Cancel-safe.
    pub async fn next(&mut self) -> Option<BusEvent> {
        loop {
            let arrived = self.0.arrived.notified();
            {
                let mut backlog = self.0.lock();
                if let Some(received) = backlog.items.pop_front() {
                    if let BusEvent::Message(message) = &received {
                        backlog.bytes -= message.payload.len() + message.subject.len();
                    }
                    return Some(received);
                }
                if backlog.writer_gone || (backlog.leaving && !self.0.is_distant) {
                    return None;
                }
            }
            arrived.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut backlog = self.0.lock();
        backlog.reader_gone = true;
        backlog.items.clear();
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> BusEvent {
        BusEvent::Message(Message::new("s", vec![0; bytes]))
    }

    #[tokio::test]
    async fn a_slow_reader_learns_that_something_is_missing_exactly_where_it_is() {
        let (feed, mut subscription) = subscription(10);
        for _ in 0..4 {
            feed.push(message(4));
        }
        assert_eq!(subscription.next().await, Some(message(4)));
        feed.push(message(4));
        drop(feed);
        let mut seen = Vec::new();
        while let Some(received) = subscription.next().await {
            seen.push(received);
        }
        assert_eq!(seen, [message(4), BusEvent::Gap(Gap::Overflow), message(4)]);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_gets_what_has_arrived_and_nothing_more() {
        let (feed, mut subscription) = subscription(10);
        feed.push(message(4));
        subscription.leave();
        assert!(!feed.push(message(1)));
        assert_eq!((subscription.next().await, subscription.next().await), (Some(message(4)), None));
        let (feed, mut subscription) = distant_subscription(10);
        subscription.leave();
        feed.left().await;
        assert!(feed.push(message(2)), "it was on its way");
        drop(feed);
        assert_eq!((subscription.next().await, subscription.next().await), (Some(message(2)), None));
    }

    #[tokio::test]
    async fn dropping_the_reader_is_seen_by_the_feed() {
        let (feed, subscription) = subscription(10);
        drop(subscription);
        assert!(!feed.push(message(1)));
        assert!(feed.is_closed());
        feed.closed().await;
    }
}
