//! A timer wheel: items that become due after a number of ticks. Pure.

/// A wheel with slots of one tick each. An item with a delay beyond one full turn is put into the last possible slot
/// and comes out early; the caller checks the time of each item.
pub(super) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// The last tick with an emptied slot.
    now: usize,
}

impl<T> Wheel<T> {
    /// A wheel for delays of up to `span` ticks.
    pub(super) fn new(span: usize) -> Self {
        Self { slots: std::iter::repeat_with(Vec::new).take(span.max(1) + 1).collect(), now: 0 }
    }

    /// Adds an item that becomes due `delay` ticks from now, at the next tick at the earliest.
    pub(super) fn add(&mut self, delay: usize, item: T) {
        let slot = (self.now + delay.clamp(1, self.slots.len() - 1)) % self.slots.len();
        self.slots[slot].push(item);
    }

    /// The tick that the wheel has advanced to.
    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// Advances to tick `now` and returns all items that became due since the last call.
    pub(super) fn advance(&mut self, now: usize) -> Vec<T> {
        let mut due = Vec::new();
        let passed = now.saturating_sub(self.now).min(self.slots.len());
        for tick in (now.max(self.now) - passed + 1)..=now {
            let slot = tick % self.slots.len();
            due.append(&mut std::mem::take(&mut self.slots[slot]));
        }
        self.now = self.now.max(now);
        due
    }

    /// All items, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everything_comes_out_once_and_never_before_it_is_due(
            span in 1usize..20,
            items in prop::collection::vec((0usize..25, 0usize..30), 1..60),
        ) {
            let mut wheel = Wheel::new(span);
            let (mut now, mut waiting) = (0, items.len());
            for (delay, step) in items {
                wheel.add(delay, now + delay.clamp(1, span));
                now += step;
                let due_now = wheel.advance(now);
                waiting -= due_now.len();
                prop_assert!(due_now.iter().all(|due| *due <= now));
                prop_assert!(wheel.iter().all(|due| *due > now));
            }
            waiting -= wheel.advance(now + span).len();
            prop_assert_eq!(waiting, 0);
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_changes_nothing() {
        let mut wheel = Wheel::new(5);
        wheel.advance(7);
        wheel.add(2, "a");
        assert!(wheel.advance(7).is_empty() && wheel.advance(3).is_empty());
        assert_eq!(wheel.advance(9), ["a"]);
    }
}
