//! The Bus of one process: every message is in its readers' queues when `publish` returns.
//!
//! Owns: listeners and waiting requests. Never: who fits a subject (`routes`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::routes::{Listener, Routes};
use crate::engine::bus::{Feed, subscription};
use crate::engine::{Gap, MAX_PAYLOAD, Message, PublishError, Received, Replies, RequestError, Subscription};

/// Reply subjects are this and the number of the request.
const INBOX: &str = "_INBOX.";
/// Unread answers of one `request_many`; more are lost.
const MAX_ANSWERS: usize = 1024;

struct Line {
    feed: Feed,
    /// Hears nothing; see [`Bus::cut`].
    cut: bool,
}

#[derive(Default)]
struct State {
    routes: Routes,
    lines: BTreeMap<Listener, Line>,
    asked: u64,
    inboxes: BTreeMap<u64, mpsc::Sender<Message>>,
}

/// What happens to one message on its way to one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Fate {
    /// It arrives.
    Arrives,
    /// The listener gets [`Gap::Reconnect`] instead.
    Lost,
}

#[derive(Clone, Default)]
pub(in crate::engine) struct Bus(Arc<Mutex<State>>);

impl Bus {
    /// Every step leaves the state consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers to whoever listens now; how many that were.
    pub(in crate::engine) fn publish(
        &self,
        message: Message,
        mut fate: impl FnMut() -> Fate,
    ) -> Result<usize, PublishError> {
        if message.payload.len() > MAX_PAYLOAD {
            return Err(PublishError::TooLarge);
        }
        let mut state = self.lock();
        let State { routes, lines, inboxes, .. } = &mut *state;
        if let Some(number) = message.subject.strip_prefix(INBOX) {
            let inbox = number.parse().ok().and_then(|number: u64| inboxes.get(&number));
            // an answer that nobody waits for, or one too many, is lost like any message
            let arrives =
                |inbox: &&mpsc::Sender<Message>| fate() == Fate::Arrives && inbox.try_send(message).is_ok();
            return Ok(inbox.filter(arrives).is_some().into());
        }
        let hears =
            |listener: Listener| lines.get(&listener).is_some_and(|line| !line.cut && !line.feed.is_closed());
        let recipients = routes.recipients(&message.subject, hears);
        for line in recipients.iter().filter_map(|listener| lines.get(listener)) {
            line.feed.push(match fate() {
                Fate::Arrives => Received::Message(message.clone()),
                Fate::Lost => Received::Gap(Gap::Reconnect),
            });
        }
        Ok(recipients.len())
    }

    /// Listens from now on.
    pub(in crate::engine) fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> (Listener, Subscription) {
        let (feed, subscription) = subscription(max_bytes);
        let mut state = self.lock();
        let State { routes, lines, .. } = &mut *state;
        lines.retain(|_, line| !line.feed.is_closed());
        routes.retain(|listener| lines.contains_key(&listener));
        let listener = routes.add(pattern, group);
        lines.insert(listener, Line { feed, cut: false });
        (listener, subscription)
    }

    /// What a lost connection does: these listeners hear nothing until they are healed.
    pub(in crate::engine) fn cut(&self, listeners: &[Listener]) {
        let mut state = self.lock();
        for listener in listeners {
            if let Some(line) = state.lines.get_mut(listener) {
                line.cut = true;
            }
        }
    }

    /// The connection is back: these listeners learn of the gap and hear again.
    pub(in crate::engine) fn heal(&self, listeners: &[Listener]) {
        let mut state = self.lock();
        for listener in listeners {
            if let Some(line) = state.lines.get_mut(listener) {
                line.cut = false;
                line.feed.push(Received::Gap(Gap::Reconnect));
            }
        }
    }

    /// Sends a question whose answers go into an inbox.
    fn ask(
        &self,
        mut message: Message,
        answers: usize,
        fate: impl FnMut() -> Fate,
    ) -> Result<Inbox, RequestError> {
        let (sender, receiver) = mpsc::channel(answers);
        let number = {
            let mut state = self.lock();
            state.asked += 1;
            let number = state.asked;
            state.inboxes.insert(number, sender.clone());
            number
        };
        let inbox = Inbox { receiver, place: Place { bus: self.clone(), number }, sender };
        message.reply = Some(format!("{INBOX}{number}"));
        match self.publish(message, fate) {
            Ok(0) => Err(RequestError::NoResponder),
            Ok(_) => Ok(inbox),
            Err(PublishError::TooLarge) => Err(RequestError::TooLarge),
            Err(PublishError::Full | PublishError::Down) => Err(RequestError::Down),
        }
    }

    /// One answer.
    pub(in crate::engine) async fn request(
        &self,
        message: Message,
        within: Duration,
        fate: impl FnMut() -> Fate,
    ) -> Result<Message, RequestError> {
        let mut inbox = self.ask(message, 1, fate)?;
        timeout(within, inbox.receiver.recv()).await.ok().flatten().ok_or(RequestError::Deadline)
    }

    /// Every answer that arrives in time.
    pub(in crate::engine) fn request_many(
        &self,
        message: Message,
        within: Duration,
        fate: impl FnMut() -> Fate,
    ) -> Result<Replies, RequestError> {
        let Inbox { receiver, place, sender } = self.ask(message, MAX_ANSWERS, fate)?;
        let until = Instant::now() + within;
        tokio::spawn(async move {
            // whichever comes first: the reader drops its end, or its time is over
            let _ = tokio::time::timeout_at(until, sender.closed()).await;
            drop(place);
        });
        Ok(Replies { answers: receiver, until })
    }
}

/// Where the answers to one question arrive.
struct Inbox {
    receiver: mpsc::Receiver<Message>,
    place: Place,
    sender: mpsc::Sender<Message>,
}

/// The row of an inbox; dropping it forgets the inbox.
struct Place {
    bus: Bus,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bus.lock().inboxes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always() -> Fate {
        Fate::Arrives
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
        assert_eq!(subscription.next().await, Some(Received::Gap(Gap::Reconnect)));
        assert_eq!(subscription.next().await, Some(Received::Message(Message::new("a", "2"))));
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
