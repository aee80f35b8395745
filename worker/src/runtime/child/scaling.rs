//! How many children of one kind a pool has. Pure.

use std::time::Duration;

use pagewire_cluster::rollout::LimitShare;

/// Work that has waited for this long needs another child.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// The number of children of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScaleLimits {
    /// Children that there are always.
    pub min: usize,
    /// The most children.
    pub max: usize,
    /// Users of one child, after which another child is started; `None` for no limit.
    pub max_users: Option<usize>,
}

impl ScaleLimits {
    /// Returns the limits of a pool that always has this many children.
    pub const fn fixed(children: usize) -> Self {
        Self { min: children, max: children, max_users: None }
    }

    /// Returns these limits within those of the lane, which start no child that these forbid.
    #[must_use]
    pub fn narrowed(self, lane: LimitShare) -> Self {
        let max = lane.max.map_or(self.max, |max| max.clamp(1, self.max.max(1)));
        let min = lane.min.map_or(self.min, |min| min.max(self.min)).min(max);
        Self { min, max, ..self }
    }
}

/// What the children of one kind do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    /// Children that run, start or wait for a restart.
    pub(super) children: usize,
    /// Those of them that are ready.
    pub(super) ready: usize,
    /// How long the oldest piece of work has waited for a child.
    pub(super) waited: Duration,
    /// Whether each ready child has as many users as it may have.
    pub(super) is_full_of_users: bool,
    /// The child that has been idle for the longest time, with this time.
    pub(super) idlest: Option<(u64, Duration)>,
    /// The ready child with the least work.
    pub(super) lightest: Option<u64>,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScaleStep {
    /// The number of children is right.
    Stay,
    /// One more child.
    Add,
    /// This child is not needed, or there are too many.
    Remove(u64),
}

/// Decides on one step. A child is added for work that waits, and only when all others are ready, because a child that
/// starts may be enough; it is removed after it was idle for `idle`, which is much longer than a wait, or at once when the
/// limits have become lower: then it first ends its work.
pub(super) fn decide(limits: ScaleLimits, load: Load, idle: Duration) -> ScaleStep {
    if let Some(child) = load.lightest.filter(|_| load.children > limits.max) {
        return ScaleStep::Remove(child);
    }
    let needs_more = load.waited >= LONGEST_WAIT || load.is_full_of_users;
    if load.children < limits.min || (needs_more && load.children < limits.max && load.ready == load.children)
    {
        return ScaleStep::Add;
    }
    match load.idlest {
        Some((child, since)) if since >= idle && !needs_more && load.children > limits.min => {
            ScaleStep::Remove(child)
        }
        _ => ScaleStep::Stay,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: ScaleLimits = ScaleLimits { min: 1, max: 3, max_users: Some(10) };
    const IDLE: Duration = Duration::from_secs(60);

    fn decided(load: Load) -> ScaleStep {
        decide(LIMITS, load, IDLE)
    }

    #[test]
    fn a_child_is_added_for_work_that_waits_once_all_others_are_ready() {
        let one = Load { children: 1, ready: 1, ..Load::default() };
        assert_eq!(decided(one), ScaleStep::Stay);
        assert_eq!(decided(Load { waited: LONGEST_WAIT, ..one }), ScaleStep::Add);
        assert_eq!(decided(Load { is_full_of_users: true, ..one }), ScaleStep::Add);
        assert_eq!(decided(Load { waited: LONGEST_WAIT, ready: 0, ..one }), ScaleStep::Stay);
        assert_eq!(decided(Load { waited: LONGEST_WAIT, children: 3, ready: 3, ..one }), ScaleStep::Stay);
        assert_eq!(decided(Load::default()), ScaleStep::Add);
    }

    #[test]
    fn a_child_is_removed_after_its_idle_time_and_the_last_one_never() {
        let two = Load { children: 2, ready: 2, idlest: Some((7, IDLE)), ..Load::default() };
        assert_eq!(decided(two), ScaleStep::Remove(7));
        assert_eq!(decided(Load { idlest: Some((7, IDLE / 2)), ..two }), ScaleStep::Stay);
        assert_eq!(decided(Load { waited: LONGEST_WAIT, ..two }), ScaleStep::Add);
        assert_eq!(decided(Load { children: 1, ready: 1, ..two }), ScaleStep::Stay);
        assert_eq!(decide(ScaleLimits::fixed(2), two, IDLE), ScaleStep::Stay);
    }

    #[test]
    fn the_limits_of_a_lane_narrow_those_of_its_pool_and_children_above_them_are_removed() {
        let narrowed = |min, max| LIMITS.narrowed(LimitShare { min, max });
        assert_eq!(narrowed(None, None), LIMITS);
        assert_eq!(narrowed(Some(2), Some(2)), ScaleLimits { min: 2, max: 2, ..LIMITS });
        assert_eq!(narrowed(Some(9), Some(9)), ScaleLimits { min: 3, ..LIMITS }, "a pool starts no more");
        assert_eq!(
            ScaleLimits::fixed(4).narrowed(LimitShare { min: None, max: Some(1) }),
            ScaleLimits::fixed(1)
        );
        let busy = Load { children: 3, ready: 3, waited: LONGEST_WAIT, lightest: Some(5), ..Load::default() };
        assert_eq!(decide(narrowed(None, Some(2)), busy, IDLE), ScaleStep::Remove(5));
        assert_eq!(decided(busy), ScaleStep::Stay);
    }

    proptest! {
        #[test]
        fn the_number_of_children_stays_within_its_limits(
            steps in proptest::collection::vec((0..400u64, any::<bool>(), 0..120u64), 0..60),
        ) {
            let mut children = LIMITS.min;
            for (waited, is_full_of_users, idle) in steps {
                let load = Load {
                    children,
                    ready: children,
                    waited: Duration::from_millis(waited),
                    is_full_of_users,
                    idlest: Some((1, Duration::from_secs(idle))),
                    lightest: Some(1),
                };
                match decided(load) {
                    ScaleStep::Add => children += 1,
                    ScaleStep::Remove(_) => children -= 1,
                    ScaleStep::Stay => {}
                }
                prop_assert!((LIMITS.min..=LIMITS.max).contains(&children));
            }
        }
    }
}
