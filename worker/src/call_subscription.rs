//! The subscriptions of a worker to the calls of its lane.
//!
//! Owns: membership in the groups of workers that share the calls, one group per method: a worker without the method is
//! never asked. Never: slots, or what a call does.

use futures_util::stream::{BoxStream, SelectAll, StreamExt, select_all, unfold};
use pagewire_cluster::engine::{BusEvent, Message, Subscription, Unavailable};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::worker::WorkerGroup;
use tokio::sync::watch;

use super::control::UNREAD;

/// The calls of a lane that this worker receives, until it drains: from then on it is no longer a member of the groups
/// that share them.
pub(crate) struct CallSubscription {
    /// Calls of all methods; empty when no more calls come.
    calls: SelectAll<BoxStream<'static, Message>>,
    draining: watch::Receiver<bool>,
}

impl CallSubscription {
    /// Subscribes to the calls of these methods, among the workers that are inside nodes or among the others.
    pub(crate) async fn open(
        jobs: &Jobs,
        group: &WorkerGroup,
        methods: impl Iterator<Item = &str>,
        is_inside_node: bool,
        draining: watch::Receiver<bool>,
    ) -> Result<Self, Unavailable> {
        let mut subscriptions = Vec::new();
        for method in methods {
            let subject = match is_inside_node {
                true => jobs.subjects.node_calls(&group.pool, &group.lane, method),
                false => jobs.subjects.calls(&group.pool, &group.lane, method),
            };
            subscriptions.push(jobs.engine.subscribe(&subject, Some("workers"), UNREAD).await?);
        }
        Ok(Self { calls: select_all(subscriptions.into_iter().map(messages)), draining })
    }

    /// Returns the next call. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            if *self.draining.borrow_and_update() {
                self.calls = SelectAll::new();
            }
            tokio::select! {
                biased;
                Some(question) = self.calls.next() => return question,
                // an error means that the sender is gone and draining can no longer be requested
                Ok(()) = self.draining.changed() => {}
                else => return std::future::pending().await,
            }
        }
    }
}

/// Returns the messages of a subscription.
fn messages(subscription: Subscription) -> BoxStream<'static, Message> {
    let next = async |mut subscription: Subscription| {
        loop {
            match subscription.next().await? {
                BusEvent::Message(message) => return Some((message, subscription)),
                BusEvent::Gap(_) => {}
            }
        }
    };
    unfold(subscription, next).boxed()
}
