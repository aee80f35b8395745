//! What a document changes beside another one.

use super::{LaneSpec, RolloutSpec, RolloutUpdate};

impl RolloutSpec {
    /// Returns the change that gives a pool the content of this document again.
    pub fn restored(&self) -> RolloutUpdate {
        let lane = |lane: &LaneSpec| {
            let on_regression = Some(lane.on_regression.unwrap_or_default());
            LaneSpec { on_regression, ..lane.clone() }
        };
        RolloutUpdate {
            lanes: Some(self.lanes.iter().map(lane).collect()),
            base: Some(self.base.clone()),
            // a pool without a document has no salt, and keeps the one that it got
            salt: Some(self.salt.clone()).filter(|_| self.rev > 0),
            fallback: Some(self.fallback),
            lingering: Some(self.lingering.clone()),
            overrides: Some(self.overrides.clone()),
            targeting: Some(self.targeting.clone()),
            limits: Some(self.limits.clone()),
            enrolment: self.enrolment.restored(),
            plan: Some(self.plan.clone()),
            ..RolloutUpdate::default()
        }
    }

    /// The lanes that get more users by this document than by the one before it. A lane that was the base before takes what
    /// is left: that is no choice of its own.
    pub fn gains(&self, before: &Self) -> impl Iterator<Item = &str> {
        let more = |lane: &LaneSpec| {
            self.overridden(&lane.name) > before.overridden(&lane.name)
                || self.targeted(&lane.name) > before.targeted(&lane.name)
        };
        let grown = move |lane: &&LaneSpec| lane.weight > before.weight(&lane.name) || more(lane);
        let is_new = self.base != before.base && self.remainder() > before.weight(&self.base);
        let base = is_new.then_some(&*self.base);
        self.lanes.iter().filter(grown).map(|lane| &*lane.name).chain(base)
    }
}
