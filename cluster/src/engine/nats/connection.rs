//! One connection to NATS.
//!
//! Owns: sending, requesting, and the state of the link. Never: the content of messages.
//!
//! Avoids three behaviours of async-nats. The library buffers messages during an
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

use super::reply_router::{Router, RouterWaiter};
use super::write_batcher::Outgoing;
use crate::engine::ConnectionState;
use crate::timing::Timing;

/// The longest subject and reply subject together, in bytes. A server closes the connection after a line of
/// more than 4,096 bytes, and the line also contains sizes.
const LONGEST_LINE: usize = 4000;

/// The reason why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestFailure {
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
pub(super) struct NatsConnection(Arc<ConnectionInner>);

pub(super) struct ConnectionInner {
    pub(super) client: Client,
    pub(super) outgoing: Outgoing,
    pub(super) router: Arc<Router>,
    /// The state of this connection. Closed after the engine was dropped.
    pub(super) link: channel::Receiver<ConnectionState>,
    /// A count that grows whenever the client library drops messages of a subscription.
    pub(super) dropped: channel::Receiver<u64>,
    pub(super) timing: Timing,
}

impl std::ops::Deref for NatsConnection {
    type Target = ConnectionInner;

    fn deref(&self) -> &ConnectionInner {
        &self.0
    }
}

impl NatsConnection {
    pub(super) fn new(parts: ConnectionInner) -> Self {
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
    ) -> Result<(), RequestFailure> {
        let subject = subject.into();
        if subject.len() + reply.as_ref().map_or(0, String::len) > LONGEST_LINE
            || payload.len() > self.client.max_payload()
        {
            return Err(RequestFailure::TooLarge);
        }
        if !self.is_up() {
            return Err(RequestFailure::NotSent);
        }
        let message = OutboundMessage { subject, reply: reply.map(Into::into), headers, payload };
        match self.outgoing.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(RequestFailure::NotSent),
            Err(TrySendError::Full(message)) => match self.outgoing.send_timeout(message, within).await {
                Ok(()) => Ok(()),
                Err(SendTimeoutError::Closed(_)) => Err(RequestFailure::NotSent),
                Err(SendTimeoutError::Timeout(_)) => Err(RequestFailure::Silence),
            },
        }
    }

    /// Sends a request and waits for one reply.
    pub(super) async fn request(
        &self,
        subject: impl Into<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
        within: Duration,
    ) -> Result<Raw, RequestFailure> {
        let until = Instant::now() + within;
        let mut place = self.router.place(until);
        // without room in the queue the request was not sent
        let sent = self.send(subject, Some(place.subject()), headers, payload, within).await;
        sent.map_err(
            |failure| if failure == RequestFailure::Silence { RequestFailure::NotSent } else { failure },
        )?;
        match timeout_at(until.into(), place.reply()).await {
            Ok(Some(raw)) if raw.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(RequestFailure::NoResponder)
            }
            Ok(Some(raw)) => Ok(raw),
            Ok(None) if Instant::now() < until => Err(RequestFailure::Lost),
            Ok(None) | Err(_) => Err(RequestFailure::Silence),
        }
    }

    /// Sends a request with a stream of replies. The reader detects the end of the stream.
    pub(super) async fn request_stream(
        &self,
        subject: String,
        payload: Bytes,
        within: Duration,
    ) -> Result<mpsc::UnboundedReceiver<Raw>, RequestFailure> {
        let (sender, messages) = mpsc::unbounded_channel();
        let reply = self.router.register(RouterWaiter::Stream(sender), Instant::now() + within);
        self.send(subject, Some(reply), None, payload, self.timing.operation).await?;
        Ok(messages)
    }

    /// Subscribes to a new private subject. Returns the subscription and the subject.
    pub(super) async fn inbox(&self) -> Result<(Subscriber, String), RequestFailure> {
        let subject = self.router.private(&uuid::Uuid::new_v4().simple().to_string());
        let subscribed = timeout(self.timing.operation, self.client.subscribe(subject.clone())).await;
        match subscribed {
            Ok(Ok(messages)) => Ok((messages, subject)),
            Ok(Err(_)) | Err(_) => Err(RequestFailure::NotSent),
        }
    }

    /// Waits for an echo. After it the server has processed everything that was sent before.
    pub(super) async fn round_trip(&self) -> Result<(), RequestFailure> {
        let within = self.timing.operation;
        let mut place = self.router.place(Instant::now() + within);
        self.send(place.subject(), None, None, Bytes::new(), within).await?;
        match timeout(within, place.reply()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(RequestFailure::Lost),
            Err(_) => Err(RequestFailure::Silence),
        }
    }
}

/// Reads the current state from the library. `before` keeps the time since which the link is down.
fn observe(client: &Client, before: ConnectionState) -> ConnectionState {
    if client.connection_state() == State::Connected {
        return ConnectionState::Up { generation: client.statistics().connects.load(Ordering::Relaxed) };
    }
    match before {
        ConnectionState::Down { .. } => before,
        ConnectionState::Up { .. } => ConnectionState::Down { since: Instant::now() },
    }
}

/// Publishes the state of the link whenever it changes. Also polls the state regularly, because the library
/// may drop events. When a connection is lost, every request that waits for a reply on it fails at once.
pub(super) async fn track(
    connection: NatsConnection,
    role: &'static str,
    changed: Arc<Notify>,
    link: channel::Sender<ConnectionState>,
) {
    let ConnectionInner { client, router, timing, .. } = &*connection;
    loop {
        let before = *link.borrow();
        let now = observe(client, before);
        if now != before {
            tracing::info!(role, link = ?now, "the connection to NATS changed");
            if let ConnectionState::Up { .. } = before {
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
pub(super) fn merge(control: ConnectionState, data: ConnectionState) -> ConnectionState {
    match (control, data) {
        (ConnectionState::Up { generation: control }, ConnectionState::Up { generation: data }) => {
            ConnectionState::Up { generation: (control + data).saturating_sub(1) }
        }
        (ConnectionState::Down { since: control }, ConnectionState::Down { since: data }) => {
            ConnectionState::Down { since: control.min(data) }
        }
        (down @ ConnectionState::Down { .. }, _) | (_, down) => down,
    }
}

/// Publishes the merged link of two connections until they are closed.
pub(super) async fn join(
    mut control: channel::Receiver<ConnectionState>,
    mut data: channel::Receiver<ConnectionState>,
    link: channel::Sender<ConnectionState>,
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
        let up = |generation| ConnectionState::Up { generation };
        let now = Instant::now();
        let down = ConnectionState::Down { since: now };
        let later = ConnectionState::Down { since: now + Duration::from_secs(1) };
        assert_eq!(merge(up(1), up(1)), up(1));
        assert_eq!(merge(up(2), up(1)), up(2));
        assert_eq!(merge(up(2), up(3)), up(4));
        assert_eq!(merge(down, up(1)), down);
        assert_eq!(merge(up(1), down), down);
        assert_eq!(merge(later, down), down);
    }
}
