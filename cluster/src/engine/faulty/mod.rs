//! Memory with seeded faults: every outcome that the contract names, at a configured rate.
//!
//! Owns: which fault happens and when. Never injects a fault that a real engine could not show.
//!
//! Each handle is one process with a link of its own; several handles on one [`Memory`] are a cluster. The outcomes of
//! a sequence of calls depend on the seed alone, with one exception so that waiting callers make progress: a broken
//! link heals after some calls or after a short time, whichever comes first.

mod blind;
mod faults;
mod outage;
pub(super) mod rng;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};

use self::blind::Blind;
pub use self::faults::Faults;
use self::outage::{Outage, OutageChange};
use self::rng::FaultRng;
use super::memory::legal_commit;
use super::{
    BatchOp, Bucket, ConnectionState, Consistency, Enqueue, Entry, Memory, Message, Precondition,
    PublishError, Put, QueueError, QueueMessage, RequestError, Subscription, Unavailable, Watch, WatchMode,
    WriteError,
};

/// When a broken link heals without calls.
const LONGEST_OUTAGE: Duration = Duration::from_millis(50);
/// How many calls later a write without acknowledgement may still happen.
const LATEST_WRITE: u64 = 4;

struct FaultState {
    dice: FaultRng,
    outage: Outage,
    /// Subscribers of this process, disconnected with its link.
    listeners: Vec<u64>,
    /// Writes without acknowledgement that still happen, and in how many calls.
    underway: Vec<(u64, Bucket, Vec<BatchOp>)>,
    /// Entries as this process read them last.
    read: HashMap<(Bucket, String), Option<Entry>>,
    blind: Blind,
}

/// One process on a [`Memory`], with seeded faults. All clones are one process.
#[derive(Clone)]
pub struct Faulty {
    memory: Memory,
    faults: Faults,
    link: Arc<channel::Sender<ConnectionState>>,
    state: Arc<Mutex<FaultState>>,
}

/// The fault of an operation that changes something.
enum WriteFault {
    /// The operation happens and is acknowledged.
    Acknowledged,
    /// The operation happens without an acknowledgement.
    Silent,
    /// The operation does not happen and is not acknowledged.
    Never,
    /// The operation happens after this number of further calls, without an acknowledgement.
    Later(u64),
}

impl Faulty {
    /// Creates a process on this memory. Equal seeds and faults give equal outcomes to equal sequences of calls.
    pub fn new(memory: Memory, seed: u64, faults: Faults) -> Self {
        let state = FaultState {
            dice: FaultRng::new(seed),
            outage: Outage::default(),
            listeners: Vec::new(),
            underway: Vec::new(),
            read: HashMap::new(),
            blind: Blind::new(faults.blind, seed),
        };
        Self {
            memory,
            faults,
            link: Arc::new(channel::Sender::new(ConnectionState::Up { generation: 1 })),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Every step leaves the state consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hits(&self, per_mille: u16) -> bool {
        self.lock().dice.hits(per_mille)
    }

    /// Begins every call: advances the time in calls, and may break or heal the link.
    fn call(&self) -> Result<(), Unavailable> {
        let mut state = self.lock();
        let mut landing = Vec::new();
        for write in &mut state.underway {
            write.0 -= 1;
        }
        state.underway.retain_mut(|(calls, bucket, batch)| {
            if *calls == 0 {
                landing.push((*bucket, std::mem::take(batch)));
            }
            *calls > 0
        });
        let FaultState { dice, outage, .. } = &mut *state;
        let changed = outage.call(dice, self.faults.cut);
        let down = outage.is_down() || dice.hits(self.faults.down);
        drop(state);
        for (bucket, batch) in landing {
            // its expectation may not hold any more; no caller waits for the outcome
            let _ = self.memory.buckets.commit(bucket, batch);
        }
        self.show(changed);
        if down { Err(Unavailable) } else { Ok(()) }
    }

    /// Applies a change of the link to the rest of the process.
    fn show(&self, changed: Option<OutageChange>) {
        let listeners = self.lock().listeners.clone();
        match changed {
            None => {}
            Some(OutageChange::Broke { number }) => {
                self.memory.bus.cut(&listeners);
                self.link.send_replace(ConnectionState::Down { since: std::time::Instant::now() });
                let faulty = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(LONGEST_OUTAGE).await;
                    let healed = faulty.lock().outage.heal(number);
                    faulty.show(healed);
                });
            }
            Some(OutageChange::Healed { generation }) => {
                self.memory.bus.heal(&listeners);
                self.link.send_replace(ConnectionState::Up { generation });
            }
        }
    }

    fn cut(&self) {
        let changed = {
            let FaultState { dice, outage, .. } = &mut *self.lock();
            outage.begin(dice)
        };
        self.show(changed);
    }

    fn loses(&self) -> bool {
        self.hits(self.faults.lost)
    }

    fn decide(&self) -> (WriteFault, Option<OutageChange>) {
        let FaultState { dice, outage, .. } = &mut *self.lock();
        let severed = dice.hits(self.faults.severed);
        if !severed && !dice.hits(self.faults.unknown) {
            return (WriteFault::Acknowledged, None);
        }
        let change = match dice.below(3) {
            0 => WriteFault::Silent,
            1 => WriteFault::Never,
            _ => WriteFault::Later(1 + dice.below(LATEST_WRITE)),
        };
        (change, if severed { outage.begin(dice) } else { None })
    }

    /// Decides the outcome of a change, and applies the break of the link that comes with it.
    fn change(&self) -> WriteFault {
        let (change, broken) = self.decide();
        self.show(broken);
        change
    }

    pub(super) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.call().map_err(|Unavailable| PublishError::Down)?;
        if self.hits(self.faults.full) {
            return Err(PublishError::Full);
        }
        self.memory.bus.publish(message, || self.loses()).map(drop)
    }

    pub(super) async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Unavailable> {
        self.call()?;
        let (listener, subscription) = self.memory.bus.subscribe(pattern, group, max_bytes);
        self.lock().listeners.push(listener);
        Ok(subscription)
    }

    /// Injects the faults of a request before its reply.
    async fn ask(&self, message: &Message, within: Duration) -> Result<(), RequestError> {
        self.call().map_err(|Unavailable| RequestError::Down)?;
        if self.hits(self.faults.no_responder) {
            return Err(RequestError::NoResponder);
        }
        let (late, broken) = (self.hits(self.faults.deadline), self.hits(self.faults.broken));
        if broken || (late && self.hits(500)) {
            // the request is delivered, but its reply is not
            let heard = self.memory.bus.request(message.clone(), Duration::ZERO, || self.loses()).await;
            if let Err(error @ (RequestError::NoResponder | RequestError::TooLarge)) = heard {
                return Err(error);
            }
        }
        if broken {
            self.cut();
            return Err(RequestError::Down);
        }
        if late {
            tokio::time::sleep(within).await;
            return Err(RequestError::Deadline);
        }
        Ok(())
    }

    pub(super) async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        self.ask(&message, within).await?;
        self.memory.bus.request(message, within, || self.loses()).await
    }

    pub(super) fn link(&self) -> channel::Receiver<ConnectionState> {
        self.link.subscribe()
    }

    pub(super) async fn get(
        &self,
        bucket: Bucket,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Entry>, Unavailable> {
        self.call()?;
        self.lock().blind.read(bucket)?;
        let place = (bucket, key.to_owned());
        let stale = consistency == Consistency::Any && self.hits(self.faults.stale);
        if let Some(before) = self.lock().read.get(&place).filter(|_| stale) {
            return Ok(before.clone());
        }
        let entry = self.memory.buckets.get(bucket, key);
        self.lock().read.insert(place, entry.clone());
        Ok(entry)
    }

    pub(super) async fn list(&self, bucket: Bucket, prefix: &str) -> Result<Vec<Entry>, Unavailable> {
        self.call()?;
        Ok(self.memory.buckets.list(bucket, prefix))
    }

    pub(super) async fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        self.call()?;
        Ok(self.memory.buckets.scan(bucket, prefix, after_rev, limit))
    }

    pub(super) async fn put(&self, bucket: Bucket, put: Put) -> Result<u64, WriteError> {
        self.commit(bucket, vec![BatchOp::Put(put)]).await
    }

    pub(super) async fn delete(
        &self,
        bucket: Bucket,
        key: &str,
        expect: Precondition,
    ) -> Result<(), WriteError> {
        let step = BatchOp::Delete { key: key.to_owned(), expect };
        self.commit(bucket, vec![step]).await.map(drop)
    }

    pub(super) async fn commit(&self, bucket: Bucket, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        legal_commit(&batch)?;
        self.call().map_err(|Unavailable| WriteError::Down)?;
        let blind = self.lock().blind.write(bucket);
        if let Some(happens) = blind {
            if happens {
                // a conflict is as silent as a success
                let _ = self.memory.buckets.commit(bucket, batch);
            }
            return Err(WriteError::Unknown);
        }
        match self.change() {
            WriteFault::Acknowledged => {
                self.memory.buckets.commit(bucket, batch).map_err(|error| match error {
                    WriteError::Conflict { .. } if self.hits(self.faults.untold) => {
                        WriteError::Conflict { actual: None }
                    }
                    error => error,
                })
            }
            WriteFault::Silent => {
                // a conflict is as silent as a success
                let _ = self.memory.buckets.commit(bucket, batch);
                Err(WriteError::Unknown)
            }
            WriteFault::Never => Err(WriteError::Unknown),
            WriteFault::Later(calls) => {
                self.lock().underway.push((calls, bucket, batch));
                Err(WriteError::Unknown)
            }
        }
    }

    pub(super) async fn watch(
        &self,
        bucket: Bucket,
        prefix: &str,
        mode: WatchMode,
    ) -> Result<Watch, Unavailable> {
        self.call()?;
        let (watcher, events) = mpsc::unbounded_channel();
        let dice = self.lock().dice.split();
        let inner = self.memory.buckets.watch(bucket, prefix, mode);
        tokio::spawn(watch::delay(inner, watcher, dice, self.faults.late, self.link()));
        Ok(Watch { events })
    }

    pub(super) async fn push(&self, push: Enqueue) -> Result<(), QueueError> {
        let twice = self.hits(self.faults.duplicate).then(|| push.clone());
        self.settle(|| {
            self.memory.queue.push(push)?;
            twice.map_or(Ok(()), |push| self.memory.queue.push(push))
        })
    }

    pub(super) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        self.call().map_err(|Unavailable| QueueError::Down)?;
        if self.hits(self.faults.unknown) {
            // pulled, and lost in transit: they are delivered again
            self.memory.queue.pull(route, free_slots, Duration::ZERO).await?;
            return Err(QueueError::Unknown);
        }
        self.memory.queue.pull(route, free_slots, wait).await
    }

    pub(super) async fn done(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.settle(|| {
            self.memory.queue.done(delivery);
            Ok(())
        })
    }

    pub(super) async fn retry(&self, delivery: &QueueMessage, after: Duration) -> Result<(), QueueError> {
        self.settle(|| {
            self.memory.queue.retry(delivery, after);
            Ok(())
        })
    }

    pub(super) async fn touch(&self, delivery: &QueueMessage) -> Result<(), QueueError> {
        self.settle(|| {
            self.memory.queue.touch(delivery);
            Ok(())
        })
    }

    /// Runs an operation of the queue. It is never delayed: repeating it is safe, so a late one would find no further
    /// bug.
    fn settle(&self, operation: impl FnOnce() -> Result<(), QueueError>) -> Result<(), QueueError> {
        self.call().map_err(|Unavailable| QueueError::Down)?;
        match self.change() {
            WriteFault::Acknowledged => operation(),
            WriteFault::Silent => operation().and(Err(QueueError::Unknown)),
            WriteFault::Never | WriteFault::Later(_) => Err(QueueError::Unknown),
        }
    }

    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        self.call().map_err(|Unavailable| QueueError::Down)?;
        Ok(self.memory.queue.depth(route))
    }
}

#[cfg(test)]
mod tests;
