//! The Queue of one process.
//!
//! Owns: the lock of the work items, and the waiting pulls. Never: due times (`queue_state`) or storage (`disk`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::disk::{Disk, JournalChange, StoredItem};
use super::queue_state::{InFlightMessage, QueueState, Receipt};
use super::rows::is_legal;
use crate::clock;
use crate::engine::queue::is_route_pattern;
use crate::engine::{Enqueue, MAX_PAYLOAD, QueueError, QueueMessage};
use crate::timing::Timing;

struct SharedQueue {
    zero: Instant,
    items: Mutex<QueueState>,
    /// Notified when a work item is due earlier than a waiting pull expects.
    earlier: Notify,
    redelivery: Duration,
    disk: Option<Disk>,
}

#[derive(Clone)]
pub(in crate::engine) struct Queue(Arc<SharedQueue>);

impl Queue {
    pub(super) fn new(timing: &Timing) -> Self {
        Self::holding(QueueState::default(), timing, None)
    }

    /// Restores the unsettled work items. Those that were due or taken are due at once, the others at their
    /// time.
    pub(super) fn restore(kept: Vec<StoredItem>, timing: &Timing, disk: Disk) -> Self {
        let (mut items, now) = (QueueState::default(), clock::unix_ms());
        for StoredItem { number, id, route, payload, due } in kept {
            let not_before = Some(Duration::from_millis(due.saturating_sub(now)));
            items.add(number, Enqueue { id, route, payload, not_before }, Duration::ZERO);
        }
        Self::holding(items, timing, Some(disk))
    }

    fn holding(items: QueueState, timing: &Timing, disk: Option<Disk>) -> Self {
        Self(Arc::new(SharedQueue {
            zero: Instant::now(),
            items: Mutex::new(items),
            earlier: Notify::new(),
            redelivery: timing.redelivery,
            disk,
        }))
    }

    /// Stores the state of a work item on disk. The caller holds the lock of the work items, so the disk sees
    /// changes in the order in which they happened.
    fn persist(&self, items: &QueueState, number: u64) {
        let Some(disk) = &self.0.disk else { return };
        disk.append_item(match items.get(number) {
            None => JournalChange::Settled { number },
            Some(item) => {
                let left = item.due.saturating_sub(self.now());
                JournalChange::Item(StoredItem {
                    number,
                    id: item.id.clone(),
                    route: item.route.clone(),
                    payload: item.payload.clone(),
                    due: clock::unix_ms().saturating_add(left.as_millis() as u64),
                })
            }
        });
    }

    /// Locks the work items. They are consistent after every step, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.0.zero.elapsed()
    }

    pub(in crate::engine) fn push(&self, push: Enqueue) -> Result<(), QueueError> {
        if !is_legal(&push.id) || !is_legal(&push.route) || push.payload.len() > MAX_PAYLOAD {
            return Err(QueueError::Invalid);
        }
        let mut items = self.lock();
        let number = items.push(push, self.now());
        self.persist(&items, number);
        drop(items);
        self.0.earlier.notify_waiters();
        Ok(())
    }

    pub(in crate::engine) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        if !is_route_pattern(route, is_legal) {
            return Err(QueueError::Invalid);
        }
        let until = Instant::now() + wait;
        loop {
            // register first, so that no later change is missed
            let earlier = self.0.earlier.notified();
            let (taken, due) = {
                let mut items = self.lock();
                (items.take(route, free_slots, self.now(), self.0.redelivery), items.next_due(route))
            };
            if !taken.is_empty() || free_slots == 0 || Instant::now() >= until {
                return Ok(taken.into_iter().map(QueueMessage::from).collect());
            }
            let due = due.map_or(until, |due| (self.0.zero + due).min(until));
            tokio::select! {
                () = earlier => {}
                () = sleep_until(due) => {}
            }
        }
    }

    pub(in crate::engine) fn ack(&self, delivery: &QueueMessage) {
        if let Some(receipt) = Receipt::parse(&delivery.receipt) {
            let mut items = self.lock();
            items.ack(receipt);
            self.persist(&items, receipt.number);
        }
    }

    pub(in crate::engine) fn nak(&self, delivery: &QueueMessage, after: Duration) {
        if let Some(receipt) = Receipt::parse(&delivery.receipt) {
            let mut items = self.lock();
            items.again_at(receipt, self.now().saturating_add(after));
            self.persist(&items, receipt.number);
            drop(items);
            self.0.earlier.notify_waiters();
        }
    }

    pub(in crate::engine) fn extend(&self, delivery: &QueueMessage) {
        if let Some(receipt) = Receipt::parse(&delivery.receipt) {
            self.lock().again_at(receipt, self.now().saturating_add(self.0.redelivery));
        }
    }

    pub(in crate::engine) fn depth(&self, route: &str) -> u64 {
        self.lock().depth(route) as u64
    }
}

impl From<InFlightMessage> for QueueMessage {
    fn from(InFlightMessage { receipt, id, payload, more }: InFlightMessage) -> Self {
        let Receipt { number, attempt } = receipt;
        Self { id, payload, attempt, more, receipt: format!("{number} {attempt}") }
    }
}

impl Receipt {
    /// Returns `None` for a receipt of another engine.
    fn parse(text: &str) -> Option<Self> {
        let (number, attempt) = text.split_once(' ')?;
        Some(Self { number: number.parse().ok()?, attempt: attempt.parse().ok()? })
    }
}
