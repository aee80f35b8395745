//! The handle on all trees.
//!
//! Owns: the calls of the engine that writers ask for, and who waits for an answer. Never: a decision (`writer`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::draft::{Act, Write};
use super::feed::{Delivery, Feed, Wish};
use super::record::Stored;
use super::shelf::Shelf;
use super::writer::{Call, Found, Step, Writer};
use super::{Locator, Owner, Path, Refusal};
use crate::engine::{
    Bucket, Consistency, Down, Engine, Expect, Kv, Op, Put, WatchEvent, WatchMode, WriteError,
};
use crate::id::Key;
use crate::subject::state_key;

/// How many bytes of trees a process remembers, beside those that are being written.
const SHELF: usize = 32 * 1024 * 1024;

type Ticket = oneshot::Sender<Result<u64, Refusal>>;

/// The trees of the cluster, as one process uses them. Cheap to clone.
#[derive(Clone)]
pub struct States {
    shared: Arc<Shared>,
}

/// What was read at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The tree's revision; 0 for a tree that does not exist.
    pub revision: u64,
    /// A value or a branch; `None` when nothing stands there.
    pub value: Option<Value>,
}

pub(super) struct Shared {
    pub(super) store: Kv,
    desk: Mutex<Desk>,
    wishes: mpsc::UnboundedSender<Wish>,
    /// Until the feed runs.
    unheard: Mutex<Option<mpsc::UnboundedReceiver<Wish>>>,
}

/// The trees that are being written, and those that were.
pub(super) struct Desk {
    active: HashMap<Arc<str>, Arc<Mutex<Place>>>,
    pub(super) shelf: Shelf,
}

/// A writer at work.
struct Place {
    writer: Writer<Ticket>,
    /// Who made its calls has not left yet, and takes the next one along.
    lingers: bool,
    next: Option<Call>,
    /// It is not on the desk any more.
    retired: bool,
}

impl Place {
    fn read(&mut self, found: Result<Found, Down>) -> Step<Ticket> {
        let step = self.writer.read(found, Op::random());
        self.after(step)
    }

    fn wrote(&mut self, outcome: Result<u64, WriteError>) -> Step<Ticket> {
        let step = self.writer.wrote(outcome, Op::random());
        self.after(step)
    }

    /// What a writer wants after an answer. One that wants nothing may be asked again at once, by whoever was answered:
    /// to go on costs less than to begin anew.
    fn after(&mut self, step: Step<Ticket>) -> Step<Ticket> {
        self.lingers = step.call.is_none();
        step
    }
}

/// A poisoned lock is still usable: every step leaves what it holds consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    /// The wishes, for the one feed of a process.
    pub(super) fn wishes_once(&self) -> Option<mpsc::UnboundedReceiver<Wish>> {
        lock(&self.unheard).take()
    }
}

impl States {
    /// The trees of the engine's cluster. Nobody is told of changes before [`States::feed`].
    pub fn new(engine: &Engine) -> Self {
        let (wishes, unheard) = mpsc::unbounded_channel();
        let desk = Mutex::new(Desk { active: HashMap::new(), shelf: Shelf::new(SHELF) });
        let store = engine.kv(Bucket::State);
        Self { shared: Arc::new(Shared { store, desk, wishes, unheard: Mutex::new(Some(unheard)) }) }
    }

    /// Calls `tell` with everything that followers are told, in order, and ends only when the engine is gone. Once per
    /// process: a second one ends at once.
    pub fn feed<F: FnMut(Delivery)>(&self, tell: F) -> impl Future<Output = ()> + use<F> {
        let feed = Feed::new(self.shared.clone());
        async move {
            if let Some(feed) = feed {
                feed.run(tell).await;
            }
        }
    }

    /// Follows what stands at a path: a snapshot, then changes, through [`States::feed`]. Who follows it already gets
    /// another snapshot.
    pub fn follow(&self, owner: Owner, path: Path, who: Key) {
        self.follow_on(owner, path, who, 0);
    }

    /// The same for somebody who has seen the tree at a revision: what is told is not older.
    pub fn follow_on(&self, owner: Owner, path: Path, who: Key, seen: u64) {
        self.wish(Wish::Follow(owner, path, who, seen));
    }

    /// Follows it no more. What was already told may still be on its way.
    pub fn unfollow(&self, owner: Owner, path: Path, who: Key) {
        self.wish(Wish::Unfollow(owner, path, who));
    }

    /// Follows nothing any more.
    pub fn leave(&self, who: Key) {
        self.wish(Wish::Leave(who));
    }

    fn wish(&self, wish: Wish) {
        // without a feed the engine is gone, and with it everything to be told
        let _ = self.shared.wishes.send(wish);
    }

    /// Whose trees there are, of connections, sessions and pages: a look at their keys alone.
    pub async fn owners(&self) -> Result<Vec<Owner>, Down> {
        let mut owners = Vec::new();
        for prefix in [state_key::CONNECTIONS, state_key::SESSIONS, state_key::PAGES] {
            let mut watch = self.shared.store.watch(prefix, WatchMode::Meta).await?;
            loop {
                match watch.next().await.ok_or(Down)? {
                    WatchEvent::Live => break,
                    WatchEvent::Put(entry) => owners.extend(Owner::of_key(&entry.key)),
                    WatchEvent::Delete { .. } => {}
                }
            }
        }
        Ok(owners)
    }

    /// What stands at a path, as acknowledged last. What this process was asked to write before is in it.
    pub async fn get(&self, owner: &Owner, path: &Locator) -> Result<Reading, Refusal> {
        let key = owner.key();
        if self.is_writing(&key) {
            // in line behind it
            self.write(owner, Write { act: Act::Edit(Vec::new()), if_revision: None, from: None }).await?;
        }
        let found = self.read(&key).await.map_err(|Down| Refusal::Unavailable)?;
        let Some(stored) = found else { return Ok(Reading { revision: 0, value: None }) };
        let value = stored.tree.resolve(path).ok().and_then(|path| stored.tree.get(&path).cloned());
        Ok(Reading { revision: stored.rev, value })
    }

    /// Writes; the tree's revision afterwards, 0 for one that does not exist. What is asked in one process is done in
    /// that order. Dropping the future does not take the write back.
    pub async fn write(&self, owner: &Owner, write: Write) -> Result<u64, Refusal> {
        self.begin(owner, write).await
    }

    /// The same; it is in line when this returns.
    pub fn begin(
        &self,
        owner: &Owner,
        write: Write,
    ) -> impl Future<Output = Result<u64, Refusal>> + Send + use<> {
        let (ticket, answer) = oneshot::channel();
        self.ask(owner.key().into(), write, ticket);
        // the ticket is answered, unless the runtime ends
        async move { answer.await.unwrap_or(Err(Refusal::Uncertain)) }
    }

    /// Removes a tree, everywhere.
    pub async fn remove(&self, owner: &Owner) -> Result<(), Refusal> {
        self.write(owner, Write { act: Act::Remove, if_revision: None, from: None }).await.map(drop)
    }

    /// A tree goes so long after its last write, this one included (whole seconds, at least one), or stays for good
    /// again. Its value stays; its revision grows.
    pub async fn expire(&self, owner: &Owner, after: Option<Duration>) -> Result<(), Refusal> {
        self.write(owner, Write { act: Act::Expire(after), if_revision: None, from: None }).await.map(drop)
    }

    fn is_writing(&self, key: &str) -> bool {
        self.shared.desk().active.contains_key(key)
    }

    fn ask(&self, key: Arc<str>, write: Write, ticket: Ticket) {
        loop {
            let place = self.place(&key);
            let mut at = lock(&place);
            if at.retired {
                continue;
            }
            let mut step = at.writer.ask(write, ticket, Op::random());
            if at.lingers {
                at.next = at.next.take().or(step.call.take());
            }
            drop(at);
            if let Some(call) = answered(step) {
                tokio::spawn(self.clone().drive(key, place, call));
            }
            return;
        }
    }

    fn place(&self, key: &Arc<str>) -> Arc<Mutex<Place>> {
        let Desk { active, shelf } = &mut *self.shared.desk();
        if let Some(place) = active.get(key) {
            return place.clone();
        }
        let writer = Writer::new(shelf.take(key));
        let place = Place { writer, lingers: false, next: None, retired: false };
        let place = Arc::new(Mutex::new(place));
        active.insert(key.clone(), place.clone());
        place
    }

    /// Makes the calls of one writer until it has nothing to do.
    async fn drive(self, key: Arc<str>, place: Arc<Mutex<Place>>, mut call: Call) {
        loop {
            let step = match call {
                Call::Read => {
                    let found = self.read(&key).await;
                    lock(&place).read(found)
                }
                Call::Put { expect, op, meta, value, ttl, large } => {
                    if large {
                        tracing::warn!(%key, bytes = value.len(), "a tree has become large");
                    }
                    let put = Put { key: key.to_string(), value, meta, expect, ttl, op };
                    let outcome = self.shared.store.put(put).await;
                    lock(&place).wrote(outcome)
                }
                Call::Delete { rev } => {
                    let outcome = self.shared.store.delete(&key, Expect::Rev(rev)).await.map(|()| 0);
                    lock(&place).wrote(outcome)
                }
            };
            let next = match answered(step) {
                Some(next) => Some(next),
                None => {
                    tokio::task::yield_now().await;
                    let mut at = lock(&place);
                    at.lingers = false;
                    at.next.take()
                }
            };
            match next {
                Some(next) => call = next,
                None => return self.retire(key, &place),
            }
        }
    }

    /// A writer without work leaves the desk; what it knows goes to the shelf.
    fn retire(&self, key: Arc<str>, place: &Mutex<Place>) {
        let mut desk = self.shared.desk();
        let mut at = lock(place);
        // somebody may have asked meanwhile, and drives it
        if at.writer.is_idle() && !at.retired {
            at.retired = true;
            desk.active.remove(&key);
            if let Some(known) = at.writer.take_known() {
                desk.shelf.put(key, known);
            }
        }
    }

    async fn read(&self, key: &str) -> Result<Found, Down> {
        let Some(entry) = self.shared.store.get(key, Consistency::Latest).await? else { return Ok(None) };
        let stored = Stored::decode(&entry);
        if stored.is_none() {
            tracing::error!(key, "a tree of an unknown shape is neither read nor written");
        }
        stored.map(Some).ok_or(Down)
    }
}

/// Answers whoever is to be answered; the call to make.
fn answered(step: Step<Ticket>) -> Option<Call> {
    for (ticket, answer) in step.answers {
        // who asked may have gone
        let _ = ticket.send(answer);
    }
    step.call
}
