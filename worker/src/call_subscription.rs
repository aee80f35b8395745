//! The subscription of a worker to the calls of its lane.
//!
//! Owns: membership in the group of workers that share the calls. Never: slots, or what a call does.

use pagewire_cluster::engine::{BusEvent, Message, Subscription, Unavailable};
use pagewire_cluster::job::Jobs;
use pagewire_cluster::worker::WorkerGroup;
use tokio::sync::watch;

use super::control::UNREAD;

/// The calls of a lane that this worker receives, until it drains: from then on it is no longer a member of the group
/// that shares them.
pub(crate) struct CallSubscription {
    /// `None` when no more calls come.
    subscription: Option<Subscription>,
    draining: watch::Receiver<bool>,
}

impl CallSubscription {
    pub(crate) async fn open(
        jobs: &Jobs,
        group: &WorkerGroup,
        draining: watch::Receiver<bool>,
    ) -> Result<Self, Unavailable> {
        let subject = jobs.subjects.calls(&group.pool, &group.lane);
        let subscription = Some(jobs.engine.subscribe(&subject, Some("workers"), UNREAD).await?);
        Ok(Self { subscription, draining })
    }

    /// Returns the next call. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            if *self.draining.borrow_and_update() {
                self.subscription = None;
            }
            let Some(subscription) = &mut self.subscription else { return std::future::pending().await };
            tokio::select! {
                biased;
                received = subscription.next() => match received {
                    Some(BusEvent::Message(question)) => return question,
                    Some(BusEvent::Gap(_)) => {}
                    None => self.subscription = None,
                },
                // an error means that the sender is gone and draining can no longer be requested
                Ok(()) = self.draining.changed() => {}
            }
        }
    }
}
