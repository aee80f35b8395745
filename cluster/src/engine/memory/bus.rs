//! The Bus of one process: when `publish` returns, the message is in the queues of its readers.
//!
//! Owns: listeners and pending requests. Never: the match between listeners and subjects (`routes`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::routes::{Listener, Routes};
use crate::engine::bus::{SubscriptionSender, subscription};
use crate::engine::{BusEvent, Gap, MAX_PAYLOAD, Message, PublishError, RequestError, Subscription};

/// Prefix of reply subjects; the number of the request follows.
const INBOX: &str = "_INBOX.";

struct Route {
    feed: SubscriptionSender,
    /// Receives no messages; see `Bus::cut`.
    #[cfg(feature = "simulation")]
    cut: bool,
}

impl Route {
    fn new(feed: SubscriptionSender) -> Self {
        Self {
            feed,
            #[cfg(feature = "simulation")]
            cut: false,
        }
    }

    fn is_open(&self) -> bool {
        #[cfg(feature = "simulation")]
        if self.cut {
            return false;
        }
        !self.feed.is_closed()
    }
}

#[derive(Default)]
struct BusState {
    routes: Routes,
    lines: BTreeMap<Listener, Route>,
    requests: u64,
    inboxes: BTreeMap<u64, oneshot::Sender<Message>>,
}

#[derive(Clone, Default)]
pub(in crate::engine) struct Bus(Arc<Mutex<BusState>>);

impl Bus {
    /// Locks the state. The state is consistent after every step, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, BusState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers to the current listeners. Returns their number. `lost` decides for each listener whether the message is
    /// lost on its way; the listener gets [`Gap::Reconnect`] instead.
    pub(in crate::engine) fn publish(
        &self,
        message: Message,
        mut lost: impl FnMut() -> bool,
    ) -> Result<usize, PublishError> {
        if message.payload.len() > MAX_PAYLOAD {
            return Err(PublishError::TooLarge);
        }
        let mut state = self.lock();
        let BusState { routes, lines, inboxes, .. } = &mut *state;
        if let Some(number) = message.subject.strip_prefix(INBOX) {
            let inbox = number.parse().ok().and_then(|number: u64| inboxes.remove(&number));
            // a reply without a waiting request is lost like any message
            let arrives = inbox.is_some_and(|inbox| !lost() && inbox.send(message).is_ok());
            return Ok(arrives.into());
        }
        let is_open = |listener: Listener| lines.get(&listener).is_some_and(Route::is_open);
        let recipients = routes.recipients(&message.subject, is_open);
        for line in recipients.iter().filter_map(|listener| lines.get(listener)) {
            line.feed.push(match lost() {
                false => BusEvent::Message(message.clone()),
                true => BusEvent::Gap(Gap::Reconnect),
            });
        }
        Ok(recipients.len())
    }

    /// Adds a listener, which receives messages from now on.
    pub(in crate::engine) fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> (Listener, Subscription) {
        let (feed, subscription) = subscription(max_bytes);
        let mut state = self.lock();
        let BusState { routes, lines, .. } = &mut *state;
        lines.retain(|_, line| !line.feed.is_closed());
        routes.retain(|listener| lines.contains_key(&listener));
        let listener = routes.add(pattern, group);
        lines.insert(listener, Route::new(feed));
        (listener, subscription)
    }

    /// Simulates a lost connection: these listeners receive nothing until they are healed.
    #[cfg(feature = "simulation")]
    pub(in crate::engine) fn cut(&self, listeners: &[Listener]) {
        let mut state = self.lock();
        for listener in listeners {
            if let Some(line) = state.lines.get_mut(listener) {
                line.cut = true;
            }
        }
    }

    /// Simulates a restored connection: these listeners receive a gap, and then messages again.
    #[cfg(feature = "simulation")]
    pub(in crate::engine) fn heal(&self, listeners: &[Listener]) {
        let mut state = self.lock();
        for listener in listeners {
            if let Some(line) = state.lines.get_mut(listener) {
                line.cut = false;
                line.feed.push(BusEvent::Gap(Gap::Reconnect));
            }
        }
    }

    /// Sends a request and waits for its reply.
    pub(in crate::engine) async fn request(
        &self,
        mut message: Message,
        within: Duration,
        lost: impl FnMut() -> bool,
    ) -> Result<Message, RequestError> {
        let (sender, reply) = oneshot::channel();
        let number = {
            let mut state = self.lock();
            state.requests += 1;
            let number = state.requests;
            state.inboxes.insert(number, sender);
            number
        };
        let _place = ListenerSlot { bus: self.clone(), number };
        message.reply = Some(format!("{INBOX}{number}"));
        match self.publish(message, lost) {
            Ok(0) => Err(RequestError::NoResponder),
            Ok(_) => timeout(within, reply).await.ok().and_then(Result::ok).ok_or(RequestError::Deadline),
            Err(PublishError::TooLarge) => Err(RequestError::TooLarge),
            Err(PublishError::Full | PublishError::Down) => Err(RequestError::Down),
        }
    }
}

/// The registration of an inbox. Dropping it removes the inbox.
struct ListenerSlot {
    bus: Bus,
    number: u64,
}

impl Drop for ListenerSlot {
    fn drop(&mut self) {
        self.bus.lock().inboxes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_leaves_nothing_behind() {
        let bus = Bus::default();
        let (_, _subscription) = bus.subscribe("a", None, 100);
        for _ in 0..3 {
            let lost = bus.request(Message::new("a", ""), Duration::ZERO, || false).await;
            assert_eq!(lost, Err(RequestError::Deadline));
            assert!(bus.request(Message::new("b", ""), Duration::ZERO, || false).await.is_err());
        }
        assert!(bus.lock().inboxes.is_empty());
    }

    #[tokio::test]
    async fn a_cut_listener_learns_of_the_gap_when_it_is_healed() {
        let bus = Bus::default();
        let (listener, mut subscription) = bus.subscribe("a", None, 100);
        bus.cut(&[listener]);
        assert_eq!(bus.publish(Message::new("a", "1"), || false), Ok(0));
        bus.heal(&[listener]);
        assert_eq!(bus.publish(Message::new("a", "2"), || false), Ok(1));
        assert_eq!(subscription.next().await, Some(BusEvent::Gap(Gap::Reconnect)));
        assert_eq!(subscription.next().await, Some(BusEvent::Message(Message::new("a", "2"))));
    }

    #[test]
    fn dropped_subscriptions_are_forgotten() {
        let bus = Bus::default();
        for _ in 0..3 {
            drop(bus.subscribe("a", None, 100));
        }
        let (_, _kept) = bus.subscribe("a.*", None, 100);
        assert_eq!(bus.lock().lines.len(), 1);
    }
}
