//! The pages whose rows this node is writing.
//!
//! Owns: which pages may be about to come. Never: the pages, or their rows. Other nodes may see the row of a page, and send
//! messages for it here, before this node knows that its write has succeeded. Such a message waits until the page is here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pagewire_cluster::id::{Key, Scope};
use tokio::sync::Notify;

use super::page::Membership;

/// The pages that may be about to come to this node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<ArrivalList>);

#[derive(Debug, Default)]
struct ArrivalList {
    pages: Mutex<Vec<ArrivingPage>>,
    changed: Notify,
}

#[derive(Debug)]
struct ArrivingPage {
    page: Key,
    place: Membership,
    /// A message has waited long enough for it, so that no later one does.
    late: bool,
}

/// A page that may be about to come. Dropped when the page is here, or does not come.
pub(super) struct Arrival {
    list: Arrivals,
    page: Key,
}

impl ArrivingPage {
    fn is_in(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Page(address) => self.page == address.key,
            Scope::Session(key) => self.place.session.key == *key,
            Scope::Connection(key) => self.place.connection.key == *key,
            Scope::User(user) => self.place.user.as_deref() == Some(user.as_str()),
            Scope::Topic(topic) => self.place.topics.iter().any(|own| **own == *topic.as_str()),
            Scope::All => true,
        }
    }
}

impl Arrivals {
    /// Each change leaves the list consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, Vec<ArrivingPage>> {
        self.0.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the row of a page is about to be written.
    pub(super) fn begin(&self, page: Key, place: &Membership) -> Arrival {
        self.lock().push(ArrivingPage { page, place: place.clone(), late: false });
        Arrival { list: self.clone(), page }
    }

    /// Whether a page of a scope may be about to come.
    pub(super) fn concern(&self, scope: &Scope) -> bool {
        self.lock().iter().any(|arriving| !arriving.late && arriving.is_in(scope))
    }

    /// Resolves when no page of a scope is about to come, or after `within`. A page that takes longer delays no later
    /// message.
    pub(super) async fn settled(&self, scope: &Scope, within: Duration) {
        if tokio::time::timeout(within, self.all_here(scope)).await.is_err() {
            self.lock().iter_mut().filter(|page| page.is_in(scope)).for_each(|page| page.late = true);
        }
    }

    async fn all_here(&self, scope: &Scope) {
        loop {
            // created before the check, so that no change is missed between the two
            let changed = self.0.changed.notified();
            if !self.concern(scope) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut pages = self.list.lock();
        if let Some(at) = pages.iter().position(|arriving| arriving.page == self.page) {
            pages.swap_remove(at);
        }
        drop(pages);
        self.list.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use pagewire_cluster::id::{Address, NodeNumber};

    use super::*;

    #[test]
    fn a_message_waits_for_the_pages_of_its_scope_and_for_no_other() {
        let at = |bits| Address { key: Key::from_bits(bits), node: NodeNumber::new(1).unwrap() };
        let (user, topics) = (Some("ann".into()), vec!["news".into()]);
        let place = Membership { topics, ..Membership::new(at(2), at(3), user) };
        let arrivals = Arrivals::default();
        let first = arrivals.begin(Key::from_bits(1), &place);
        let second = arrivals.begin(Key::from_bits(1), &place);
        for (scope, waits) in [
            (Scope::Page(at(1)), true),
            (Scope::Page(at(9)), false),
            (Scope::Session(at(2).key), true),
            (Scope::Connection(at(3).key), true),
            (Scope::User("ann".into()), true),
            (Scope::User("bob".into()), false),
            (Scope::Topic("news".into()), true),
            (Scope::All, true),
        ] {
            assert_eq!(arrivals.concern(&scope), waits, "{scope:?}");
        }
        let mut waiting = Box::pin(arrivals.all_here(&Scope::All));
        let mut context = Context::from_waker(Waker::noop());
        drop(first);
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "it is written twice");
        drop(second);
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_takes_too_long_delays_one_message_only() {
        let at = Address { key: Key::from_bits(2), node: NodeNumber::new(1).unwrap() };
        let place = Membership::new(at, at, None);
        let arrivals = Arrivals::default();
        let _stuck = arrivals.begin(Key::from_bits(1), &place);
        let (start, within) = (tokio::time::Instant::now(), Duration::from_millis(250));
        arrivals.settled(&Scope::All, within).await;
        assert_eq!(start.elapsed(), within);
        arrivals.settled(&Scope::All, within).await;
        assert_eq!(start.elapsed(), within);
        assert!(!arrivals.concern(&Scope::Session(at.key)));
    }
}
