//! One connection to NATS.
//!
//! Owns: sending, requesting, and the state of the link. Never: the content of messages.
//!
//! The behaviour differs from the client library in three points. The library buffers messages during an
//! outage and sends them afterwards; here, a message that cannot be sent now is refused. The library drops
//! messages silently when a reader is too slow; here, every drop increments a count that all subscriptions
//! watch. The library's `flush` does not wait for the server; here, a round trip is an echo through the
//! server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use async_nats::{Client, HeaderMap, Message as Raw, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};
use tokio::sync::{Notify, mpsc, watch as channel};
use tokio::time::{timeout, timeout_at};

use super::outgoing::Outgoing;
use super::router::{Router, Waiter};
use crate::engine::Link;
use crate::timing::Timing;

/// The longest subject and reply subject together, in bytes. A server closes the connection after a line of
/// more than 4,096 bytes, and the line also contains sizes.
const LONGEST_LINE: usize = 4000;

/// The reason why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was sent.
    NotSent,
    /// The message is larger than the server accepts; nothing was sent.
    TooLarge,
    /// The subject has no subscriber; nothing happened.
    NoResponder,
    /// The connection was lost after sending.
    Lost,
    /// No reply in time.
    Silence,
}

/// A handle on a connection, cheap to clone. Its tasks end when the engine is dropped.
#[derive(Clone)]
pub(super) struct Connection(Arc<Parts>);

pub(super) struct Parts {
    pub(super) client: Client,
    pub(super) outgoing: Outgoing,
    pub(super) router: Arc<Router>,
    /// The state of this connection. Closed after the engine was dropped.
    pub(super) link: channel::Receiver<Link>,
    /// A count that grows whenever the client library drops messages of a subscription.
    pub(super) dropped: channel::Receiver<u64>,
    pub(super) timing: Timing,
}

impl std::ops::Deref for Connection {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Connection {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Returns whether the connection can send now.
    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends a message. Waits at most `within` for room in the queue.
    pub(super) async fn send(
        &self,
        subject: impl Into<Subject>,
        reply: Option<String>,
        headers: Option<HeaderMap>,
        payload: Bytes,
        within: Duration,
    ) -> Result<(), Failure> {
        let subject = subject.into();
        if subject.len() + reply.as_ref().map_or(0, String::len) > LONGEST_LINE
            || payload.len() > self.client.max_payload()
        {
            return Err(Failure::TooLarge);
        }
        if !self.is_up() {
            return Err(Failure::NotSent);
        }
        let message = OutboundMessage { subject, reply: reply.map(Into::into), headers, payload };
        match self.outgoing.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(Failure::NotSent),
            Err(TrySendError::Full(message)) => match self.outgoing.send_timeout(message, within).await {
                Ok(()) => Ok(()),
                Err(SendTimeoutError::Closed(_)) => Err(Failure::NotSent),
                Err(SendTimeoutError::Timeout(_)) => Err(Failure::Silence),
            },
        }
    }

    /// Sends a request and waits for one reply.
    pub(super) async fn ask(
        &self,
        subject: impl Into<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
        within: Duration,
    ) -> Result<Raw, Failure> {
        let until = Instant::now() + within;
        let mut place = self.router.place(until);
        // without room in the queue the request was not sent
        let sent = self.send(subject, Some(place.subject()), headers, payload, within).await;
        sent.map_err(|failure| if failure == Failure::Silence { Failure::NotSent } else { failure })?;
        match timeout_at(until.into(), place.answer()).await {
            Ok(Some(raw)) if raw.status == Some(StatusCode::NO_RESPONDERS) => Err(Failure::NoResponder),
            Ok(Some(raw)) => Ok(raw),
            Ok(None) if Instant::now() < until => Err(Failure::Lost),
            Ok(None) | Err(_) => Err(Failure::Silence),
        }
    }

    /// Sends a request with a stream of replies. The reader detects the end of the stream.
    pub(super) async fn ask_stream(
        &self,
        subject: String,
        payload: Bytes,
        within: Duration,
    ) -> Result<mpsc::UnboundedReceiver<Raw>, Failure> {
        let (sender, messages) = mpsc::unbounded_channel();
        let reply = self.router.expect(Waiter::Stream(sender), Instant::now() + within);
        self.send(subject, Some(reply), None, payload, self.timing.operation).await?;
        Ok(messages)
    }

    /// Subscribes to a new private subject. Returns the subscription and the subject.
    pub(super) async fn inbox(&self) -> Result<(Subscriber, String), Failure> {
        let subject = self.router.private(&uuid::Uuid::new_v4().simple().to_string());
        let subscribed = timeout(self.timing.operation, self.client.subscribe(subject.clone())).await;
        match subscribed {
            Ok(Ok(messages)) => Ok((messages, subject)),
            Ok(Err(_)) | Err(_) => Err(Failure::NotSent),
        }
    }

    /// Waits for an echo. After it the server has processed everything that was sent before.
    pub(super) async fn round_trip(&self) -> Result<(), Failure> {
        let within = self.timing.operation;
        let mut place = self.router.place(Instant::now() + within);
        self.send(place.subject(), None, None, Bytes::new(), within).await?;
        match timeout(within, place.answer()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Failure::Lost),
            Err(_) => Err(Failure::Silence),
        }
    }
}

/// Reads the current state from the library. `before` keeps the time since which the link is down.
fn observe(client: &Client, before: Link) -> Link {
    if client.connection_state() == State::Connected {
        return Link::Up { generation: client.statistics().connects.load(Ordering::Relaxed) };
    }
    match before {
        Link::Down { .. } => before,
        Link::Up { .. } => Link::Down { since: Instant::now() },
    }
}

/// Publishes the state of the link whenever it changes. Also polls the state regularly, because the library
/// may drop events. When a connection is lost, every request that waits for a reply on it fails at once.
pub(super) async fn track(
    connection: Connection,
    role: &'static str,
    changed: Arc<Notify>,
    link: channel::Sender<Link>,
) {
    let Parts { client, router, timing, .. } = &*connection;
    loop {
        let before = *link.borrow();
        let now = observe(client, before);
        if now != before {
            tracing::info!(role, link = ?now, "the connection to NATS changed");
            if let Link::Up { .. } = before {
                router.abandon();
            }
            link.send_replace(now);
        }
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(timing.nats_ping) => {}
        }
    }
}

/// Merges the links of two connections: up when both are up, a new generation when either connection has one.
pub(super) fn merge(control: Link, data: Link) -> Link {
    match (control, data) {
        (Link::Up { generation: control }, Link::Up { generation: data }) => {
            Link::Up { generation: (control + data).saturating_sub(1) }
        }
        (Link::Down { since: control }, Link::Down { since: data }) => {
            Link::Down { since: control.min(data) }
        }
        (down @ Link::Down { .. }, _) | (_, down) => down,
    }
}

/// Publishes the merged link of two connections until they are closed.
pub(super) async fn join(
    mut control: channel::Receiver<Link>,
    mut data: channel::Receiver<Link>,
    link: channel::Sender<Link>,
) {
    loop {
        let now = merge(*control.borrow_and_update(), *data.borrow_and_update());
        link.send_if_modified(|link| std::mem::replace(link, now) != now);
        let changed = tokio::select! {
            changed = control.changed() => changed,
            changed = data.changed() => changed,
        };
        if changed.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_up_only_when_both_connections_are_and_its_generation_grows() {
        let up = |generation| Link::Up { generation };
        let now = Instant::now();
        let down = Link::Down { since: now };
        let later = Link::Down { since: now + Duration::from_secs(1) };
        assert_eq!(merge(up(1), up(1)), up(1));
        assert_eq!(merge(up(2), up(1)), up(2));
        assert_eq!(merge(up(2), up(3)), up(4));
        assert_eq!(merge(down, up(1)), down);
        assert_eq!(merge(up(1), down), down);
        assert_eq!(merge(later, down), down);
    }
}
