//! The Queue on JetStream: one work-queue stream, one durable consumer per pulled route or pattern of routes.
//!
//! Owns: work items, their consumers and acknowledgements. Never: the meaning of a work item.
//!
//! Avoids: a batch of async-nats that receives an idle heartbeat returns `Pending` without a waker, so that `fetch`
//! with heartbeats can stall until its timeout, and no batch ends when the connection is lost.
//!
//! `not_before` is a message schedule of the server (`@at`): the work item waits in the stream as a separate
//! message, survives restarts, and costs nothing until its time. The alternative is to deliver it at once and
//! refuse it with a delay. That would take a slot, count an attempt and keep a delivery pending for every
//! work item that is not due.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::header::{NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use async_nats::{HeaderMap, Message as Raw, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use super::api::{Delivered, JetStreamFailure, PublishResult, api, store};
use super::connect::jitter;
use super::connection::{NatsConnection, RequestFailure};
use super::headers;
use super::kv::{LONGEST_KEY, is_key};
use super::pull_request::{Inbox, PullRequest};
use super::streams::{Streams, nanos};
use crate::clock::ClusterClock;
use crate::engine::queue::is_route_pattern;
use crate::engine::{Enqueue, MAX_PAYLOAD, QueueError, QueueMessage};
use crate::subject::SubjectToken;

/// Pull requests that may wait on one route; enough for more than a thousand workers.
const MAX_WAITING: u32 = 4096;
/// The longest consumer name that is used unhashed.
const LONGEST_NAME: usize = 128;
/// The longest pause before repeating a request that was refused for a temporary reason.
const PAUSE: Duration = Duration::from_millis(50);

/// The queue on the data connection.
pub(super) struct WorkQueue {
    data: NatsConnection,
    streams: Streams,
    clock: ClusterClock,
    /// Routes with a consumer, as far as this process knows.
    routes: Mutex<HashSet<String>>,
    /// Inboxes of ended pulls, by route.
    inboxes: Mutex<HashMap<String, Vec<Inbox>>>,
}

/// The stage of a work item: waiting for its time, or ready.
enum ItemStage {
    Scheduled,
    Ready,
}

impl ItemStage {
    fn token(&self) -> &'static str {
        match self {
            Self::Scheduled => "at",
            Self::Ready => "go",
        }
    }
}

impl WorkQueue {
    pub(super) fn new(data: NatsConnection, streams: Streams, clock: ClusterClock) -> Self {
        Self { data, streams, clock, routes: Mutex::default(), inboxes: Mutex::default() }
    }

    /// Returns the subject of a work item. The id is one token, so that the filters of a route and of a
    /// longer route never overlap; a work queue refuses overlapping consumers.
    fn subject(&self, place: &ItemStage, route: &str, id: &str) -> String {
        format!("{}{}.{route}.{id}", self.streams.queue_prefix(), place.token())
    }

    /// Returns the name of a route's consumer. A name is one token of at most 255 characters, so a long route
    /// is hashed. No encoded token starts with an underscore and a lower case letter, so hashed and unhashed
    /// names never collide.
    fn consumer(route: &str) -> String {
        let name = SubjectToken::new(route).to_string();
        if name.len() <= LONGEST_NAME {
            return name;
        }
        format!("_sha256_{}", URL_SAFE_NO_PAD.encode(Sha256::digest(route)))
    }

    pub(super) async fn push(&self, push: Enqueue) -> Result<(), QueueError> {
        if !is_key(&push.route) || !is_key(&push.id) || push.payload.len() > MAX_PAYLOAD {
            return Err(QueueError::Invalid);
        }
        let id = SubjectToken::new(&push.id);
        let mut subject = self.subject(&ItemStage::Ready, &push.route, id.as_str());
        let mut headers = HeaderMap::new();
        headers.insert(headers::ID, push.id.as_str());
        if let Some(delay) = push.not_before.filter(|delay| !delay.is_zero()) {
            headers.insert(NATS_SCHEDULE, schedule(self.clock.now_ms(), delay).ok_or(QueueError::Invalid)?);
            headers.insert(NATS_SCHEDULE_TARGET, subject);
            // a schedule replaces an earlier one on its subject, so each work item has a subject of its own
            let own = format!("{id}-{}", uuid::Uuid::new_v4().simple());
            subject = self.subject(&ItemStage::Scheduled, &push.route, &own);
        }
        let deadline = Instant::now() + self.data.timing.operation;
        let subject = Subject::from(subject);
        loop {
            let within = deadline.saturating_duration_since(Instant::now());
            match store(&self.data, subject.clone(), headers.clone(), push.payload.clone(), within).await {
                PublishResult::Written { .. } => return Ok(()),
                PublishResult::Unknown | PublishResult::Mismatch => return Err(QueueError::Unknown),
                PublishResult::Invalid => return Err(QueueError::Invalid),
                PublishResult::Down => return Err(QueueError::Down),
                PublishResult::Busy => pause(deadline).await?,
            }
        }
    }

    pub(super) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        if !is_pattern(route) {
            return Err(QueueError::Invalid);
        }
        if free_slots == 0 {
            return Ok(Vec::new());
        }
        let until = Instant::now() + wait;
        loop {
            self.ensure_consumer(route).await?;
            let items = match self.fetch(route, free_slots, until).await {
                Ok(items) => items,
                Err(RequestFailure::NoResponder) => {
                    self.forget(route);
                    Vec::new()
                }
                Err(_) => return Err(QueueError::Down),
            };
            // an early empty reply: other pulls took the work items, or the consumer moved to another server
            if !items.is_empty() || Instant::now() >= until {
                return Ok(items);
            }
            tokio::time::sleep(jitter(PAUSE)).await;
        }
    }

    /// Sends one pull request. Returns the available work items, or waits for the first until `until`.
    async fn fetch(
        &self,
        route: &str,
        free_slots: usize,
        until: Instant,
    ) -> Result<Vec<QueueMessage>, RequestFailure> {
        let mut link = self.data.link.clone();
        let generation = *link.borrow_and_update();
        let remaining = until.saturating_duration_since(Instant::now());
        let mut request = json!({ "batch": free_slots, "no_wait": true });
        if remaining > Duration::from_millis(1) {
            // with `expires` and `no_wait`, the request waits for the first work item and ends with the last
            // available one
            request["expires"] = nanos(remaining).into();
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.streams.jobs(), Self::consumer(route));
        let (messages, inbox) = match self.take_inbox(route) {
            Some(idle) => idle,
            None => self.data.inbox().await?,
        };
        let mut pull = PullRequest::new(messages, inbox.clone(), &self.data);
        let operation = self.data.timing.operation;
        self.data.send(subject, Some(inbox), None, request.to_string().into(), operation).await?;
        let mut deadline = Instant::now() + remaining + operation;
        while pull.items.len() < free_slots {
            let raw = tokio::select! {
                raw = timeout(deadline.saturating_duration_since(Instant::now()), pull.next()) => raw,
                _ = link.wait_for(|link| *link != generation) => Ok(None),
            };
            let Ok(Some(raw)) = raw else {
                let items = std::mem::take(&mut pull.items);
                return if items.is_empty() { Err(RequestFailure::Lost) } else { Ok(items) };
            };
            match raw.status.map(|status| status.as_u16()) {
                None => pull.items.extend(delivery(raw)),
                Some(100) => {}
                Some(503) => {
                    self.keep_inbox(route, pull.end());
                    return Err(RequestFailure::NoResponder);
                }
                Some(_) => break,
            }
            if !pull.items.is_empty() {
                // the other work items, or the end of the request, follow at once
                deadline = Instant::now() + self.data.timing.publish * 2;
            }
        }
        let items = std::mem::take(&mut pull.items);
        // the server sends nothing more for this request, so the next one of the route may use its inbox
        self.keep_inbox(route, pull.end());
        Ok(items)
    }

    fn take_inbox(&self, route: &str) -> Option<Inbox> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).get_mut(route)?.pop()
    }

    /// Keeps an inbox for the next pull of a route, so that a pull costs no subscription.
    fn keep_inbox(&self, route: &str, inbox: Option<Inbox>) {
        if let Some(inbox) = inbox {
            let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
            inboxes.entry(route.to_owned()).or_default().push(inbox);
        }
    }

    async fn ensure_consumer(&self, route: &str) -> Result<(), QueueError> {
        if self.lock().contains(route) {
            return Ok(());
        }
        let (stream, name) = (self.streams.jobs(), Self::consumer(route));
        let filter = self.subject(&ItemStage::Ready, route, "*");
        let config = json!({
            "durable_name": name,
            "name": name,
            "filter_subject": filter,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanos(self.data.timing.redelivery),
            "max_deliver": -1,
            "max_ack_pending": -1,
            "max_waiting": MAX_WAITING,
            "replay_policy": "instant",
        });
        let method = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
        let request = json!({ "stream_name": stream, "config": config });
        let deadline = Instant::now() + self.data.timing.operation;
        loop {
            let within = deadline.saturating_duration_since(Instant::now());
            match api::<Value>(&self.data, &method, &request, within).await {
                Ok(_) => break,
                Err(JetStreamFailure::Failure(RequestFailure::NoResponder)) => pause(deadline).await?,
                Err(error) => {
                    tracing::warn!(?error, route, "a route has no consumer");
                    return Err(QueueError::Down);
                }
            }
        }
        self.lock().insert(route.to_owned());
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, route: &str) {
        self.lock().remove(route);
    }

    pub(super) async fn ack(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.acknowledge(delivery, "+ACK".into()).await
    }

    /// Sends an acknowledgement and waits for no confirmation.
    pub(super) async fn ack_unconfirmed(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        let within = self.data.timing.operation;
        let sent = self.data.send(delivery.receipt.clone(), None, None, "+ACK".into(), within).await;
        sent.map_err(|_| QueueError::Down)
    }

    pub(super) async fn nak(&self, delivery: &QueueMessage, after: Duration) -> Result<(), QueueError> {
        self.acknowledge(delivery, negative(after)).await
    }

    pub(super) async fn extend(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.acknowledge(delivery, "+WPI".into()).await
    }

    /// Sends an acknowledgement and waits until the server confirms it.
    async fn acknowledge(&self, delivery: &QueueMessage, what: Bytes) -> Result<(), QueueError> {
        acknowledge(&self.data, delivery, what).await
    }

    /// Returns the number of work items that a direct read counts, including scheduled ones. The stream
    /// contains exactly the unsettled ones.
    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        if !is_pattern(route) {
            return Err(QueueError::Invalid);
        }
        let filter = format!("{}*.{route}.*", self.streams.queue_prefix());
        let request = json!({ "next_by_subj": filter, "seq": 1, "batch": 1 });
        let subject = format!("$JS.API.DIRECT.GET.{}", self.streams.jobs());
        let operation = self.data.timing.operation;
        let deadline = Instant::now() + operation;
        loop {
            let messages =
                self.data.request_stream(subject.clone(), request.to_string().into(), operation).await;
            let mut messages = messages.map_err(|_| QueueError::Down)?;
            let within = deadline.saturating_duration_since(Instant::now());
            let raw = timeout(within, messages.recv()).await.ok().flatten().ok_or(QueueError::Down)?;
            match raw.status.map(|status| status.as_u16()) {
                None => {
                    let pending = raw.headers.and_then(|map| headers::number(&map, &headers::PENDING));
                    return Ok(1 + pending.unwrap_or(0));
                }
                Some(404) => return Ok(0),
                Some(_) => pause(deadline).await?,
            }
        }
    }
}

/// Returns whether a text names one route, or several by `*` in the place of a token.
fn is_pattern(route: &str) -> bool {
    route.len() <= LONGEST_KEY && is_route_pattern(route, is_key)
}

/// Sends an acknowledgement and waits until the server confirms it.
pub(super) async fn acknowledge(
    data: &NatsConnection,
    delivery: &QueueMessage,
    what: Bytes,
) -> Result<(), QueueError> {
    match data.request(delivery.receipt.clone(), None, what, data.timing.operation).await {
        Ok(_) => Ok(()),
        Err(RequestFailure::NotSent | RequestFailure::NoResponder) => Err(QueueError::Down),
        Err(RequestFailure::TooLarge | RequestFailure::Lost | RequestFailure::Silence) => {
            Err(QueueError::Unknown)
        }
    }
}

/// Returns the acknowledgement that returns a delivery to the queue.
pub(super) fn negative(after: Duration) -> Bytes {
    format!("-NAK {}", json!({ "delay": nanos(after) })).into()
}

pub(super) fn delivery(raw: Raw) -> Option<QueueMessage> {
    let receipt = raw.reply?.into_string();
    let Delivered { attempt, pending, .. } = Delivered::parse(&receipt)?;
    let id = headers::text(raw.headers.as_ref()?, &headers::ID)?.to_owned();
    Some(QueueMessage { id, payload: raw.payload, attempt, more: pending > 0, receipt })
}

/// Formats a delay as the server's schedule expression for one point in time of the server's clock.
fn schedule(now_ms: u64, delay: Duration) -> Option<String> {
    // `now_ms` is up to a millisecond before now, and the work item must not come early
    let now = OffsetDateTime::from_unix_timestamp_nanos((i128::from(now_ms) + 1) * 1_000_000).ok()?;
    let at = now.checked_add(delay.try_into().ok()?)?;
    Some(format!("@at {}", at.format(&Rfc3339).ok()?))
}

async fn pause(deadline: Instant) -> Result<(), QueueError> {
    if Instant::now() + PAUSE >= deadline {
        return Err(QueueError::Down);
    }
    tokio::time::sleep(jitter(PAUSE)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_names_one_moment_in_utc() {
        let at = schedule(500, Duration::from_millis(1000));
        assert_eq!(at.as_deref(), Some("@at 1970-01-01T00:00:01.501Z"));
        assert_eq!(schedule(1_800_000_000_000, Duration::MAX), None, "beyond the calendar");
    }

    #[test]
    fn each_route_has_its_own_consumer() {
        assert_ne!(WorkQueue::consumer("a.b"), WorkQueue::consumer("a_2Eb"));
        assert!(!WorkQueue::consumer("a.b/c=").contains(['.', '/', '=']));
        let [long, longer] = [300, 301].map(|length| WorkQueue::consumer(&"x".repeat(length)));
        assert!(long.len() <= 255 && long != longer);
    }
}
