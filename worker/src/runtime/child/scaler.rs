//! The places of a pool for children of one kind, as many as are needed.
//!
//! Owns: starting and ending places. Never: the decision (`scaling`), or what a place does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagewire_cluster::rollout::LimitShare;
use pagewire_cluster::worker::WorkerType;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::child_slot::ChildSlot;
use super::options::ScaleLimits;
use super::pool::{ChildPool, PoolShared};
use super::scaling::{ScaleStep, decide};

/// The places for children of one kind.
pub(super) struct Scaler {
    pool: Arc<PoolShared>,
    kind: WorkerType,
    limits: ScaleLimits,
    places: Vec<RunningPlace>,
}

/// A place that runs in a task.
struct RunningPlace {
    number: u32,
    stop: CancellationToken,
    /// The number of its child, 0 while there is none.
    child: Arc<AtomicU64>,
}

impl ChildPool {
    /// Sets how many children the lane of the pool allows and needs. A child above that ends its work first.
    pub fn narrow(&self, lane: LimitShare) {
        self.shared().lane_limits.send_if_modified(|current| std::mem::replace(current, lane) != lane);
    }
}

impl Scaler {
    pub(super) fn new(pool: Arc<PoolShared>, kind: WorkerType, limits: ScaleLimits) -> Self {
        Self { pool, kind, limits, places: Vec::new() }
    }

    /// Returns whether the number changes only with the limits of the lane.
    fn is_fixed(&self) -> bool {
        self.limits.min == self.limits.max
    }

    /// Keeps the number of places right until the pool stops.
    pub(super) async fn run(mut self) {
        let mut lane = self.pool.lane_limits.subscribe();
        for _ in 0..self.limits.narrowed(*lane.borrow_and_update()).min {
            self.add();
        }
        let stopping = self.pool.stopping.clone();
        let mut ticks = tokio::time::interval(self.pool.timing.child_watch);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let limits = self.limits.narrowed(*lane.borrow_and_update());
            let is_settled = self.is_fixed() && self.places.len() == limits.max;
            tokio::select! {
                _ = ticks.tick(), if !is_settled => self.step(limits),
                // an error means that the pool is gone
                Ok(()) = lane.changed() => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    fn step(&mut self, limits: ScaleLimits) {
        let load = self.pool.load(self.kind, self.places.len(), limits.max_users);
        match decide(limits, load, self.pool.timing.child_idle) {
            ScaleStep::Stay => {}
            ScaleStep::Add => self.add(),
            ScaleStep::Remove(child) => self.remove(child),
        }
        if self.is_fixed() {
            return;
        }
        // users wait for a child that starts, but not for a program that does not start
        let grows = self.places.len() < limits.max || load.ready < self.places.len();
        self.pool.set_growing(self.kind, grows && !self.pool.is_failing());
    }

    fn add(&mut self) {
        let (stop, child) = (self.pool.stopping.child_token(), Arc::new(AtomicU64::new(0)));
        let is_free = |number: &u32| self.places.iter().all(|place| place.number != *number);
        let number = (0..).find(is_free).unwrap_or_default();
        let slot = ChildSlot::new(self.pool.clone(), self.kind, number, stop.clone(), child.clone());
        self.pool.tasks.spawn(slot.run());
        self.places.push(RunningPlace { number, stop, child });
    }

    fn remove(&mut self, child: u64) {
        let is_of = |place: &RunningPlace| place.child.load(Ordering::Relaxed) == child;
        if let Some(index) = self.places.iter().position(is_of) {
            tracing::info!(pool = self.pool.options.pool, child, "a child is not needed any more");
            self.places.swap_remove(index).stop.cancel();
        }
    }
}
