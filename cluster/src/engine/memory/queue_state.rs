//! The work items of a queue.
//!
//! Owns: the time at which a work item is due, for the first time and again. Pure: no lock, no clock; times
//! count from an origin that the caller chooses.
//!
//! Each route has one order, by due time. A new work item is due now or after its delay. Taking it postpones
//! it to its redelivery. Only settling removes it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::routes::matches;
use super::rows::Moment;
use crate::engine::Enqueue;

/// Identifies one delivery of one work item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) number: u64,
    pub(super) attempt: u64,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InFlightMessage {
    pub(super) receipt: Receipt,
    pub(super) id: String,
    pub(super) payload: Bytes,
    /// Whether more work items were due.
    pub(super) more: bool,
}

/// A work item that is not settled.
#[derive(Debug)]
pub(super) struct WorkItem {
    pub(super) id: String,
    pub(super) route: String,
    pub(super) payload: Bytes,
    attempt: u64,
    /// The time of the next delivery.
    pub(super) due: Moment,
}

/// All work items of all routes.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    last: u64,
    items: BTreeMap<u64, WorkItem>,
    routes: BTreeMap<String, BTreeSet<(Moment, u64)>>,
}

impl QueueState {
    /// Adds a work item. Returns its number.
    pub(super) fn push(&mut self, push: Enqueue, now: Moment) -> u64 {
        let number = self.last + 1;
        self.add(number, push, now);
        number
    }

    /// Adds a work item from before a restart under its old number. Its deliveries ended with the old process, so
    /// its attempts count from 0 again.
    pub(super) fn add(&mut self, number: u64, push: Enqueue, now: Moment) {
        self.last = self.last.max(number);
        let due = now.saturating_add(push.not_before.unwrap_or_default());
        self.routes.entry(push.route.clone()).or_default().insert((due, number));
        let item = WorkItem { id: push.id, route: push.route, payload: push.payload, attempt: 0, due };
        self.items.insert(number, item);
    }

    /// Returns a work item that is not settled.
    pub(super) fn get(&self, number: u64) -> Option<&WorkItem> {
        self.items.get(&number)
    }

    /// Returns the routes that a pattern matches.
    fn matching<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = &'a BTreeSet<(Moment, u64)>> {
        // routes without a wildcard in the pattern are found by a lookup, the others follow the same beginning
        let start = pattern.find('*').map_or(pattern, |at| &pattern[..at]);
        let whole = start.len() == pattern.len();
        let after = self.routes.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        after
            .take_while(move |(route, _)| if whole { *route == pattern } else { route.starts_with(start) })
            .filter(move |(route, _)| whole || matches(pattern, route))
            .map(|(_, order)| order)
    }

    /// Takes at most `limit` due work items, in the order of their due times. Each is due again after `redelivery`.
    pub(super) fn take(
        &mut self,
        route: &str,
        limit: usize,
        now: Moment,
        redelivery: Duration,
    ) -> Vec<InFlightMessage> {
        let mut due: Vec<(Moment, u64)> = self
            .matching(route)
            .flat_map(|order| order.iter().take_while(|(due, _)| *due <= now).take(limit.saturating_add(1)))
            .copied()
            .collect();
        due.sort_unstable();
        let more = due.len() > limit;
        due.truncate(limit);
        let again = now.saturating_add(redelivery);
        due.into_iter().filter_map(|(_, number)| self.deliver(number, again, more)).collect()
    }

    fn deliver(&mut self, number: u64, again: Moment, more: bool) -> Option<InFlightMessage> {
        self.postpone(number, again);
        let item = self.items.get_mut(&number)?;
        item.attempt += 1;
        let receipt = Receipt { number, attempt: item.attempt };
        Some(InFlightMessage { receipt, id: item.id.clone(), payload: item.payload.clone(), more })
    }

    /// Returns the time at which the next work item of a route is due.
    pub(super) fn next_due(&self, route: &str) -> Option<Moment> {
        self.matching(route).filter_map(|order| order.first().map(|(due, _)| *due)).min()
    }

    /// Removes the work item. Any of its deliveries may settle it, because settling one delivery means that
    /// the work is done.
    pub(super) fn ack(&mut self, receipt: Receipt) {
        let Some(item) = self.items.remove(&receipt.number) else { return };
        if let Some(order) = self.routes.get_mut(&item.route) {
            order.remove(&(item.due, receipt.number));
            if order.is_empty() {
                self.routes.remove(&item.route);
            }
        }
    }

    /// Moves the next delivery. Only the latest delivery may do this; the receipts of earlier ones have no
    /// effect.
    pub(super) fn again_at(&mut self, receipt: Receipt, due: Moment) {
        if self.items.get(&receipt.number).is_some_and(|item| item.attempt == receipt.attempt) {
            self.postpone(receipt.number, due);
        }
    }

    fn postpone(&mut self, number: u64, due: Moment) {
        let Some(item) = self.items.get_mut(&number) else { return };
        if let Some(order) = self.routes.get_mut(&item.route) {
            order.remove(&(item.due, number));
            order.insert((due, number));
            item.due = due;
        }
    }

    /// Returns the number of work items of a route that are not settled.
    pub(super) fn depth(&self, route: &str) -> usize {
        self.matching(route).map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REDELIVERY: Duration = Duration::from_secs(10);

    fn push(id: u64, delay: Option<Duration>) -> Enqueue {
        Enqueue { id: id.to_string(), route: "r".into(), payload: Bytes::new(), not_before: delay }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(Option<u64>),
        Take(usize),
        Done(usize),
        Retry(usize, u64),
        Touch(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::option::of(0u64..20).prop_map(Step::Push),
            (0usize..4).prop_map(Step::Take),
            (0usize..8).prop_map(Step::Done),
            (0usize..8, 0u64..20).prop_map(|(which, after)| Step::Retry(which, after)),
            (0usize..8).prop_map(Step::Touch),
            (0u64..15).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn a_hint_comes_when_it_is_due_and_until_it_is_settled(steps in prop::collection::vec(step(), 1..80)) {
            let (mut queue, mut now, mut pushed) = (QueueState::default(), Moment::ZERO, 0);
            // per unsettled work item: the earliest time of its next delivery, and its attempts
            let mut model: BTreeMap<u64, (Moment, u64)> = BTreeMap::new();
            let mut taken: Vec<Receipt> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(delay) => {
                        pushed += 1;
                        let delay = delay.map(seconds);
                        queue.push(push(pushed, delay), now);
                        model.insert(pushed, (now + delay.unwrap_or_default(), 0));
                    }
                    Step::Take(limit) => {
                        let due = model.values().filter(|(due, _)| *due <= now).count();
                        let deliveries = queue.take("r", limit, now, REDELIVERY);
                        prop_assert_eq!(deliveries.len(), due.min(limit));
                        for delivery in deliveries {
                            let (due, attempts) = model.get_mut(&delivery.receipt.number).unwrap();
                            prop_assert!(*due <= now);
                            (*due, *attempts) = (now + REDELIVERY, *attempts + 1);
                            prop_assert_eq!(delivery.receipt.attempt, *attempts);
                            prop_assert_eq!(delivery.id, delivery.receipt.number.to_string());
                            taken.push(delivery.receipt);
                        }
                    }
                    Step::Done(which) => if let Some(receipt) = taken.get(which) {
                        queue.ack(*receipt);
                        model.remove(&receipt.number);
                    }
                    Step::Retry(which, after) => if let Some(receipt) = taken.get(which) {
                        queue.again_at(*receipt, now + seconds(after));
                        if let Some((due, attempts)) = model.get_mut(&receipt.number)
                            && *attempts == receipt.attempt { *due = now + seconds(after); }
                    }
                    Step::Touch(which) => if let Some(receipt) = taken.get(which) {
                        queue.again_at(*receipt, now + REDELIVERY);
                        if let Some((due, attempts)) = model.get_mut(&receipt.number)
                            && *attempts == receipt.attempt { *due = now + REDELIVERY; }
                    }
                    Step::Wait(for_seconds) => now += seconds(for_seconds),
                }
                prop_assert_eq!(queue.depth("r"), model.len());
                prop_assert_eq!(queue.next_due("r"), model.values().map(|(due, _)| *due).min());
            }
        }
    }

    #[test]
    fn hints_come_in_the_order_in_which_they_were_pushed() {
        let mut queue = QueueState::default();
        for id in 1..=4 {
            queue.push(push(id, None), Moment::ZERO);
        }
        let taken = queue.take("r", 9, Moment::ZERO, REDELIVERY);
        assert_eq!(taken.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
        assert!(queue.take("other", 9, Moment::ZERO, REDELIVERY).is_empty());
    }

    #[test]
    fn a_pattern_takes_from_all_its_routes_in_the_order_of_their_due_times() {
        let mut queue = QueueState::default();
        for (number, route) in ["a.1", "b.1", "a.2", "a.1.1", "a", "a.1"].into_iter().enumerate() {
            let item = Enqueue { route: route.into(), ..push(number as u64, None) };
            queue.push(item, Moment::ZERO);
        }
        assert_eq!(
            (queue.depth("a.*"), queue.depth("*.1"), queue.depth("a"), queue.depth("c.*")),
            (3, 3, 1, 0)
        );
        let taken = queue.take("a.*", 2, Moment::ZERO, REDELIVERY);
        assert_eq!(
            taken.iter().map(|t| (t.id.as_str(), t.more)).collect::<Vec<_>>(),
            [("0", true), ("2", true)]
        );
        let taken = queue.take("a.*", 1, Moment::ZERO, REDELIVERY);
        assert_eq!(taken.iter().map(|t| (t.id.as_str(), t.more)).collect::<Vec<_>>(), [("5", false)]);
        assert_eq!(queue.next_due("a.*"), Some(REDELIVERY));
    }

    #[test]
    fn a_settled_route_leaves_nothing_behind() {
        let mut queue = QueueState::default();
        queue.push(push(1, None), Moment::ZERO);
        let taken = queue.take("r", 1, Moment::ZERO, REDELIVERY);
        queue.ack(taken[0].receipt);
        assert!(queue.items.is_empty() && queue.routes.is_empty());
    }
}
