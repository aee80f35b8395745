//! The pages of this node, indexed by every level.
//!
//! Owns: the index from page, session, connection, user and topic to pages. Never waits for a socket: a push appends to
//! outboxes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pagewire_cluster::id::{Key, Scope};
use pagewire_cluster::table;
use pagewire_cluster::wire::PushCounts;
use tokio::sync::oneshot;

use super::arrivals::Arrivals;
use super::page::{Membership, Page, PushOutcome};
use crate::protocol::FrameBody;

#[derive(Default)]
struct Index {
    pages: HashMap<Key, Arc<Page>>,
    by_session: HashMap<Key, Vec<Arc<Page>>>,
    by_connection: HashMap<Key, Vec<Arc<Page>>>,
    by_user: HashMap<Arc<str>, Vec<Arc<Page>>>,
    by_topic: HashMap<Arc<str>, Vec<Arc<Page>>>,
}

fn add<K: Eq + Hash>(members: &mut HashMap<K, Vec<Arc<Page>>>, scope: K, page: &Arc<Page>) {
    // most scopes have one page, so do not reserve capacity for four
    members.entry(scope).or_insert_with(|| Vec::with_capacity(1)).push(page.clone());
}

fn remove<K, Q>(members: &mut HashMap<K, Vec<Arc<Page>>>, scope: &Q, page: Key)
where
    K: Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    if let Some(pages) = members.get_mut(scope) {
        pages.retain(|other| other.key() != page);
        if pages.is_empty() {
            members.remove(scope);
            table::shrink(members);
        }
    }
}

impl Index {
    fn remove(&mut self, page: &Page) {
        self.pages.remove(&page.key());
        table::shrink(&mut self.pages);
        remove(&mut self.by_session, &page.session().key, page.key());
        remove(&mut self.by_connection, &page.connection().key, page.key());
        let Membership { user, topics, .. } = page.place();
        if let Some(user) = user {
            remove(&mut self.by_user, &*user, page.key());
        }
        for topic in topics {
            remove(&mut self.by_topic, &*topic, page.key());
        }
    }
}

/// Result of a push on this node: pages reached, pages buffered, and forwards still in flight.
#[derive(Debug, Default)]
pub struct LocalPush {
    reach: PushCounts,
    forwarded: Vec<oneshot::Receiver<PushCounts>>,
}

impl LocalPush {
    pub(super) fn count(&mut self, outcome: PushOutcome) {
        match outcome {
            PushOutcome::Reached => self.reach.reached += 1,
            PushOutcome::Held => self.reach.held += 1,
            PushOutcome::Forwarded(reply) => self.forwarded.push(reply),
            PushOutcome::Missed => {}
        }
    }

    /// The counts, after the other nodes have reported theirs.
    pub async fn await_forwarded(self) -> PushCounts {
        let mut reach = self.reach;
        for reply in self.forwarded {
            // an error means that the other node did not reply, so no page there is known to have received it
            reach += reply.await.unwrap_or_default();
        }
        reach
    }
}

/// Whether a page that left was the last page of its session or connection on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastOf {
    pub(super) of_session: bool,
    pub(super) of_connection: bool,
}

/// All pages of this node.
#[derive(Default)]
pub struct Hub {
    index: RwLock<Index>,
    pub(super) arrivals: Arrivals,
}

impl Hub {
    /// Each change leaves the index consistent, so a poisoned lock is still usable.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page of this node.
    pub fn page(&self, key: Key) -> Option<Arc<Page>> {
        self.read().pages.get(&key).cloned()
    }

    /// The number of pages on this node, with a socket or in their resume window.
    pub fn len(&self) -> usize {
        self.read().pages.len()
    }

    /// Whether this node holds no page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pages of a scope.
    pub fn pages(&self, scope: &Scope) -> Vec<Arc<Page>> {
        let mut pages = Vec::new();
        self.visit(scope, |page| pages.push(page.clone()));
        pages
    }

    /// Whether this node holds a page of a scope.
    pub(super) fn has_pages(&self, scope: &Scope) -> bool {
        let mut found = false;
        self.visit(scope, |page| found |= page.is_owned());
        found
    }

    /// Adds one frame to the outbox of every page of a scope, except the pages that a sender with all rows up to `seen`
    /// counts at another node. The frame is encoded once and its bytes are shared.
    pub fn push(&self, scope: &Scope, seen: Option<u64>, tail: &FrameBody) -> LocalPush {
        let mut pushed = LocalPush::default();
        self.visit(scope, |page| {
            pushed.count(match scope {
                // the address of the page names its node
                Scope::Page(_) => page.push(tail),
                _ => page.push_scoped(seen, tail),
            });
        });
        pushed
    }

    fn visit(&self, scope: &Scope, visitor: impl FnMut(&Arc<Page>)) {
        let index = self.read();
        match scope {
            Scope::Page(address) => index.pages.get(&address.key).into_iter().for_each(visitor),
            Scope::Session(key) => index.by_session.get(key).into_iter().flatten().for_each(visitor),
            Scope::Connection(key) => index.by_connection.get(key).into_iter().flatten().for_each(visitor),
            Scope::Topic(topic) => index.by_topic.get(topic.as_str()).into_iter().flatten().for_each(visitor),
            Scope::User(user) => index.by_user.get(user.as_str()).into_iter().flatten().for_each(visitor),
            Scope::All => index.pages.values().for_each(visitor),
        }
    }

    /// Visits the given pages, as far as they are on this node.
    pub(super) fn each(&self, pages: &[Key], mut visitor: impl FnMut(&Arc<Page>)) {
        let index = self.read();
        pages.iter().filter_map(|page| index.pages.get(page)).for_each(&mut visitor);
    }

    /// Adds a page and removes the copy of an earlier ownership, if this node still has one.
    pub(super) fn insert(&self, page: Arc<Page>) {
        let mut index = self.write();
        if let Some(old) = index.pages.get(&page.key()).cloned() {
            index.remove(&old);
        }
        add(&mut index.by_session, page.session().key, &page);
        add(&mut index.by_connection, page.connection().key, &page);
        let Membership { user, topics, .. } = page.place();
        if let Some(user) = user {
            add(&mut index.by_user, user, &page);
        }
        for topic in topics {
            add(&mut index.by_topic, topic, &page);
        }
        index.pages.insert(page.key(), page);
    }

    /// Removes a page; `None` when the page is not here any more or has come back meanwhile.
    pub(super) fn remove(&self, page: &Arc<Page>) -> Option<LastOf> {
        let mut index = self.write();
        index.pages.get(&page.key()).filter(|held| Arc::ptr_eq(held, page))?;
        index.remove(page);
        // a page that has moved on belongs to another node
        let none_here =
            |pages: Option<&Vec<Arc<Page>>>| !pages.into_iter().flatten().any(|page| page.is_owned());
        Some(LastOf {
            of_session: none_here(index.by_session.get(&page.session().key)),
            of_connection: none_here(index.by_connection.get(&page.connection().key)),
        })
    }

    /// Sets the topics of a page. `label` runs under the index lock, so that no push sees the page with a partly
    /// updated index. `label` returns `false` when a later row is already known; then nothing changes.
    pub(super) fn set_topics(&self, page: &Arc<Page>, topics: Vec<Arc<str>>, label: impl FnOnce() -> bool) {
        let mut index = self.write();
        if !label() {
            return;
        }
        let here = index.pages.contains_key(&page.key());
        for topic in page.place().topics {
            remove(&mut index.by_topic, &*topic, page.key());
        }
        for topic in topics.iter().filter(|_| here) {
            add(&mut index.by_topic, topic.clone(), page);
        }
        page.set_topics(topics);
    }

    /// Assigns an anonymous page to a user. `label` runs under the index lock, so that no push sees the page with a
    /// partly updated index.
    pub(super) fn identify(&self, page: &Arc<Page>, user: &Arc<str>, label: impl FnOnce() -> bool) {
        let mut index = self.write();
        // add the page only once, although two writers may learn of the user
        let known = page.user().is_some();
        if label() && !known && index.pages.contains_key(&page.key()) {
            add(&mut index.by_user, user.clone(), page);
        }
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::{Address, NodeNumber};

    use super::super::outbox::Budget;
    use super::*;

    fn page(number: u128) -> Arc<Page> {
        let at = Address { key: Key::from_bits(number), node: NodeNumber::new(1).unwrap() };
        let user = Some(format!("user-{number}").into());
        let place = Membership::new(at, at, user);
        Arc::new(Page::new(at.key, place, 0, 1, 1, Budget { outbox: 400, replay: 4000 }))
    }

    #[test]
    fn the_index_gives_back_what_a_crowd_took_when_the_crowd_is_gone() {
        let hub = Hub::default();
        let crowd: Vec<_> = (0..10_000).map(page).collect();
        crowd.iter().for_each(|page| hub.insert(page.clone()));
        assert!(crowd.iter().all(|page| hub.remove(page).is_some()));
        let Index { pages, by_session, by_connection, by_user, .. } = &*hub.read();
        let room = [pages.capacity(), by_session.capacity(), by_connection.capacity(), by_user.capacity()];
        assert!(room.iter().all(|room| *room < 5_000), "{room:?}");
    }
}
