//! What the sockets of pages say about the lane of this node.
//!
//! Owns: which pages are compared, and what their sockets tell. Never: the comparison (`pagewire_cluster::rollout::analysis`), or
//! the sockets.
//!
//! A page is compared by the weights of the revision that put it into its lane (`Membership::placed`), because its user was in
//! the lane with the probability of the lane's share by then. A page that something else has put here is not compared: an operator,
//! a client that cannot move or be moved, a lane without nodes. Otherwise the pages that find their node, and those that do
//! not, would be in different lanes.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::rollout::analysis::{FinishedWork, LaneRelease, LaneWork, OutcomeLog, WorkOutcome};
use pagewire_cluster::rollout::{EDGE, RoutingKey};

use super::page::Page;
use super::store::PageStore;

/// How the socket of a page has ended, as far as it says something about its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketEnd {
    /// Its client has closed it.
    Left,
    /// It broke: no close frame came, the client fell silent, or its node failed.
    Broken,
}

/// Counts the pages of this node for the comparison of its lane with others.
pub struct PageEnds {
    store: Arc<PageStore>,
    outcomes: OutcomeLog,
    lane: LaneRelease,
}

impl PageEnds {
    pub(super) fn new(store: Arc<PageStore>, outcomes: OutcomeLog) -> Self {
        let (lane, release) = (store.options.lane.clone(), store.options.release.clone());
        Self { store, outcomes, lane: LaneRelease { pool: EDGE.to_owned(), lane, release } }
    }

    /// Counts a page after its socket has ended. A page that another node has taken is counted there.
    pub fn ended(&self, page: &Page, end: SocketEnd) {
        let outcome = match end {
            SocketEnd::Left => WorkOutcome::Served,
            SocketEnd::Broken => WorkOutcome::Failed,
        };
        if page.is_owned() && self.store.placement.is_compared() {
            self.count(page, outcome);
        }
    }

    /// Counts the pages with a socket that were opened at least this long ago.
    pub fn count_living(&self, age: Duration) {
        if !self.store.placement.is_compared() {
            return;
        }
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let before = self.store.now_ms().saturating_sub(age);
        for page in self.store.pages().iter().filter(|page| page.opened() <= before && page.is_live()) {
            self.count(page, WorkOutcome::Served);
        }
    }

    fn count(&self, page: &Page, outcome: WorkOutcome) {
        if page.placed == 0 {
            return;
        }
        let (user, connection) = (page.user(), page.connection().key);
        let work = FinishedWork {
            kind: LaneWork::Page,
            unit: RoutingKey::of(user.as_deref(), Some(connection)),
            revision: Some(page.placed),
            outcome,
            ran: Duration::ZERO,
        };
        self.outcomes.record(&self.lane, work);
    }
}
