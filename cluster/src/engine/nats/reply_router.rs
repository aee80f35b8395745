//! The reply router: one wildcard inbox per connection, and the waiters for replies.
//!
//! Owns: tokens, waiters and their deadlines. Never: the meaning of a reply.
//!
//! Avoids: a request of async-nats keeps an entry for ever when no reply arrives (nats.rs#1617), yields one reply
//! only, and does not detect that the connection was lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Message as Raw, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

/// Replies that are dispatched at once.
const CHUNK: usize = 64;

/// The receiver of the replies to one request.
pub(super) enum RouterWaiter {
    /// Waits for one reply.
    One(oneshot::Sender<Raw>),
    /// Receives raw messages until the receiver is dropped.
    Stream(mpsc::UnboundedSender<Raw>),
}

impl RouterWaiter {
    /// Hands a message over. Returns the waiter if it expects more messages.
    fn take(self, message: Raw) -> Option<Self> {
        match self {
            Self::One(sender) => {
                // the waiter was dropped, so the reply is late
                let _ = sender.send(message);
                None
            }
            Self::Stream(sender) => sender.send(message).is_ok().then_some(Self::Stream(sender)),
        }
    }
}

/// Waiters by token, each with a deadline.
#[derive(Default)]
struct Table {
    next: u64,
    waiting: HashMap<u64, (RouterWaiter, Instant)>,
}

impl Table {
    fn insert(&mut self, waiter: RouterWaiter, until: Instant) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, (waiter, until));
        self.next
    }

    /// Hands a message to its waiter. Returns whether there was one. The token is taken from the subject, so
    /// this works for replies and not for messages of a consumer, which keep the subject on which they were
    /// published.
    fn deliver(&mut self, message: Raw) -> bool {
        let token = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        let Some(token) = token else { return false };
        let Some((waiter, until)) = self.waiting.remove(&token) else { return false };
        if let Some(waiter) = waiter.take(message) {
            self.waiting.insert(token, (waiter, until));
        }
        true
    }

    fn forget(&mut self, token: u64) {
        self.waiting.remove(&token);
    }

    /// Removes the waiters with an expired deadline.
    fn sweep(&mut self, now: Instant) {
        self.waiting.retain(|_, (_, until)| *until > now);
    }
}

/// The registration of a waiter for one reply. Dropping it removes the waiter.
pub(super) struct PendingReply<'a> {
    router: &'a Router,
    token: u64,
    reply: oneshot::Receiver<Raw>,
}

impl PendingReply<'_> {
    /// Returns the reply subject.
    pub(super) fn subject(&self) -> String {
        self.router.subject(self.token)
    }

    /// Waits for the reply. Returns `None` when the connection was lost or the deadline expired.
    pub(super) async fn reply(&mut self) -> Option<Raw> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for PendingReply<'_> {
    fn drop(&mut self) {
        self.router.lock().forget(self.token);
    }
}

/// The inbox of one connection.
pub(super) struct Router {
    root: String,
    table: Mutex<Table>,
}

impl Router {
    /// Creates a router. `root` is unique to this connection, so every message below it is for this router.
    pub(super) fn new(root: String) -> Arc<Self> {
        Arc::new(Self { root, table: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pattern of the single subscription that receives every reply.
    pub(super) fn pattern(&self) -> String {
        format!("{}.*", self.root)
    }

    /// Returns a subject below the root that no reply uses.
    pub(super) fn private(&self, leaf: &str) -> String {
        format!("{}.own.{leaf}", self.root)
    }

    fn subject(&self, token: u64) -> String {
        format!("{}.{token}", self.root)
    }

    /// Registers a waiter from now until `until`. Returns the reply subject.
    pub(super) fn register(&self, waiter: RouterWaiter, until: Instant) -> String {
        let token = self.lock().insert(waiter, until);
        self.subject(token)
    }

    /// Registers a waiter for one reply, until `until` or until the returned value is dropped.
    pub(super) fn place(&self, until: Instant) -> PendingReply<'_> {
        let (sender, reply) = oneshot::channel();
        let token = self.lock().insert(RouterWaiter::One(sender), until);
        PendingReply { router: self, token, reply }
    }

    /// Drops all waiters after the connection was lost, so that they fail now instead of at their deadlines.
    pub(super) fn abandon(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }

    /// Returns the number of waiters.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Dispatches replies until the connection is closed. Removes expired waiters every `period`.
    pub(super) async fn run(self: Arc<Self>, inbox: Subscriber, period: Duration) {
        let mut tick = tokio::time::interval(period);
        // replies arrive in bursts; a chunk takes the lock once
        let mut inbox = inbox.ready_chunks(CHUNK);
        loop {
            tokio::select! {
                messages = inbox.next() => {
                    let Some(messages) = messages else { break };
                    let mut table = self.lock();
                    for message in messages {
                        if !table.deliver(message) {
                            tracing::trace!("a reply came after its deadline");
                        }
                    }
                }
                _ = tick.tick() => self.lock().sweep(Instant::now()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(subject: &str) -> Raw {
        Raw {
            subject: subject.into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn questions_that_are_never_answered_leave_nothing_behind() {
        let router = Router::new("r".to_owned());
        let now = Instant::now();
        for _ in 0..1000 {
            router.register(RouterWaiter::One(oneshot::channel().0), now + Duration::from_secs(1));
        }
        let lasting = router.register(RouterWaiter::One(oneshot::channel().0), now + Duration::from_secs(9));
        assert_eq!(router.waiting(), 1001);
        router.lock().sweep(now + Duration::from_secs(2));
        assert_eq!(router.waiting(), 1);
        assert!(router.lock().deliver(reply(&lasting)));
        assert_eq!(router.waiting(), 0);
    }

    #[test]
    fn an_answer_reaches_only_the_one_who_asked() {
        let router = Router::new("r".to_owned());
        let until = Instant::now() + Duration::from_secs(9);
        let (first, mut first_reply) = oneshot::channel();
        let (second, mut second_reply) = oneshot::channel();
        router.register(RouterWaiter::One(first), until);
        let subject = router.register(RouterWaiter::One(second), until);
        assert!(router.lock().deliver(reply(&subject)));
        assert!(second_reply.try_recv().is_ok());
        assert!(first_reply.try_recv().is_err());
        assert!(!router.lock().deliver(reply(&subject)), "no waiter for a second reply");
        assert!(!router.lock().deliver(reply("r.not-a-token")));
    }

    #[test]
    fn whoever_stops_waiting_leaves_nothing_behind() {
        let router = Router::new("r".to_owned());
        drop(router.place(Instant::now() + Duration::from_secs(3600)));
        assert_eq!(router.waiting(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_learns_at_once_that_the_connection_was_lost() {
        let router = Router::new("r".to_owned());
        let (sender, reply) = oneshot::channel();
        router.register(RouterWaiter::One(sender), Instant::now() + Duration::from_secs(9));
        router.abandon();
        assert!(reply.await.is_err());
    }
}
