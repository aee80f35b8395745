//! The keeper of one lease: claims, renews, measures the engine's clock, and gives back.
//!
//! Owns: the writes to the row of one process, for every kind of process. Never: a decision about the lease (`model`),
//! or which slot a process wants (its [`LeaseKind`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::Lease;
use super::model::{FoundLease, HeldLease, LeaseAnswer, LeaseModel, LeaseTerms, LeaseWrite};
use super::proto::{Incompatible, Proto, RowHead, refusal};
use crate::clock::{self, ClusterClock};
use crate::engine::{
    Bucket, Consistency, Engine, Entry, Kv, MAX_META, MAX_VALUE, OperationId, Precondition, Put, Unavailable,
    WriteError,
};
use crate::timing::Timing;

/// The content of the entry of a lease row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseContent {
    /// The row, or its head if the row is too large.
    pub meta: Bytes,
    /// The row if it is too large for the meta; else empty.
    pub value: Bytes,
}

impl From<Bytes> for LeaseContent {
    fn from(meta: Bytes) -> Self {
        Self { meta, value: Bytes::new() }
    }
}

/// What the lease rows of one kind of process contain, and which slot such a process wants.
pub trait LeaseKind: Send + Sync {
    /// The place that at most one process holds.
    type Slot: Copy + Eq + Send + Sync;
    /// The slot with the epoch, as other processes address the holder.
    type Holder: Copy + PartialEq + Send + Sync + 'static;
    /// The part of the row that changes while a process runs.
    type Note: Clone + Send + Sync;
    /// Whether a holder that has lapsed keeps its epoch when its row is still there.
    const RESUMES: bool;

    /// Returns the wire versions that this process supports.
    fn proto(&self) -> Proto;

    /// Returns the key of the row of a slot.
    fn key(&self, slot: Self::Slot) -> String;

    /// Returns the identity of the holder of a slot.
    fn holder(&self, slot: Self::Slot, epoch: u64) -> Self::Holder;

    /// Returns the row. Its meta has the epoch and the wire versions. `epoch` is `None` in a claim.
    fn encode(&self, epoch: Option<u64>, offset_ms: Option<i64>) -> LeaseContent;

    /// Returns the slot to claim, given the existing leases of all kinds and the slot that this process held last.
    /// Returns `None` when the process has to wait.
    fn choose(
        &self,
        rows: &[Entry],
        last: Option<Self::Slot>,
    ) -> impl Future<Output = Result<Option<(Self::Slot, Precondition)>, Unavailable>> + Send;

    /// Changes that part.
    fn set_note(&mut self, note: Self::Note);
}

/// Keeps the lease of this process. Created by [`LeaseKeeper::claim`], driven by [`LeaseKeeper::keep`].
pub struct LeaseKeeper<K: LeaseKind> {
    leases: Kv,
    clock: ClusterClock,
    timing: Timing,
    kind: K,
    model: LeaseModel<K::Slot>,
    holder: watch::Sender<Option<K::Holder>>,
    fenced_at_ms: Arc<AtomicU64>,
    clock_is_off: bool,
    /// The last reason for waiting that was logged since the lease was held.
    logged: Option<&'static str>,
}

const UNAVAILABLE: &str = "the cluster is unavailable: waiting to claim a lease";

const REFUSED: &str = "the lease row of this process is too large to be stored, so it gets no lease";

/// Why a claim was not sent or stored.
enum Hindrance {
    Taken,
    Unavailable,
    Invalid,
    Incompatible(Incompatible),
}

impl From<Unavailable> for Hindrance {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl<K: LeaseKind> LeaseKeeper<K> {
    /// Claims a slot. Waits without limit until one can be claimed and the engine's clock is known.
    ///
    /// # Errors
    ///
    /// [`Incompatible`] when a living process of the cluster has no wire version in common with this one.
    pub async fn claim(
        engine: &Engine,
        timing: Timing,
        kind: K,
    ) -> Result<(Self, Lease<K::Holder>), Incompatible> {
        let (holder, changes) = watch::channel(None);
        let fenced_at_ms = Arc::new(AtomicU64::new(0));
        let lease = Lease { holder: changes, fenced_at_ms: fenced_at_ms.clone() };
        let model = LeaseModel::new(LeaseTerms { fence: timing.lease_fence, resumes: K::RESUMES });
        let (leases, clock) = (engine.kv(Bucket::Nodes), engine.clock());
        let (clock_is_off, logged) = (false, None);
        let mut keeper =
            Self { leases, clock, timing, kind, model, holder, fenced_at_ms, clock_is_off, logged };
        loop {
            let why = match keeper.step().await {
                Ok(()) if keeper.model.holding(clock::boot()).is_none() => {
                    "the claim was not acknowledged: trying again"
                }
                Ok(()) if !keeper.clock.is_known() => "the engine's clock is not known yet: waiting for it",
                Ok(()) => match keeper.earlier_conflict().await {
                    Ok(None) => return Ok((keeper, lease)),
                    Ok(Some(refused)) => {
                        keeper.release().await;
                        return Err(refused);
                    }
                    Err(Unavailable) => UNAVAILABLE,
                },
                Err(Hindrance::Incompatible(refused)) => return Err(refused),
                Err(hindrance) => hindrance.text(),
            };
            keeper.log(why);
            tokio::time::sleep(timing.lease_renew / 3).await;
        }
    }

    /// Returns the content of the rows, to change it before the keeper runs.
    pub fn kind_mut(&mut self) -> &mut K {
        &mut self.kind
    }

    /// Renews until `stop` resolves, then deletes the row. A change of `note` is written at once. After the lease was
    /// lost, claims again.
    pub async fn keep(mut self, mut note: watch::Receiver<K::Note>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        self.kind.set_note(note.borrow_and_update().clone());
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(self.pause()) => {}
                // a closed channel disables this branch
                Ok(()) = note.changed() => {
                    let note = note.borrow_and_update().clone();
                    self.kind.set_note(note);
                }
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.renew() => {}
            }
        }
        self.release().await;
    }

    fn log(&mut self, why: &'static str) {
        if self.logged.replace(why) != Some(why) {
            tracing::info!("{why}");
        }
    }

    /// Returns the time until the next renewal: at the latest at the fence, so that a lapse is published.
    fn pause(&self) -> Duration {
        let now = clock::boot();
        match self.model.holding(now) {
            Some(held) => self.timing.lease_renew.min(held.fenced_at.saturating_sub(now)),
            None => self.timing.lease_renew / 3,
        }
    }

    async fn renew(&mut self) {
        let had = self.holder.borrow().is_some();
        self.publish();
        if had && self.holder.borrow().is_none() {
            tracing::warn!(
                "lease not renewed in time: this process stops acting until it has its lease again"
            );
        }
        let held = self.model.held();
        let hindered = self.step().await.err();
        if held.is_some() && self.model.held().is_none() {
            tracing::warn!("the lease has lapsed or is lost to another process; this process claims again");
        }
        if self.model.held().is_some() {
            self.logged = None;
        }
        if let Some(hindrance) = hindered {
            self.log(hindrance.text());
        }
    }

    /// Sends one renewal or claim, and applies its outcome.
    async fn step(&mut self) -> Result<(), Hindrance> {
        let op = OperationId::random();
        let write = match self.model.renewal(clock::boot(), op) {
            Some(renewal) => renewal,
            None => {
                let rows = self.leases.list("").await?;
                if let Some(refused) = refusal(self.kind.proto(), &rows, None) {
                    return Err(Hindrance::Incompatible(refused));
                }
                let chosen = self.kind.choose(&rows, self.model.last()).await?;
                let (slot, expect) = chosen.ok_or(Hindrance::Taken)?;
                self.model.claim(slot, expect, clock::boot(), op)
            }
        };
        self.send(write).await
    }

    /// Returns the conflict with a process that joined at the same time, but was first.
    async fn earlier_conflict(&self) -> Result<Option<Incompatible>, Unavailable> {
        let own = self.model.held().map(|held| held.epoch);
        Ok(refusal(self.kind.proto(), &self.leases.list("").await?, own))
    }

    async fn send(&mut self, write: LeaseWrite<K::Slot>) -> Result<(), Hindrance> {
        let key = self.kind.key(write.slot);
        let LeaseContent { meta, value } = self.kind.encode(write.epoch, self.clock.offset_ms());
        let (meta_bytes, value_bytes) = (meta.len(), value.len());
        let put = Put {
            key: key.clone(),
            value,
            meta,
            expect: write.expect,
            ttl: Some(self.timing.lease_ttl),
            op: write.op,
        };
        // a reply after the fence is useless to a holder
        let left = self.model.holding(write.sent).map(|held| held.fenced_at.saturating_sub(write.sent));
        let left = left.unwrap_or(self.timing.operation * 2);
        let answered = tokio::time::timeout(left, self.leases.put(put)).await;
        let received = clock::boot();
        match answered.unwrap_or(Err(WriteError::Unknown)) {
            Ok(rev) => {
                self.model.settle(write, LeaseAnswer::Written(rev));
                self.publish();
                self.measure_clock(rev, write.sent, received).await;
            }
            Err(WriteError::Down) => {}
            Err(WriteError::Invalid) => {
                self.log_refused_row(&key, meta_bytes, value_bytes);
                return Err(Hindrance::Invalid);
            }
            Err(error) => {
                if error == WriteError::Unknown {
                    self.model.settle(write, LeaseAnswer::Unknown);
                }
                self.find(&key, write).await;
                self.publish();
            }
        }
        Ok(())
    }

    /// Logs once that the engine does not store the row: without a change of it, this process gets no lease.
    fn log_refused_row(&mut self, key: &str, meta_bytes: usize, value_bytes: usize) {
        if self.logged.replace(REFUSED) != Some(REFUSED) {
            tracing::error!(
                key,
                meta_bytes,
                value_bytes,
                "{REFUSED}: it has at most {MAX_META} bytes of meta and {MAX_VALUE} bytes of value"
            );
        }
    }

    /// Reads the row after a write that was refused or has no answer.
    async fn find(&mut self, key: &str, write: LeaseWrite<K::Slot>) {
        let read = self.leases.get(key, Consistency::Latest);
        let Ok(Ok(entry)) = tokio::time::timeout(self.timing.lease_renew, read).await else { return };
        let found =
            entry.map(|entry| FoundLease { rev: entry.rev, epoch: RowHead::epoch(&entry), op: entry.op });
        self.model.settle(write, LeaseAnswer::Found(found));
    }

    /// Compares the boot clock with the time at which the engine stored a write.
    async fn measure_clock(&mut self, rev: u64, sent: Duration, received: Duration) {
        let sampled = self.leases.sample_clock(rev, sent, received);
        if !matches!(tokio::time::timeout(self.timing.lease_renew, sampled).await, Ok(Ok(()))) {
            tracing::debug!("no sample of the engine's clock");
        }
        let clock_is_off = clock::is_off(self.clock.offset_ms());
        if clock_is_off && !self.clock_is_off {
            let offset_ms = self.clock.offset_ms();
            tracing::warn!(offset_ms, "the clock of this machine differs from the clock of the cluster");
        }
        self.clock_is_off = clock_is_off;
    }

    /// Shows the lease to its readers.
    fn publish(&self) {
        let held = self.model.holding(clock::boot());
        let holder = held.map(|HeldLease { slot, epoch, .. }| self.kind.holder(slot, epoch));
        if holder.is_none() {
            self.fenced_at_ms.store(0, Ordering::Release);
        }
        self.holder.send_if_modified(|current| std::mem::replace(current, holder) != holder);
        if let Some(held) = held {
            self.fenced_at_ms.store(held.fenced_at.as_millis() as u64, Ordering::Release);
        }
    }

    async fn release(self) {
        self.fenced_at_ms.store(0, Ordering::Release);
        self.holder.send_replace(None);
        let Some(held) = self.model.held() else { return };
        let key = self.kind.key(held.slot);
        if let Err(error) = self.leases.delete(&key, Precondition::Rev(held.rev)).await {
            tracing::debug!(%error, "lease not given back, it will expire");
        }
    }
}

impl Hindrance {
    fn text(&self) -> &'static str {
        match self {
            Self::Taken => "the slot is taken: waiting until it is free",
            Self::Unavailable => UNAVAILABLE,
            Self::Invalid => REFUSED,
            Self::Incompatible(_) => {
                "another process has no version of the protocol in common: waiting for its end"
            }
        }
    }
}
