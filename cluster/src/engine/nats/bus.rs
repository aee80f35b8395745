//! The Bus on NATS.
//!
//! Owns: publish, subscribe, request. Never: JetStream.
//!
//! Avoids: a subscription of async-nats continues silently after a reconnect and after dropped messages, and all
//! subscriptions of a client have one capacity, counted in messages (nats.rs#1276). Here each loss is a gap, and
//! each subscription has its own capacity in bytes.

use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;

use super::connection::{NatsConnection, RequestFailure};
use super::headers;
use crate::engine::{
    BusEvent, ConnectionState, Gap, MAX_PAYLOAD, Message, PublishError, RequestError, Subscription,
    SubscriptionSender, Unavailable, bus::distant_subscription,
};

/// Messages that a subscription may still get when its reader leaves.
const LAST_MESSAGES: u64 = 4;
/// After this time without a message, a subscription that its reader has left is ended by this side.
const QUIET: Duration = Duration::from_millis(20);
/// Messages that are moved at once.
const CHUNK: usize = 64;

pub(super) async fn publish(data: &NatsConnection, message: Message) -> Result<(), PublishError> {
    if message.payload.len() > MAX_PAYLOAD {
        return Err(PublishError::TooLarge);
    }
    let headers = headers::encode(&message.headers);
    let sent = data.send(message.subject, message.reply, headers, message.payload, data.timing.publish).await;
    sent.map_err(|failure| match failure {
        RequestFailure::TooLarge => PublishError::TooLarge,
        RequestFailure::Silence => PublishError::Full,
        RequestFailure::NotSent | RequestFailure::NoResponder | RequestFailure::Lost => PublishError::Down,
    })
}

pub(super) async fn subscribe(
    data: &NatsConnection,
    pattern: &str,
    group: Option<&str>,
    max_bytes: usize,
) -> Result<Subscription, Unavailable> {
    if !data.is_up() {
        return Err(Unavailable);
    }
    // observe the link before the server knows the subscription, so that a reconnect in between is reported
    // as a gap
    let (mut link, mut dropped) = (data.link.clone(), data.dropped.clone());
    let generation = generation(*link.borrow_and_update());
    dropped.mark_unchanged();
    let pattern = pattern.to_owned();
    let subscribed = async {
        match group {
            Some(group) => data.client.queue_subscribe(pattern, group.to_owned()).await,
            None => data.client.subscribe(pattern).await,
        }
    };
    let messages = tokio::time::timeout(data.timing.operation, subscribed)
        .await
        .map_err(|_| Unavailable)?
        .map_err(|error| {
            tracing::warn!(%error, "a subscription was refused");
            Unavailable
        })?;
    // the server reads a connection in order, so after the echo it has the subscription
    data.round_trip().await.map_err(|_| Unavailable)?;
    let (feed, subscription) = distant_subscription(max_bytes);
    tokio::spawn(forward(messages, feed, GapDetector { link, dropped, generation }));
    Ok(subscription)
}

fn generation(link: ConnectionState) -> Option<u64> {
    match link {
        ConnectionState::Up { generation } => Some(generation),
        ConnectionState::Down { .. } => None,
    }
}

/// Detects that messages may be missing.
struct GapDetector {
    link: tokio::sync::watch::Receiver<ConnectionState>,
    dropped: tokio::sync::watch::Receiver<u64>,
    /// The last generation in which the link was up.
    generation: Option<u64>,
}

impl GapDetector {
    /// Waits for the next loss. Returns `None` after the engine was dropped. Cancel-safe.
    async fn next(&mut self) -> Option<Gap> {
        loop {
            tokio::select! {
                changed = self.link.changed() => {
                    changed.ok()?;
                    // report the gap only after the reconnect, so that a resynchronisation misses nothing
                    if let Some(now) = generation(*self.link.borrow_and_update())
                        && self.generation.replace(now) != Some(now)
                    {
                        return Some(Gap::Reconnect);
                    }
                }
                changed = self.dropped.changed() => {
                    changed.ok()?;
                    return Some(Gap::Overflow);
                }
            }
        }
    }
}

/// Moves messages to the subscription, which bounds them in bytes. Ends after the reader or the engine was dropped.
async fn forward(messages: Subscriber, feed: SubscriptionSender, mut losses: GapDetector) {
    // move chunks, because a burst must be moved faster than the connection delivers it
    let mut chunks = messages.ready_chunks(CHUNK);
    let mut received = 0;
    loop {
        tokio::select! {
            biased;
            () = feed.left() => break,
            loss = losses.next() => match loss {
                Some(gap) => drop(feed.push(BusEvent::Gap(gap))),
                None => break,
            },
            chunk = chunks.next() => match chunk {
                Some(chunk) => chunk.into_iter().for_each(|raw| {
                    received += 1;
                    feed.push(BusEvent::Message(headers::message(raw)));
                }),
                None => break,
            },
        }
    }
    if !feed.is_closed() {
        forward_rest(chunks.into_inner(), received, feed).await;
    }
}

/// Unsubscribes, and moves the messages that have arrived.
///
/// `Subscriber::drain` does not wait until the server has processed it, so a message in transit is lost. Therefore the server
/// is asked to end the subscription itself behind the next few messages, which are moved as well. Only if none comes for a
/// moment is the subscription drained.
async fn forward_rest(mut messages: Subscriber, received: u64, feed: SubscriptionSender) {
    if messages.unsubscribe_after(received + LAST_MESSAGES).await.is_err() {
        return;
    }
    let mut is_drained = false;
    loop {
        tokio::select! {
            biased;
            () = feed.closed() => return,
            message = messages.next() => match message {
                Some(raw) => drop(feed.push(BusEvent::Message(headers::message(raw)))),
                None => return,
            },
            () = tokio::time::sleep(QUIET), if !is_drained => {
                is_drained = true;
                if messages.drain().await.is_err() {
                    return;
                }
            }
        }
    }
}

pub(super) async fn request(
    data: &NatsConnection,
    message: Message,
    within: Duration,
) -> Result<Message, RequestError> {
    if message.payload.len() > MAX_PAYLOAD {
        return Err(RequestError::TooLarge);
    }
    let headers = headers::encode(&message.headers);
    let reply = data.request(message.subject, headers, message.payload, within).await;
    reply.map(headers::message).map_err(|failure| match failure {
        RequestFailure::TooLarge => RequestError::TooLarge,
        RequestFailure::NoResponder => RequestError::NoResponder,
        RequestFailure::NotSent | RequestFailure::Lost => RequestError::Down,
        RequestFailure::Silence => RequestError::Deadline,
    })
}
