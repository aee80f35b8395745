//! Leases on node numbers: at most one running process holds a number at a time.
//!
//! Owns: claiming, renewing and fencing (`state` decides, this shell acts), and the check that a node is
//! dead. Never: the use of the number. The epoch is the revision of the claim. Every write of a node and
//! every request to it carries the epoch.

mod row;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

pub use row::{NodeRow, PROTO_MAX, PROTO_MIN, Proto};
pub use state::{ClaimRequest, HeldLease, LeaseWrite, LeaseWriteOutcome, Listed, Plan, plan};

use crate::clock;
use crate::engine::{
    Bucket, Engine, Kv, Message, OperationId, Precondition, Put, RequestError, Resolution, Unavailable,
    WriteError,
};
use crate::id::{Holder, NodeNumber};
use crate::subject::{Subjects, leaf, node_key};
use crate::timing::Timing;
use crate::wire::{self, Alive};

/// Number of unanswered liveness requests before another process may delete the lease of a dead process.
const DEATH_PROBES: u32 = 3;

/// The lease of this process: its number and epoch, and whether it may act.
#[derive(Clone)]
pub struct NodeLease {
    holder: watch::Receiver<Option<Holder>>,
    fenced_at_ms: Arc<AtomicU64>,
}

impl NodeLease {
    /// Returns the number and epoch of this process, or `None` if it may not act now. Reads the clock once,
    /// which is cheap enough to do for every batch.
    pub fn holder(&self) -> Option<Holder> {
        let now_ms = clock::boot().as_millis() as u64;
        (now_ms < self.fenced_at_ms.load(Ordering::Acquire)).then(|| *self.holder.borrow()).flatten()
    }

    /// Returns the changes of the holder: `None` while fenced, another epoch after a new claim.
    pub fn changes(&self) -> watch::Receiver<Option<Holder>> {
        self.holder.clone()
    }
}

/// Keeps the lease of this process. Created by [`LeaseKeeper::claim`], driven by [`LeaseKeeper::keep`].
pub struct LeaseKeeper {
    leases: Kv,
    engine: Engine,
    subjects: Subjects,
    timing: Timing,
    request: ClaimRequest,
    row: NodeRow,
    held: Option<HeldLease>,
    holder: watch::Sender<Option<Holder>>,
    fenced_at_ms: Arc<AtomicU64>,
}

impl LeaseKeeper {
    /// Claims a number. Waits without limit until one can be claimed.
    pub async fn claim(
        engine: &Engine,
        subjects: &Subjects,
        timing: Timing,
        request: ClaimRequest,
        row: NodeRow,
    ) -> (Self, NodeLease) {
        let (holder, changes) = watch::channel(None);
        let fenced_at_ms = Arc::new(AtomicU64::new(0));
        let lease = NodeLease { holder: changes, fenced_at_ms: fenced_at_ms.clone() };
        let (engine, subjects) = (engine.clone(), subjects.clone());
        let row = NodeRow { name: request.name.clone(), ..row };
        let leases = engine.kv(Bucket::Nodes);
        let mut keeper =
            Self { leases, engine, subjects, timing, request, row, held: None, holder, fenced_at_ms };
        keeper.acquire().await;
        (keeper, lease)
    }

    /// Renews until `stop` resolves, then releases the number. Claims again after the lease was lost or
    /// fenced: the old number if it is free, with a new epoch.
    pub async fn keep(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let until_fence = self.held.map_or(Duration::ZERO, |t| t.fenced_at.saturating_sub(clock::boot()));
            let pause = self.timing.lease_renew.min(until_fence);
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.renew() => {}
            }
        }
        self.release().await;
    }

    async fn renew(&mut self) {
        let Some(held) = self.held.filter(|held| held.holds(clock::boot())) else {
            tracing::warn!("lease not renewed in time: this node stops acting until it has claimed a number");
            self.set(None);
            return self.acquire().await;
        };
        let renewal = held.renewal(clock::boot());
        // a reply after the fence is useless
        let left = held.fenced_at.saturating_sub(clock::boot());
        let outcome =
            tokio::time::timeout(left, self.send(renewal)).await.unwrap_or(LeaseWriteOutcome::Unknown);
        let renewed = held.renewed(renewal, outcome, self.timing.lease_fence);
        if renewed.is_none() {
            tracing::warn!(node = %held.holder.node, epoch = held.holder.epoch, "lease lost to another process");
        }
        self.set(renewed);
    }

    async fn acquire(&mut self) {
        let mut logged = None;
        loop {
            let why = match self.attempt().await {
                Ok(Some(held)) => {
                    tracing::info!(node = %held.holder.node, epoch = held.holder.epoch, "node number claimed");
                    return self.set(Some(held));
                }
                Ok(None) => "the node number is taken: waiting until it is free",
                Err(Unavailable) => "the cluster is unavailable: waiting to claim a node number",
            };
            if logged.replace(why) != Some(why) {
                let wanted = self.request.number.map_or("the lowest".to_owned(), |number| number.to_string());
                tracing::info!(wanted, "{why}");
            }
            tokio::time::sleep(self.timing.lease_renew / 3).await;
        }
    }

    async fn attempt(&self) -> Result<Option<HeldLease>, Unavailable> {
        // the row of an earlier epoch of this process may still exist; then no other process can have taken
        // the number
        if let Some(old) = self.held {
            let claim = LeaseWrite { epoch: None, ..old.renewal(clock::boot()) };
            if let LeaseWriteOutcome::Written(rev) = self.send(claim).await {
                return Ok(Some(HeldLease::begin(claim, rev, self.timing.lease_fence)));
            }
        }
        let rows = self.rows().await?;
        let sent = clock::boot();
        let request = self.preference(&rows);
        let mut decision = plan(&request, &rows, sent);
        if let Plan::Probe(row) = &decision {
            decision = match self.is_dead(row).await? {
                true => Plan::Claim(LeaseWrite {
                    number: row.number,
                    expect: Precondition::Rev(row.rev),
                    epoch: None,
                    sent: clock::boot(),
                }),
                // a running process with the same name keeps its number
                false => plan(&ClaimRequest { name: String::new(), ..request }, &rows, sent),
            };
        }
        let Plan::Claim(claim) = decision else { return Ok(None) };
        Ok(match self.send(claim).await {
            LeaseWriteOutcome::Written(rev) => Some(HeldLease::begin(claim, rev, self.timing.lease_fence)),
            LeaseWriteOutcome::Refused | LeaseWriteOutcome::Unknown => None,
        })
    }

    /// Prefers the old number if it is free, so that addresses stay valid; otherwise the configured request.
    fn preference(&self, rows: &[Listed]) -> ClaimRequest {
        let old = self.held.map(|held| held.holder.node);
        match old.filter(|old| rows.iter().all(|row| row.number != *old)) {
            Some(number) => ClaimRequest { number: Some(number), ..self.request.clone() },
            None => self.request.clone(),
        }
    }

    async fn rows(&self) -> Result<Vec<Listed>, Unavailable> {
        let listed = self.leases.list(node_key::LEASES).await?.into_iter().filter_map(|entry| {
            let number = entry.key.strip_prefix(node_key::LEASES)?.parse().ok()?;
            let name = NodeRow::decode(&entry.meta).map(|row| row.name).unwrap_or_default();
            Some(Listed { number, rev: entry.rev, name })
        });
        Ok(listed.collect())
    }

    /// Returns whether the epoch of a listed row has no responder.
    async fn is_dead(&self, row: &Listed) -> Result<bool, Unavailable> {
        let entry = self.leases.get(&node_key::lease(row.number), crate::engine::Consistency::Latest).await?;
        let Some(entry) = entry.filter(|entry| entry.rev == row.rev) else { return Ok(false) };
        let Some(found) = NodeRow::decode(&entry.meta) else { return Ok(false) };
        let holder = Holder { node: row.number, epoch: found.epoch_at(entry.rev) };
        Ok(ping(&self.engine, &self.subjects, holder, self.timing.deliver).await
            == Err(RequestError::NoResponder))
    }

    async fn send(&self, write: LeaseWrite) -> LeaseWriteOutcome {
        let (key, op) = (node_key::lease(write.number), OperationId::random());
        let row = NodeRow { epoch: write.epoch, ..self.row.clone() };
        let ttl = Some(self.timing.lease_ttl);
        let put =
            Put { key: key.clone(), value: Bytes::new(), meta: row.encode(), expect: write.expect, ttl, op };
        match self.leases.put(put).await {
            Ok(rev) => LeaseWriteOutcome::Written(rev),
            Err(WriteError::Conflict { .. }) => LeaseWriteOutcome::Refused,
            Err(WriteError::Unknown) => match self.leases.resolve_unknown(&key, op).await {
                Ok(Resolution::Written { rev }) => LeaseWriteOutcome::Written(rev),
                // the write may still arrive; the next compare-and-set shows whether it did
                _ => LeaseWriteOutcome::Unknown,
            },
            Err(WriteError::Down | WriteError::Invalid) => LeaseWriteOutcome::Unknown,
        }
    }

    /// Sets or clears the lease. A lost lease stays in `held` with its fence at zero until the next claim,
    /// because the claim prefers its number.
    fn set(&mut self, held: Option<HeldLease>) {
        let fenced_at = held.map_or(Duration::ZERO, |held| held.fenced_at);
        self.fenced_at_ms.store(fenced_at.as_millis() as u64, Ordering::Release);
        let holder = held.map(|held| held.holder);
        self.holder.send_if_modified(|current| std::mem::replace(current, holder) != holder);
        if held.is_some() {
            self.held = held;
        } else if let Some(old) = &mut self.held {
            old.fenced_at = Duration::ZERO;
        }
    }

    async fn release(mut self) {
        let Some(held) = self.held else { return };
        self.set(None);
        let key = node_key::lease(held.holder.node);
        if let Err(error) = self.leases.delete(&key, Precondition::Rev(held.rev)).await {
            tracing::debug!(%error, "lease not given back, it will expire");
        }
    }
}

/// Sends a liveness request to one epoch of a node.
async fn ping(
    engine: &Engine,
    subjects: &Subjects,
    holder: Holder,
    within: Duration,
) -> Result<(), RequestError> {
    let subject = subjects.node(holder.node, holder.epoch, leaf::ALIVE);
    engine.request(Message::new(subject, wire::encode(&Alive {})), within).await.map(|_| ())
}

/// Deletes the lease of a node when its process has ended: the subject of its epoch had no responder three
/// times within `Timing::death_confirmation`. Deletes at the revision that was read, so the delete fails if the node
/// has renewed since. Returns whether the lease was deleted.
///
/// # Errors
///
/// [`Unavailable`] when the engine is unavailable or the outcome of the delete is unknown.
pub async fn evict_dead_node(
    engine: &Engine,
    subjects: &Subjects,
    timing: Timing,
    node: NodeNumber,
) -> Result<bool, Unavailable> {
    let leases = engine.kv(Bucket::Nodes);
    let key = node_key::lease(node);
    let Some(entry) = leases.get(&key, crate::engine::Consistency::Latest).await? else { return Ok(false) };
    let Some(row) = NodeRow::decode(&entry.meta) else { return Ok(false) };
    let holder = Holder { node, epoch: row.epoch_at(entry.rev) };
    for probe in 0..DEATH_PROBES {
        if probe > 0 {
            tokio::time::sleep(timing.death_confirmation / DEATH_PROBES).await;
        }
        if ping(engine, subjects, holder, timing.deliver).await != Err(RequestError::NoResponder) {
            return Ok(false);
        }
    }
    match leases.delete(&key, Precondition::Rev(entry.rev)).await {
        Ok(()) => {
            tracing::warn!(node = %node, epoch = holder.epoch, "node is dead: no response on its subject, lease deleted");
            Ok(true)
        }
        Err(WriteError::Conflict { .. }) => Ok(false),
        Err(_) => Err(Unavailable),
    }
}

/// Returns the nodes that hold a lease, for a process that has no view of them.
///
/// # Errors
///
/// [`Unavailable`] when the engine is unavailable.
pub async fn living_nodes(engine: &Engine) -> Result<Vec<Holder>, Unavailable> {
    let entries = engine.kv(Bucket::Nodes).list(node_key::LEASES).await?;
    let holder = |entry: crate::engine::Entry| {
        let node = entry.key.strip_prefix(node_key::LEASES)?.parse().ok()?;
        Some(Holder { node, epoch: NodeRow::decode(&entry.meta)?.epoch_at(entry.rev) })
    };
    Ok(entries.into_iter().filter_map(holder).collect())
}

/// Returns the node that this node monitors: the next living number after its own, around the ring.
pub fn next_in_ring(own: NodeNumber, living: &[NodeNumber]) -> Option<NodeNumber> {
    let after = living.iter().copied().filter(|number| *number > own).min();
    after.or_else(|| living.iter().copied().min()).filter(|number| *number != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_watched_by_exactly_one_other() {
        let numbers: Vec<_> = [1, 4, 9].into_iter().filter_map(NodeNumber::new).collect();
        let watched: Vec<_> = numbers.iter().filter_map(|own| next_in_ring(*own, &numbers)).collect();
        assert_eq!(watched, [numbers[1], numbers[2], numbers[0]]);
        assert_eq!(next_in_ring(numbers[0], &numbers[..1]), None);
    }
}
