//! One pull request and its inbox.
//!
//! Owns: the work items that have arrived, until they are taken, and what happens to them when the request is dropped.
//! Never: when a request ends (`queue`).

use std::time::Duration;

use async_nats::{Message as Raw, Subscriber};
use futures_util::{FutureExt, StreamExt};

use super::connection::NatsConnection;
use super::queue::{acknowledge, delivery, negative};
use crate::engine::QueueMessage;

/// A pull request with an inbox of its own. When it is dropped before its end, the server discards it, because it has
/// no subscriber any more, and the work items that still arrive are returned to the queue. An item that the server sends
/// in the moment in which the subscription ends does not arrive, and waits for its redelivery.
pub(super) struct PullRequest {
    /// Work items that have arrived.
    pub(super) items: Vec<QueueMessage>,
    /// `None` after the end.
    messages: Option<Subscriber>,
    subject: String,
    data: NatsConnection,
}

/// A subscription of its own, and its subject.
pub(super) type Inbox = (Subscriber, String);

impl PullRequest {
    pub(super) fn new(messages: Subscriber, subject: String, data: &NatsConnection) -> Self {
        Self { items: Vec::new(), messages: Some(messages), subject, data: data.clone() }
    }

    /// Returns the next message of the server.
    pub(super) async fn next(&mut self) -> Option<Raw> {
        self.messages.as_mut()?.next().await
    }

    /// Ends the request after the server has sent everything, and returns its inbox.
    pub(super) fn end(mut self) -> Option<Inbox> {
        Some((self.messages.take()?, std::mem::take(&mut self.subject)))
    }
}

impl Drop for PullRequest {
    fn drop(&mut self) {
        let Some(mut messages) = self.messages.take() else { return };
        // before anything that this process sends next, if there is room; otherwise from the task
        let leaving = messages.drain().now_or_never().is_some();
        // outside a runtime the process ends, and so does its connection
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (items, data) = (std::mem::take(&mut self.items), self.data.clone());
        runtime.spawn(give_back(items, messages, leaving, data));
    }
}

/// Returns the work items of a dropped request to the queue.
async fn give_back(
    mut items: Vec<QueueMessage>,
    mut messages: Subscriber,
    leaving: bool,
    data: NatsConnection,
) {
    // the library ends the subscription after the last message that the server had sent
    let arriving = async {
        if !leaving {
            let _ = messages.drain().await;
        }
        while let Some(raw) = messages.next().await {
            items.extend(delivery(raw));
        }
    };
    // after an outage nothing ends the subscription
    let _ = tokio::time::timeout(data.timing.operation, arriving).await;
    for item in items {
        if let Err(error) = acknowledge(&data, &item, negative(Duration::ZERO)).await {
            tracing::debug!(id = item.id, %error, "a work item of an abandoned pull comes again by itself");
        }
    }
}
