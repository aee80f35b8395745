//! The subscriptions of a worker to the calls of its lane.
//!
//! Owns: membership in the groups of workers that share the calls, one group per method: a worker without the method is
//! never asked. Never: slots, or what a call does.

use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll, StreamExt, select_all, unfold};
use pagewire_cluster::engine::{BusEvent, Message, Subscription, Unavailable};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::worker::WorkerGroup;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::control::UNREAD;

/// The calls of a lane that this worker receives, until it leaves. From then on it is no longer a member of the groups that
/// share them, and the calls that were sent to it are still read.
///
/// The engine loses a call that it sends to a member in the moment in which this leaves: a worker that drains leaves when
/// others know that, and send it no more.
pub(crate) struct CallSubscription {
    /// Calls of all methods; empty when no more calls come.
    calls: SelectAll<BoxStream<'static, Message>>,
}

impl CallSubscription {
    /// Subscribes to the calls of these methods, among the workers that are inside nodes or among the others, until
    /// `leaving` is cancelled.
    pub(crate) async fn open(
        jobs: &Jobs,
        group: &WorkerGroup,
        methods: impl Iterator<Item = &str>,
        is_inside_node: bool,
        leaving: &CancellationToken,
    ) -> Result<Self, Unavailable> {
        let mut subscriptions = Vec::new();
        for method in methods {
            let subject = match is_inside_node {
                true => jobs.subjects.node_calls(&group.pool, &group.lane, method),
                false => jobs.subjects.calls(&group.pool, &group.lane, method),
            };
            subscriptions.push(jobs.engine.subscribe(&subject, Some("workers"), UNREAD).await?);
        }
        let within = jobs.timing.operation;
        let calls =
            subscriptions.into_iter().map(|subscription| messages(subscription, leaving.clone(), within));
        Ok(Self { calls: select_all(calls) })
    }

    /// Returns the next call; `None` after the last one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.calls.next().await
    }
}

/// A subscription that is left with the worker.
struct LeavingSubscription {
    subscription: Subscription,
    leaving: CancellationToken,
    left: bool,
    /// How long the engine may take to bring the last calls.
    within: Duration,
}

impl LeavingSubscription {
    /// Returns the next event; `None` after the last one.
    async fn next(&mut self) -> Option<BusEvent> {
        if !self.left {
            tokio::select! {
                biased;
                event = self.subscription.next() => return event,
                () = self.leaving.cancelled() => {}
            }
            self.left = true;
            self.subscription.leave();
        }
        timeout(self.within, self.subscription.next()).await.ok().flatten()
    }
}

/// Returns the messages of a subscription, until the worker leaves and all that were sent to it are read.
fn messages(
    subscription: Subscription,
    leaving: CancellationToken,
    within: Duration,
) -> BoxStream<'static, Message> {
    let next = async |mut subscription: LeavingSubscription| {
        loop {
            match subscription.next().await? {
                BusEvent::Message(message) => return Some((message, subscription)),
                BusEvent::Gap(_) => {}
            }
        }
    };
    unfold(LeavingSubscription { subscription, leaving, left: false, within }, next).boxed()
}
