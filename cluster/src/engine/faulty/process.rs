//! One process on a memory engine: its faults, and its link that breaks and heals.
//!
//! Owns: the decision about every call, and the writes that happen later. Never: the operations themselves.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{oneshot, watch as channel};

use super::blind::Blind;
use super::faults::Faults;
use super::life::ProcessLife;
use super::outage::{Outage, OutageChange};
use crate::clock::ClusterClock;
use crate::engine::{BatchOp, Bucket, ConnectionState, Entry, Memory, Unavailable};
use crate::simulation::FaultRng;

/// When a broken link heals without calls.
const LONGEST_OUTAGE: Duration = Duration::from_millis(50);
/// How many calls later a write without acknowledgement may still happen.
const LATEST_WRITE: u64 = 4;

pub(super) struct FaultState {
    pub(super) rng: FaultRng,
    outage: Outage,
    /// Subscribers of this process, disconnected with its link.
    pub(super) listeners: Vec<u64>,
    /// Writes without acknowledgement that still happen, and in how many calls.
    pub(super) delayed_writes: Vec<(u64, Bucket, Vec<BatchOp>)>,
    /// Entries as this process read them last.
    pub(super) read: HashMap<(Bucket, String), Option<Entry>>,
    pub(super) blind: Blind,
    faults: Faults,
    /// The process is suspended after its next write of a key with this prefix.
    ambush: Option<(String, oneshot::Sender<()>)>,
}

/// A process. All clones are one process.
#[derive(Clone)]
pub struct FaultyProcess {
    pub(super) memory: Memory,
    pub(super) clock: ClusterClock,
    pub(super) life: Arc<ProcessLife>,
    pub(super) link: Arc<channel::Sender<ConnectionState>>,
    state: Arc<Mutex<FaultState>>,
}

/// The fault of an operation that changes something.
pub(super) enum WriteFault {
    /// The operation happens and is acknowledged.
    Acknowledged,
    /// The operation happens without an acknowledgement.
    Silent,
    /// The operation does not happen and is not acknowledged.
    Never,
    /// The operation happens after this number of further calls, without an acknowledgement.
    Later(u64),
}

impl FaultyProcess {
    pub(super) fn new(memory: Memory, seed: u64, faults: Faults) -> Self {
        let state = FaultState {
            rng: FaultRng::new(seed),
            outage: Outage::default(),
            listeners: Vec::new(),
            delayed_writes: Vec::new(),
            read: HashMap::new(),
            blind: Blind::new(faults.blind, seed),
            faults,
            ambush: None,
        };
        Self {
            clock: memory.clock(),
            memory,
            life: Arc::new(ProcessLife::new(seed)),
            link: Arc::new(channel::Sender::new(ConnectionState::Up { generation: 1 })),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Every step leaves the state consistent, so a poisoned lock is still usable.
    pub(super) fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> Faults {
        self.lock().faults
    }

    /// Replaces the faults from now on, and forgets [`FaultyProcess::suspend_after`].
    pub fn set_faults(&self, faults: Faults) {
        let state = &mut *self.lock();
        (state.faults, state.ambush) = (faults, None);
        state.blind.set(faults.blind);
    }

    /// Suspends the process: no operation begins or returns.
    pub fn suspend(&self) {
        self.life.suspend();
    }

    /// Lets a suspended process go on.
    pub fn resume(&self) {
        self.life.resume();
    }

    /// Waits while the process is suspended. Never returns after its end.
    pub async fn running(&self) {
        self.life.running().await;
    }

    /// Returns whether the process was killed.
    pub fn is_killed(&self) -> bool {
        self.life.is_killed()
    }

    /// Suspends the process right after its next write of a key with this prefix, whatever its outcome. The receiver
    /// learns of it.
    pub fn suspend_after(&self, prefix: &str) -> oneshot::Receiver<()> {
        let (sender, suspended) = oneshot::channel();
        self.lock().ambush = Some((prefix.to_owned(), sender));
        suspended
    }

    /// Carries out [`FaultyProcess::suspend_after`] after a write of these keys.
    pub(super) fn wrote(&self, keys: &[String]) {
        let state = &mut *self.lock();
        let is_meant = |ambush: &mut (String, _)| keys.iter().any(|key| key.starts_with(&ambush.0));
        if let Some((_, sender)) = state.ambush.take_if(is_meant) {
            self.life.suspend();
            // the test may not wait for it any more
            let _ = sender.send(());
        }
    }

    /// Runs one operation of this process as a whole: with its latency, not while it is suspended, and without an end
    /// when it is killed. A test that polls several operations may run another one before it and after it.
    pub(super) async fn run<T>(&self, operation: impl Future<Output = T>) -> T {
        self.pause().await;
        let outcome = self.life.until_killed(operation).await;
        self.pause().await;
        outcome
    }

    async fn pause(&self) {
        let Faults { pauses, latency_ms, .. } = self.faults();
        self.life.pass(latency_ms).await;
        let mut waited = !pauses;
        // not the runtime's own yield, which wakes only when the test itself waits
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    pub(super) fn hits(&self, per_mille: u16) -> bool {
        self.lock().rng.hits(per_mille)
    }

    /// Begins every call: advances the time in calls, and may break or heal the link.
    pub(super) fn call(&self) -> Result<(), Unavailable> {
        let mut state = self.lock();
        let mut landing = Vec::new();
        for write in &mut state.delayed_writes {
            write.0 -= 1;
        }
        state.delayed_writes.retain_mut(|(calls, bucket, batch)| {
            if *calls == 0 {
                landing.push((*bucket, std::mem::take(batch)));
            }
            *calls > 0
        });
        let FaultState { rng, outage, faults, .. } = &mut *state;
        let changed = outage.call(rng, faults.cut);
        let down = outage.is_down() || rng.hits(faults.down);
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
        self.show_for(changed, LONGEST_OUTAGE);
    }

    fn show_for(&self, changed: Option<OutageChange>, longest: Duration) {
        let listeners = self.lock().listeners.clone();
        match changed {
            None => {}
            Some(OutageChange::Broke { number }) => {
                self.memory.bus.cut(&listeners);
                self.link.send_replace(ConnectionState::Down { since: std::time::Instant::now() });
                let faulty = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(longest).await;
                    let healed = faulty.lock().outage.heal(number);
                    faulty.show(healed);
                });
            }
            Some(OutageChange::Healed { generation }) => {
                if !self.life.is_killed() {
                    self.memory.bus.heal(&listeners);
                }
                self.link.send_replace(ConnectionState::Up { generation });
            }
        }
    }

    /// Breaks the link for this long.
    pub fn cut_for(&self, length: Duration) {
        let broken = self.lock().outage.begin_long();
        self.show_for(Some(broken), length);
    }

    /// Ends the process: its subscriptions are gone, and no operation of it returns any more.
    pub fn kill(&self) {
        self.life.kill();
        let listeners = self.lock().listeners.clone();
        self.memory.bus.cut(&listeners);
    }

    pub(super) fn cut(&self) {
        let changed = {
            let FaultState { rng, outage, .. } = &mut *self.lock();
            outage.begin(rng)
        };
        self.show(changed);
    }

    pub(super) fn drops_message(&self) -> bool {
        self.hits(self.faults().lost)
    }

    fn decide(&self) -> (WriteFault, Option<OutageChange>) {
        let FaultState { rng, outage, faults, .. } = &mut *self.lock();
        let severed = rng.hits(faults.severed);
        if !severed && !rng.hits(faults.unknown) {
            return (WriteFault::Acknowledged, None);
        }
        let change = match rng.below(3) {
            0 => WriteFault::Silent,
            1 => WriteFault::Never,
            _ => WriteFault::Later(1 + rng.below(LATEST_WRITE)),
        };
        (change, if severed { outage.begin(rng) } else { None })
    }

    /// Decides the outcome of a change, and applies the break of the link that comes with it.
    pub(super) fn change(&self) -> WriteFault {
        let (change, broken) = self.decide();
        self.show(broken);
        change
    }
}
