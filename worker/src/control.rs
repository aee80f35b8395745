//! The control messages of a worker: cancellations, drain, wake-ups, liveness and the calls for its own users.
//!
//! Owns: the subscriptions to the subjects of this worker and of its group. Never: what a message causes (`claim`,
//! `affinity`, `queue`, `entry`).

use std::sync::Arc;

use bytes::Bytes;
use pagewire_cluster::engine::{BusEvent, Message, Subscription, Unavailable};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Jobs;
use pagewire_cluster::subject::worker_leaf;
use pagewire_cluster::wire::{
    self, Cancel, ClaimsQuery, JobOffer, ObjectGiven, ObjectRequest, RolloutQuery, Wake,
};
use pagewire_cluster::worker::WorkerGroup;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::affinity::AssignedJobs;
use super::call::reply_bytes;
use super::claim::Claims;
use super::entry::WorkerEntry;
use super::object::ObjectMessage;
use super::queue::FreeJobs;
use super::work::WorkerParts;

/// Maximum unread bytes of each subscription of a worker.
pub(crate) const UNREAD: usize = 8 * 1024 * 1024;

/// The subscriptions of a worker, except the one to the calls of its lane.
pub(crate) struct ControlSubscriptions {
    own: Subscription,
    group: Subscription,
    /// New jobs for any worker; `None` at a worker that is given none.
    new_jobs: Option<Subscription>,
}

impl ControlSubscriptions {
    pub(crate) async fn open(
        jobs: &Jobs,
        group: &WorkerGroup,
        id: Key,
        free_work: bool,
    ) -> Result<Self, Unavailable> {
        let Jobs { engine, subjects, .. } = jobs;
        let new_jobs = subjects.new_jobs(&group.pool, &group.lane);
        Ok(Self {
            new_jobs: match free_work {
                true => Some(engine.subscribe(&new_jobs, Some("workers"), UNREAD).await?),
                false => None,
            },
            own: engine.subscribe(&subjects.worker(id, ">"), None, UNREAD).await?,
            group: engine.subscribe(&subjects.workers(&group.pool, &group.lane), None, UNREAD).await?,
        })
    }
}

/// Handles the messages that a worker receives.
pub(crate) struct WorkerControl {
    pub(crate) parts: Arc<WorkerParts>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) entry: WorkerEntry,
    pub(crate) assigned: Arc<AssignedJobs>,
    pub(crate) free: Arc<FreeJobs>,
}

/// Parses a message.
pub(crate) fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    let read = serde_json::from_slice(&message.payload);
    read.inspect_err(|error| tracing::warn!(subject = message.subject, %error, "unreadable message")).ok()
}

impl WorkerControl {
    /// Handles all messages until the subscriptions end, or until `leaving` and all that were sent to this worker before.
    pub(crate) async fn listen(
        self: Arc<Self>,
        subscriptions: ControlSubscriptions,
        leaving: CancellationToken,
    ) {
        let ControlSubscriptions { mut own, mut group, new_jobs } = subscriptions;
        let own = async {
            let mut has_left = false;
            loop {
                let received = tokio::select! {
                    received = own.next() => received,
                    () = leaving.cancelled(), if !has_left => {
                        has_left = true;
                        own.leave();
                        continue;
                    }
                };
                match received {
                    Some(BusEvent::Message(message)) => self.handle(message),
                    Some(BusEvent::Gap(_)) => {}
                    None => break,
                }
            }
        };
        let group = async {
            while let Some(received) = group.next().await {
                if let BusEvent::Message(message) = received {
                    // a call, which at most one worker of the group runs
                    let _ = self.stop(&message);
                }
            }
        };
        let new_jobs = async {
            if let Some(offers) = new_jobs {
                self.take_new_jobs(offers).await;
            }
            // the other subscriptions decide when this worker leaves
            std::future::pending().await
        };
        tokio::select! {
            () = own => {}
            () = group => {}
            () = new_jobs => {}
        }
    }

    async fn take_new_jobs(&self, mut offers: Subscription) {
        while let Some(received) = offers.next().await {
            if let BusEvent::Message(offer) = received
                && let Some(new) = read(&offer)
            {
                let free = self.free.clone();
                tokio::spawn(async move { free.take_new(new, offer).await });
            }
        }
    }

    /// Handles a message for this worker alone.
    fn handle(self: &Arc<Self>, message: Message) {
        match message.subject.rsplit('.').next() {
            Some(worker_leaf::ALIVE) => self.acknowledge(message),
            Some(worker_leaf::DRAIN) => {
                tracing::info!("drain requested");
                self.parts.draining.send_replace(true);
                self.acknowledge(message);
            }
            Some(worker_leaf::CANCEL) => {
                if let Some(job) = self.stop(&message) {
                    tokio::spawn(self.claims.clone().check(vec![job]));
                }
            }
            Some(worker_leaf::CLAIMS) => {
                if let Some(ClaimsQuery { jobs }) = read(&message) {
                    tokio::spawn(self.claims.clone().check(jobs));
                }
            }
            Some(worker_leaf::WAKE) => {
                if let Some(Wake { user }) = read(&message) {
                    self.assigned.wake(user);
                }
            }
            Some(worker_leaf::OFFER) => {
                if let Some(JobOffer { job }) = read(&message) {
                    let free = self.free.clone();
                    tokio::spawn(async move { free.take_offered(job).await });
                }
            }
            Some(worker_leaf::ROLLOUT) => {
                if let Some(query) = read(&message) {
                    self.report_rollout(query, message);
                }
            }
            Some(worker_leaf::OBJECT) => {
                if let Some(request) = read(&message) {
                    self.give_object(request, message);
                }
            }
            Some(worker_leaf::CALL) => {
                if let Some(call) = read(&message) {
                    self.entry.accept_message(call, message);
                }
            }
            Some(worker_leaf::FREE_CALL) => {
                if let Some(call) = read(&message) {
                    self.entry.accept_free(call, message);
                }
            }
            _ => tracing::debug!(subject = message.subject, "a message of another release ignored"),
        }
    }

    fn acknowledge(&self, message: Message) {
        let engine = self.parts.jobs.engine.clone();
        tokio::spawn(async move { reply_bytes(&engine, message, Bytes::new()).await });
    }

    /// Gives up the object of a page, and replies when it has left.
    fn give_object(&self, request: ObjectRequest, message: Message) {
        let engine = self.parts.jobs.engine.clone();
        let (left, has_left) = oneshot::channel();
        let ObjectRequest { page, why } = request;
        // an error means that no object can live here any more
        let _ = self.parts.object_messages.send(ObjectMessage::Leave { page, seat: None, why, left });
        tokio::spawn(async move {
            let had = has_left.await.unwrap_or(false);
            reply_bytes(&engine, message, wire::encode(&ObjectGiven { had })).await;
        });
    }

    /// Replies with the revision of a rollout that this worker has applied, when that is the requested one or a later one.
    fn report_rollout(&self, query: RolloutQuery, message: Message) {
        let engine = self.parts.jobs.engine.clone();
        let rollouts = self.assigned.assignment.rollouts.clone();
        tokio::spawn(async move {
            let state = rollouts.state(&query.pool, query.revision).await;
            reply_bytes(&engine, message, wire::encode_response(Some(state))).await;
        });
    }

    /// Cancels running work. Returns the id when it does not run here.
    fn stop(&self, message: &Message) -> Option<Key> {
        let Cancel { id } = read(message)?;
        (!self.parts.running.cancel(id)).then_some(id)
    }
}
