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
    /// Receives no messages; see [`Bus::cut`].
    cut: bool,
}

#[derive(Default)]
struct BusState {
    routes: Routes,
    lines: BTreeMap<Listener, Route>,
    asked: u64,
    inboxes: BTreeMap<u64, oneshot::Sender<Message>>,
}

/// The fate of one message on its way to one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum DeliveryFault {
    /// The message arrives.
    Arrives,
    /// The message is lost; the listener gets [`Gap::Reconnect`] instead.
    Lost,
}

#[derive(Clone, Default)]
pub(in crate::engine) struct Bus(Arc<Mutex<BusState>>);

impl Bus {
    /// Locks the state. The state is consistent after every step, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, BusState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers to the current listeners. Returns their number.
    pub(in crate::engine) fn publish(
        &self,
        message: Message,
        mut fate: impl FnMut() -> DeliveryFault,
    ) -> Result<usize, PublishError> {
        if message.payload.len() > MAX_PAYLOAD {
            return Err(PublishError::TooLarge);
        }
        let mut state = self.lock();
        let BusState { routes, lines, inboxes, .. } = &mut *state;
        if let Some(number) = message.subject.strip_prefix(INBOX) {
            let inbox = number.parse().ok().and_then(|number: u64| inboxes.remove(&number));
            // a reply without a waiting request is lost like any message
            let arrives =
                inbox.is_some_and(|inbox| fate() == DeliveryFault::Arrives && inbox.send(message).is_ok());
            return Ok(arrives.into());
        }
        let hears =
            |listener: Listener| lines.get(&listener).is_some_and(|line| !line.cut && !line.feed.is_closed());
        let recipients = routes.recipients(&message.subject, hears);
        for line in recipients.iter().filter_map(|listener| lines.get(listener)) {
            line.feed.push(match fate() {
                DeliveryFault::Arrives => BusEvent::Message(message.clone()),
                DeliveryFault::Lost => BusEvent::Gap(Gap::Reconnect),
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
        lines.insert(listener, Route { feed, cut: false });
        (listener, subscription)
    }

    /// Simulates a lost connection: these listeners receive nothing until they are healed.
    pub(in crate::engine) fn cut(&self, listeners: &[Listener]) {
        let mut state = self.lock();
        for listener in listeners {
            if let Some(line) = state.lines.get_mut(listener) {
                line.cut = true;
            }
        }
    }

    /// Simulates a restored connection: these listeners receive a gap, and then messages again.
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
        fate: impl FnMut() -> DeliveryFault,
    ) -> Result<Message, RequestError> {
        let (sender, answer) = oneshot::channel();
        let number = {
            let mut state = self.lock();
            state.asked += 1;
            let number = state.asked;
            state.inboxes.insert(number, sender);
            number
        };
        let _place = ListenerSlot { bus: self.clone(), number };
        message.reply = Some(format!("{INBOX}{number}"));
        match self.publish(message, fate) {
            Ok(0) => Err(RequestError::NoResponder),
            Ok(_) => timeout(within, answer).await.ok().and_then(Result::ok).ok_or(RequestError::Deadline),
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

    fn always() -> DeliveryFault {
        DeliveryFault::Arrives
    }

    #[tokio::test]
    async fn a_request_leaves_nothing_behind() {
        let bus = Bus::default();
        let (_, _subscription) = bus.subscribe("a", None, 100);
        for _ in 0..3 {
            let lost = bus.request(Message::new("a", ""), Duration::ZERO, always).await;
            assert_eq!(lost, Err(RequestError::Deadline));
            assert!(bus.request(Message::new("b", ""), Duration::ZERO, always).await.is_err());
        }
        assert!(bus.lock().inboxes.is_empty());
    }

    #[tokio::test]
    async fn a_cut_listener_learns_of_the_gap_when_it_is_healed() {
        let bus = Bus::default();
        let (listener, mut subscription) = bus.subscribe("a", None, 100);
        bus.cut(&[listener]);
        assert_eq!(bus.publish(Message::new("a", "1"), always), Ok(0));
        bus.heal(&[listener]);
        assert_eq!(bus.publish(Message::new("a", "2"), always), Ok(1));
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
