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
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::control::UNREAD;
use super::departure::KnownToDrain;

/// The calls of a lane that this worker receives, until it drains and other processes know that. From then on it is no
/// longer a member of the groups that share them, and the calls that were sent to it are still read.
pub(crate) struct CallSubscription {
    /// Calls of all methods; empty when no more calls come.
    calls: SelectAll<BoxStream<'static, Message>>,
    /// Held until the last call was read.
    unanswered: Option<TaskTrackerToken>,
}

impl CallSubscription {
    /// Subscribes to the calls of these methods, among the workers that are inside nodes or among the others, until
    /// `known` resolves. Holds the token until the last call was read.
    pub(crate) async fn open(
        jobs: &Jobs,
        group: &WorkerGroup,
        methods: impl Iterator<Item = &str>,
        is_inside_node: bool,
        known: KnownToDrain,
        unanswered: TaskTrackerToken,
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
            subscriptions.into_iter().map(|subscription| messages(subscription, known.clone(), within));
        Ok(Self { calls: select_all(calls), unanswered: Some(unanswered) })
    }

    /// Returns the next call. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Message {
        if let Some(question) = self.calls.next().await {
            return question;
        }
        self.unanswered = None;
        std::future::pending().await
    }
}

/// A subscription that is left when others know that the worker drains.
struct LeavingSubscription {
    subscription: Subscription,
    known: KnownToDrain,
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
                () = &mut self.known => {}
            }
            self.left = true;
            self.subscription.leave();
        }
        timeout(self.within, self.subscription.next()).await.ok().flatten()
    }
}

/// Returns the messages of a subscription, until others know that the worker drains and all that were sent to it are read.
fn messages(
    subscription: Subscription,
    known: KnownToDrain,
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
    unfold(LeavingSubscription { subscription, known, left: false, within }, next).boxed()
}
