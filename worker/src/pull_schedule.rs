//! Which work items a worker pulls next.
//!
//! Owns: what is known of each pulled route, and how free slots are divided among them. Pure: no clock, no engine.
//!
//! A route may be given several times; each time at most one pull of it is outstanding. A route that is known to have work items is *ready*: it gets a share of
//! the free slots, and its pull returns at once. Any other route is *armed*: its pull asks for one work item and waits
//! for it, so that the first work item of a user starts without a search. Free slots are divided among the ready routes
//! one by one: by priority with a weight, so that no priority starves, and within a priority in turn.

use pagewire_cluster::job::Priority;

/// The order in which priorities get a free slot: 16 of 21 slots are for high priority, 4 for normal and 1 for low. A
/// priority without a ready route passes its turn on.
const TURNS: [Priority; 21] = {
    use Priority::{High, Low, Normal};
    [
        High, High, High, High, Normal, High, High, High, High, Normal, High, High, High, High, Normal, High,
        High, High, High, Normal, Low,
    ]
};

/// A pull to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pull {
    /// Index of the route.
    pub(crate) route: usize,
    /// How many work items to take at most.
    pub(crate) batch: usize,
    /// Whether the pull waits for the first work item.
    pub(crate) waits: bool,
}

/// What is known of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RouteState {
    /// Nothing, and no pull is outstanding.
    Unknown,
    /// A pull waits for the first work item.
    Armed,
    /// There are work items, and no pull is outstanding.
    Ready,
    /// A pull of that many work items is outstanding, and as many slots are meant for them.
    Pulling(usize),
}

/// The pulls of one worker.
#[derive(Debug)]
pub(crate) struct PullSchedule {
    routes: Vec<(Priority, RouteState)>,
    /// Index of the next turn.
    turn: usize,
    /// The route of each priority that was served last.
    last: [usize; Priority::ALL.len()],
}

impl PullSchedule {
    /// Creates the schedule of routes with these priorities.
    pub(crate) fn new(priorities: impl IntoIterator<Item = Priority>) -> Self {
        let routes = priorities.into_iter().map(|priority| (priority, RouteState::Unknown)).collect();
        Self { routes, turn: 0, last: [0; Priority::ALL.len()] }
    }

    /// Returns the pulls to start while that many slots are free. Work items of armed routes may exceed the free slots.
    pub(crate) fn start(&mut self, free: usize) -> Vec<Pull> {
        if free == 0 {
            return Vec::new();
        }
        let mut batches = vec![0; self.routes.len()];
        for _ in self.promised()..free {
            let Some(route) = self.next_ready() else { break };
            batches[route] += 1;
        }
        let mut pulls = Vec::new();
        for (route, (batch, (_, state))) in batches.into_iter().zip(&mut self.routes).enumerate() {
            if batch > 0 {
                *state = RouteState::Pulling(batch);
                pulls.push(Pull { route, batch, waits: false });
            } else if *state == RouteState::Unknown {
                *state = RouteState::Armed;
                pulls.push(Pull { route, batch: 1, waits: true });
            }
        }
        pulls
    }

    /// Records the end of a pull. `more`: the route still has work items.
    pub(crate) fn ended(&mut self, route: usize, more: bool) {
        if let Some((_, state)) = self.routes.get_mut(route) {
            *state = if more { RouteState::Ready } else { RouteState::Unknown };
        }
    }

    /// Returns whether nothing can be started before a slot is free. Otherwise the end of a pull is the next event.
    pub(crate) fn waits_for_slot(&self) -> bool {
        let idle = |(_, state): &(_, RouteState)| matches!(state, RouteState::Unknown | RouteState::Ready);
        self.promised() == 0 && self.routes.iter().any(idle)
    }

    /// Returns whether each route was empty when it was looked at last, and the next work item of each is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        self.routes.iter().all(|(_, state)| *state == RouteState::Armed)
    }

    /// Returns the slots that are meant for outstanding pulls.
    fn promised(&self) -> usize {
        let slots = self.routes.iter().map(|(_, state)| match state {
            RouteState::Pulling(batch) => *batch,
            RouteState::Unknown | RouteState::Armed | RouteState::Ready => 0,
        });
        slots.sum()
    }

    /// Returns the ready route that gets the next slot.
    fn next_ready(&mut self) -> Option<usize> {
        let turns = (0..TURNS.len()).map(|step| (self.turn + step) % TURNS.len());
        let (turn, route) = turns.filter_map(|turn| Some((turn, self.ready(TURNS[turn])?))).next()?;
        self.turn = (turn + 1) % TURNS.len();
        self.last[TURNS[turn] as usize] = route;
        Some(route)
    }

    /// Returns the ready route of a priority that comes after the one that was served last, in a circle.
    fn ready(&self, priority: Priority) -> Option<usize> {
        let last = self.last[priority as usize];
        let mut circle = (last + 1..self.routes.len()).chain(0..=last);
        circle.find(|route| self.routes.get(*route) == Some(&(priority, RouteState::Ready)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// One high route, four normal ones and one low one.
    fn priorities() -> Vec<Priority> {
        use Priority::{High, Low, Normal};
        vec![High, Normal, Normal, Normal, Normal, Low]
    }

    /// Starts pulls and ends each at once; all routes have more work items. Returns the work items per route.
    fn take(
        schedule: &mut PullSchedule,
        free: usize,
        more: impl Fn(usize) -> bool,
    ) -> BTreeMap<usize, usize> {
        let pulls = schedule.start(free);
        for pull in &pulls {
            schedule.ended(pull.route, more(pull.route));
        }
        pulls.iter().filter(|pull| !pull.waits).map(|pull| (pull.route, pull.batch)).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Start(usize),
        End(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..40).prop_map(Step::Start),
            (0usize..6, any::<bool>()).prop_map(|(pull, more)| Step::End(pull, more)),
        ]
    }

    proptest! {
        #[test]
        fn pulls_never_exceed_the_free_slots_by_more_than_one_per_armed_route(
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let mut schedule = PullSchedule::new(priorities());
            let mut outstanding: BTreeMap<usize, Pull> = BTreeMap::new();
            let mut ready = [false; 6];
            for step in steps {
                match step {
                    Step::Start(free) => {
                        let promised = |outstanding: &BTreeMap<usize, Pull>| -> usize {
                            outstanding.values().filter(|pull| !pull.waits).map(|pull| pull.batch).sum()
                        };
                        let before = promised(&outstanding);
                        for pull in schedule.start(free) {
                            prop_assert!(free > 0, "a pull without a free slot");
                            prop_assert!(pull.batch > 0 && (!pull.waits || pull.batch == 1));
                            prop_assert_eq!(pull.waits, !ready[pull.route], "only what is known is counted on");
                            prop_assert!(outstanding.insert(pull.route, pull).is_none(), "two pulls of a route");
                        }
                        let after = promised(&outstanding);
                        prop_assert!(after <= free.max(before));
                        let idle = (0..6).filter(|route| !outstanding.contains_key(route));
                        for route in idle {
                            prop_assert!(ready[route] || free == 0, "a free slot arms each other route");
                            prop_assert!(after >= free, "a ready route gets a slot that is left");
                        }
                        prop_assert_eq!(schedule.waits_for_slot(), after == 0 && outstanding.len() < 6);
                    }
                    Step::End(at, more) => {
                        let Some(route) = outstanding.keys().nth(at).copied() else { continue };
                        outstanding.remove(&route);
                        schedule.ended(route, more);
                        ready[route] = more;
                    }
                }
            }
        }

        #[test]
        fn ready_routes_of_a_priority_are_served_alike(
            rounds in prop::collection::vec(1usize..10, 1..60),
            busy in prop::collection::btree_set(1usize..5, 1..5),
        ) {
            let mut schedule = PullSchedule::new(priorities());
            let more = |route: usize| busy.contains(&route);
            take(&mut schedule, 1, more);
            let mut served: BTreeMap<usize, usize> = busy.iter().map(|route| (*route, 0)).collect();
            for free in &rounds {
                for (route, batch) in take(&mut schedule, *free, more) {
                    *served.entry(route).or_default() += batch;
                }
            }
            prop_assert_eq!(served.values().sum::<usize>(), rounds.iter().sum::<usize>(), "no slot is left");
            let (least, most) = (served.values().min(), served.values().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1, "{:?}", served);
        }

        #[test]
        fn no_priority_starves_and_the_higher_one_gets_more(
            rounds in prop::collection::vec(1usize..10, 30..60),
            offset in 0usize..21,
        ) {
            let mut schedule = PullSchedule::new(priorities());
            take(&mut schedule, 1, |_| true);
            take(&mut schedule, offset, |_| true);
            let (mut low, mut high, mut normal, mut since_low) = (0, 0, 0, 0);
            for free in rounds {
                for (route, batch) in take(&mut schedule, free, |_| true) {
                    match route {
                        0 => high += batch,
                        5 => (low, since_low) = (low + batch, 0),
                        _ => normal += batch,
                    }
                }
                since_low += free;
                prop_assert!(since_low <= TURNS.len() + 10);
            }
            prop_assert!(high > normal && normal > low && low > 0, "{high} {normal} {low}");
        }
    }

    #[test]
    fn an_idle_worker_waits_at_every_route_and_not_for_a_slot() {
        let mut schedule = PullSchedule::new(priorities());
        assert!(schedule.waits_for_slot(), "before the first pulls");
        assert_eq!(schedule.start(4).len(), 6);
        assert!(schedule.start(4).is_empty() && !schedule.waits_for_slot());
        schedule.ended(2, false);
        assert!(schedule.start(0).is_empty(), "no slot is free");
        assert!(schedule.waits_for_slot());
        assert_eq!(schedule.start(1), [Pull { route: 2, batch: 1, waits: true }]);
    }

    #[test]
    fn a_route_with_a_long_queue_does_not_keep_the_first_work_item_of_another_waiting() {
        let mut schedule = PullSchedule::new(priorities());
        let flood = |route| route == 1;
        take(&mut schedule, 4, flood);
        for _ in 0..3 {
            let pulls = schedule.start(4);
            assert!(pulls.contains(&Pull { route: 1, batch: 4, waits: false }));
            assert_eq!(pulls.iter().filter(|pull| pull.waits).count(), 5, "the others are armed beside it");
            for pull in pulls {
                schedule.ended(pull.route, flood(pull.route));
            }
        }
    }
}
