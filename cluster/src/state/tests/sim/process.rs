//! One process: its writers, its feed, its followers, and the messages in transit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ledger::Ledger;
use super::observer::Observer;
use super::store::{Reply, Store};
use crate::engine::{FaultRng, OperationId, WatchEvent};
use crate::id::Entity;
use crate::id::Key;
use crate::state::cache::TreeCache;
use crate::state::feed::replica::Action;
use crate::state::feed::subscriptions::Subscriptions;
use crate::state::writer::{Found, TreeWriter, WriterRequest, WriterStep};
use crate::state::{DraftWrite, Path};

/// A call in transit to the store, or its response in transit back.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    key: String,
    what: T,
}

impl InFlight<WriterRequest> {
    pub(super) fn call(&self) -> &WriterRequest {
        &self.what
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn replied(self, reply: Reply) -> InFlight<Reply> {
        InFlight { key: self.key, what: reply }
    }
}

pub(super) struct Process {
    number: u64,
    ops: u64,
    writers: BTreeMap<String, TreeWriter<usize>>,
    cache: TreeCache,
    calls: Vec<InFlight<WriterRequest>>,
    pub(super) replies: Vec<InFlight<Reply>>,
    followers: Subscriptions,
    feed: VecDeque<WatchEvent>,
    /// Reads that the feed requested; `read` holds those that were answered.
    wanted: Vec<(String, u64)>,
    read: Vec<(String, u64, Found)>,
    observers: BTreeMap<Key, Observer>,
}

fn pick<T>(from: &mut Vec<T>, rng: &mut FaultRng) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(rng.below(from.len() as u64) as usize))
}

fn key_of(event: &WatchEvent) -> &str {
    match event {
        WatchEvent::Put(entry) => &entry.key,
        WatchEvent::Delete { key, .. } => key,
        WatchEvent::Live => "",
    }
}

impl Process {
    pub(super) fn new(number: u64, store: &Store) -> Self {
        Self {
            number,
            ops: 0,
            writers: BTreeMap::new(),
            cache: TreeCache::new(1 << 20),
            calls: Vec::new(),
            replies: Vec::new(),
            followers: Subscriptions::default(),
            feed: store.snapshot().collect(),
            wanted: Vec::new(),
            read: Vec::new(),
            observers: BTreeMap::new(),
        }
    }

    pub(super) fn enqueue(&mut self, owner: &Entity, write: DraftWrite, number: usize, ledger: &mut Ledger) {
        let (key, op) = (owner.tree_key(), self.op(ledger));
        let cache = &mut self.cache;
        let writer =
            self.writers.entry(key.clone()).or_insert_with(|| TreeWriter::new(cache.take(&key).map(Some)));
        let step = writer.enqueue(write, number, op);
        self.go_on(key, step, ledger);
    }

    /// Takes a call to send to the store.
    pub(super) fn take_call(&mut self, rng: &mut FaultRng) -> Option<InFlight<WriterRequest>> {
        pick(&mut self.calls, rng)
    }

    /// Delivers a response to its writer.
    pub(super) fn reply(&mut self, rng: &mut FaultRng, ledger: &mut Ledger) {
        let Some(InFlight { key, what }) = pick(&mut self.replies, rng) else { return };
        let op = self.op(ledger);
        let writer = self.writers.get_mut(&key).expect("it has sent a request");
        let step = match what {
            Reply::Read(found) => writer.read(found, op),
            Reply::Written(outcome) => writer.on_written(outcome, op),
        };
        self.go_on(key, step, ledger);
    }

    fn go_on(&mut self, key: String, step: WriterStep<usize>, ledger: &mut Ledger) {
        for (number, reply) in step.replies {
            ledger.replied(number, reply);
        }
        if let Some(what) = step.call {
            self.calls.push(InFlight { key, what });
        } else if let Some(writer) = self.writers.get_mut(&key).filter(|writer| writer.is_idle()) {
            if let Some(Some(known)) = writer.take_known() {
                self.cache.put(key.as_str().into(), known);
            }
            self.writers.remove(&key);
        }
    }

    /// Returns an operation id that was never used before, not even before a restart of the process.
    fn op(&mut self, ledger: &Ledger) -> OperationId {
        self.ops += 1;
        // in the lower half, because a history keeps only that
        let number = (self.number << 56) | ((ledger.next() as u64) << 24) | self.ops;
        OperationId(u128::from(number).to_be_bytes())
    }

    /// Queues an event of the watch for later.
    pub(super) fn queue(&mut self, event: WatchEvent, rng: &mut FaultRng) {
        let last = self.feed.iter().rposition(|queued| key_of(queued) == key_of(&event));
        if let Some(place) =
            last.filter(|place| matches!(self.feed[*place], WatchEvent::Put(_)) && rng.hits(300))
        {
            // intermediate versions may be skipped
            self.feed.remove(place);
        }
        self.feed.push_back(event);
    }

    /// Interrupts the feed: afterwards only the latest event of each key is left.
    pub(super) fn miss(&mut self, rng: &mut FaultRng) {
        let mut keys = BTreeSet::new();
        let mut kept: Vec<_> = std::mem::take(&mut self.feed).into_iter().rev().collect();
        kept.retain(|event| keys.insert(key_of(event).to_owned()));
        while let Some(event) = pick(&mut kept, rng) {
            self.feed.push_back(event);
        }
    }

    pub(super) fn receive(&mut self, ledger: &Ledger) {
        let actions = match self.feed.pop_front() {
            Some(WatchEvent::Put(entry)) => {
                self.cache.apply(&entry);
                self.followers.on_entry(&entry)
            }
            Some(WatchEvent::Delete { key, .. }) => {
                self.cache.take(&key);
                self.followers.on_delete(&key)
            }
            Some(WatchEvent::Live) | None => return,
        };
        self.perform(actions, ledger);
    }

    /// Delivers the result of a read, or performs a requested one.
    pub(super) fn read(&mut self, store: &Store, rng: &mut FaultRng, ledger: &Ledger) {
        if rng.hits(500)
            && let Some((key, number, found)) = pick(&mut self.read, rng)
        {
            let actions = self.followers.found(&key, number, found);
            self.perform(actions, ledger);
        } else if let Some((key, number)) = pick(&mut self.wanted, rng) {
            let found = store.read(&key);
            self.read.push((key, number, found));
        }
    }

    pub(super) fn follow(&mut self, owner: Entity, path: Path, who: Key, ledger: &Ledger) {
        self.observers.insert(who, Observer::new(owner.clone(), path.clone()));
        let actions = self.followers.follow(owner, path, who, 0);
        self.perform(actions, ledger);
    }

    pub(super) fn unfollow(&mut self, rng: &mut FaultRng) {
        let mut all: Vec<_> = self.observers.keys().copied().collect();
        let Some(who) = pick(&mut all, rng) else { return };
        let observer = self.observers.remove(&who).expect("picked");
        if rng.hits(500) {
            self.followers.leave(who);
        } else {
            self.followers.unfollow(&observer.owner, &observer.path, who);
        }
    }

    /// Clears the cache.
    pub(super) fn evict(&mut self, rng: &mut FaultRng) {
        self.cache = TreeCache::new(if rng.hits(500) { 0 } else { 1 << 20 });
    }

    /// Ends the process and returns the calls in transit to the store.
    pub(super) fn crash(&mut self) -> Vec<InFlight<WriterRequest>> {
        std::mem::take(&mut self.calls)
    }

    fn perform(&mut self, actions: Vec<Action>, ledger: &Ledger) {
        for action in actions {
            match action {
                Action::Read { key, number } => self.wanted.push((key, number)),
                Action::Notify(delivery) => {
                    assert!(!delivery.to.is_empty(), "a notification without followers");
                    for who in delivery.to.iter() {
                        self.observers.get_mut(who).expect("follows").notify(&delivery, ledger);
                    }
                }
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.writers.is_empty()
            && self.feed.is_empty()
            && self.wanted.is_empty()
            && self.read.is_empty()
            && self.calls.is_empty()
            && self.replies.is_empty()
    }

    pub(super) fn check_converged(&self, ledger: &Ledger) {
        for observer in self.observers.values() {
            observer.check_converged(ledger);
        }
    }
}
