//! Pins: the lanes that a page keeps for its calls.
//!
//! Owns: which lane a page keeps in each pool, and when its pin gives way. Never: where pins are stored (the row of the
//! page), or jobs: a user's jobs are in one lane of a pool at a time, whatever its pages keep.
//!
//! The first call of a page in a pool that has a document pins the lane that it got. A pin gives way to a lane of the
//! user's own, and it ends when its lane gets no new work: then the next call pins the lane that it gets. A call whose lane
//! has no living workers falls back as any other one, and the pin stays. In a lane with a limit on its users, a pin of a user who
//! is not admitted gives way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Rollouts;
use super::active::{LaneAssignment, LaneInputs, Reason, decide, own_lane, settle};
use super::lane::RoutingKey;
use super::waiting::is_open;
use crate::wire::PinnedLanes;

/// Maximum number of pools in which a page keeps a lane. In further pools each call is decided anew.
const MAX_POOLS: usize = 16;
/// Maximum length of all names together, in bytes, so that they fit into the row of the page.
const MAX_BYTES: usize = 1024;

/// The lanes that a page of this process keeps.
#[derive(Debug, Default)]
pub struct LanePins(Mutex<PinState>);

#[derive(Debug, Default)]
struct PinState {
    lanes: PinnedLanes,
    /// Some of them are not in the row of the page yet.
    unstored: bool,
    /// A task stores them.
    storing: bool,
}

impl PinState {
    /// Returns the lane of a pool, while it gets new work by these inputs, and the unit may have it.
    fn open(&self, pool: &str, unit: RoutingKey<'_>, inputs: LaneInputs<'_>) -> Option<String> {
        let is_open = |lane: &String| is_open(inputs.document, inputs.closed, lane);
        self.lanes.get(pool).filter(|lane| is_open(lane) && inputs.may_have(lane, unit)).cloned()
    }

    fn pin(&mut self, pool: &str, lane: &str) {
        if self.lanes.get(pool).is_some_and(|known| known == lane) {
            return;
        }
        let others = || self.lanes.iter().filter(|(known, _)| *known != pool);
        let bytes: usize = others().map(|(pool, lane)| pool.len() + lane.len()).sum();
        if others().count() < MAX_POOLS && bytes + pool.len() + lane.len() <= MAX_BYTES {
            self.lanes.insert(pool.to_owned(), lane.to_owned());
            self.unstored = true;
        }
    }
}

impl LanePins {
    /// Creates the pins of a page from those in its row.
    pub fn new(stored: PinnedLanes) -> Self {
        Self(Mutex::new(PinState { lanes: stored, ..PinState::default() }))
    }

    /// Each change leaves the state consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, PinState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lane of a call of the page, and pins it if the page keeps no lane in that pool. The result is counted,
    /// except for pools without a document. `serves` returns whether a lane of that pool has a living worker.
    pub fn assign(
        &self,
        rollouts: &Rollouts,
        pool: &str,
        unit: RoutingKey<'_>,
        serves: impl FnOnce(&str) -> bool,
    ) -> LaneAssignment {
        rollouts.with_inputs(pool, unit, |split, inputs| {
            let Some(split) = split else { return decide(inputs, unit, serves) };
            let mut state = self.lock();
            let kept = state.open(pool, unit, inputs);
            let assigned = split.count(decide_for_page(inputs, unit, kept.as_deref(), serves));
            rollouts.applied.entered.note(inputs, unit, &assigned);
            if kept.is_none() && pins(assigned.reason, unit) {
                state.pin(pool, &assigned.lane);
            }
            assigned
        })
    }

    /// Returns the lane of a call of the page without counting or pinning it.
    pub fn explain(
        &self,
        rollouts: &Rollouts,
        pool: &str,
        unit: RoutingKey<'_>,
        serves: impl FnOnce(&str) -> bool,
    ) -> LaneAssignment {
        rollouts.with_inputs(pool, unit, |_, inputs| {
            let kept = self.lock().open(pool, unit, inputs);
            decide_for_page(inputs, unit, kept.as_deref(), serves)
        })
    }

    /// Returns the lane that the page keeps in a pool, while that lane gets new work.
    pub fn kept(&self, rollouts: &Rollouts, pool: &str) -> Option<String> {
        self.lock().lanes.get(pool).filter(|lane| rollouts.is_open(pool, lane)).cloned()
    }

    /// Forgets the lane of a pool, because the page or its user has chosen another one.
    pub fn unpin(&self, pool: &str) {
        let mut state = self.lock();
        state.unstored |= state.lanes.remove(pool).is_some();
    }

    /// Returns the lane of each pool.
    pub fn lanes(&self) -> PinnedLanes {
        self.lock().lanes.clone()
    }

    /// Adds the pins of a page that another process has handed over. They are newer than those in its row.
    pub fn add(&self, handed: &PinnedLanes) {
        self.lock().lanes.extend(handed.iter().map(|(pool, lane)| (pool.clone(), lane.clone())));
    }

    /// Records that a row with these pins was written.
    pub fn stored(&self, lanes: &PinnedLanes) {
        let mut state = self.lock();
        state.unstored &= state.lanes != *lanes;
    }

    /// Returns whether the caller has to store the pins: some are not in the row, and no other task stores them. The caller
    /// calls [`LanePins::end_storing`] until that returns `true`.
    pub fn begin_storing(&self) -> bool {
        let mut state = self.lock();
        let begins = state.unstored && !state.storing;
        state.storing |= begins;
        begins
    }

    /// Returns whether all pins are in the row, or need not be there any more (`given_up`), so that the task that stores
    /// them ends.
    pub fn end_storing(&self, given_up: bool) -> bool {
        let mut state = self.lock();
        state.storing = state.unstored && !given_up;
        !state.storing
    }
}

/// Whether a lane with this reason is kept. A user who may be admitted yet keeps no lane, so that the page and the jobs of the user
/// agree on it.
fn pins(reason: Reason, unit: RoutingKey<'_>) -> bool {
    match reason {
        Reason::Override => false,
        Reason::NotAdmitted => matches!(unit, RoutingKey::Connection(_)),
        _ => true,
    }
}

/// Returns the lane of a call of a page that keeps the lane `kept`, which gets new work.
fn decide_for_page(
    inputs: LaneInputs<'_>,
    unit: RoutingKey<'_>,
    kept: Option<&str>,
    serves: impl FnOnce(&str) -> bool,
) -> LaneAssignment {
    match kept {
        Some(lane) if own_lane(inputs.document, unit).is_none() => {
            settle(inputs, (lane, Reason::Pin), unit.bucket(&inputs.document.salt), serves)
        }
        _ => decide(inputs, unit, serves),
    }
}

#[cfg(test)]
mod tests;
