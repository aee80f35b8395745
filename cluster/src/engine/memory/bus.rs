//! The Bus of one process: when `publish` returns, the message is in the queues of its readers.
//!
//! Owns: listeners and pending requests. Never: the match between listeners and subjects (`routes`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::routes::{Listener, Routes};
use crate::engine::bus::{SubscriptionSender, subscription};
use crate::engine::{BusEvent, Gap, MAX_PAYLOAD, Message, PublishError, Replies, RequestError, Subscription};

/// Prefix of reply subjects; the number of the request follows.
const INBOX: &str = "_INBOX.";
/// The most unread replies of one `request_many`. Further replies are lost.
const MAX_ANSWERS: usize = 1024;

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
    inboxes: BTreeMap<u64, mpsc::Sender<Message>>,
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
            let inbox = number.parse().ok().and_then(|number: u64| inboxes.get(&number));
            // a reply without a waiting request, or beyond the limit, is lost like any message
            let arrives = |inbox: &&mpsc::Sender<Message>| {
                fate() == DeliveryFault::Arrives && inbox.try_send(message).is_ok()
            };
            return Ok(inbox.filter(arrives).is_some().into());
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

    /// Sends a request and creates the inbox for its replies.
    fn ask(
        &self,
        mut message: Message,
        answers: usize,
        fate: impl FnMut() -> DeliveryFault,
    ) -> Result<ReplyInbox, RequestError> {
        let (sender, receiver) = mpsc::channel(answers);
        let number = {
            let mut state = self.lock();
            state.asked += 1;
            let number = state.asked;
            state.inboxes.insert(number, sender.clone());
            number
        };
        let inbox = ReplyInbox { receiver, place: ListenerSlot { bus: self.clone(), number }, sender };
        message.reply = Some(format!("{INBOX}{number}"));
        match self.publish(message, fate) {
            Ok(0) => Err(RequestError::NoResponder),
            Ok(_) => Ok(inbox),
            Err(PublishError::TooLarge) => Err(RequestError::TooLarge),
            Err(PublishError::Full | PublishError::Down) => Err(RequestError::Down),
        }
    }

    /// Sends a request and waits for one reply.
    pub(in crate::engine) async fn request(
        &self,
        message: Message,
        within: Duration,
        fate: impl FnMut() -> DeliveryFault,
    ) -> Result<Message, RequestError> {
        let mut inbox = self.ask(message, 1, fate)?;
        timeout(within, inbox.receiver.recv()).await.ok().flatten().ok_or(RequestError::Deadline)
    }

    /// Sends a request and yields every reply that arrives in time.
    pub(in crate::engine) fn request_many(
        &self,
        message: Message,
        within: Duration,
        fate: impl FnMut() -> DeliveryFault,
    ) -> Result<Replies, RequestError> {
        let ReplyInbox { receiver, place, sender } = self.ask(message, MAX_ANSWERS, fate)?;
        let until = Instant::now() + within;
        tokio::spawn(async move {
            // ends when the reader drops its end or the time is over
            let _ = tokio::time::timeout_at(until, sender.closed()).await;
            drop(place);
        });
        Ok(Replies { answers: receiver, until })
    }
}

/// The inbox for the replies to one request.
struct ReplyInbox {
    receiver: mpsc::Receiver<Message>,
    place: ListenerSlot,
    sender: mpsc::Sender<Message>,
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
            drop(bus.request_many(Message::new("a", ""), Duration::from_secs(60), always).unwrap());
        }
        while !bus.lock().inboxes.is_empty() {
            tokio::task::yield_now().await;
        }
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
