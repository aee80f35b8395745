//! Whether users stay in a lane that they are in, and may choose one. Pure.
//!
//! Owns: when a lane began to take users, so that what is remembered of a user ends with the rollout. Never: the rows of users
//! (`enrolment`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::active::{LaneInputs, Reason};
use super::enrolment::{EnrolledLane, Enrolment};
use super::lane::RoutingKey;
use super::spec::{LaneSpec, RolloutSpec};
use super::weight::Weight;

/// The feature of a document whose users stay in their lane.
pub(super) const LATCHED: &str = "latched";
/// The feature of a document whose users may choose a lane.
pub(super) const SELF_SERVICE: &str = "self_service";

/// How users come into a lane, and out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnrolmentMode {
    /// Their buckets decide at any time.
    #[default]
    Hash,
    /// Once in, they are in until the rollout of the lane ends.
    Latched,
}

impl EnrolmentMode {
    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Latched => "latched",
        }
    }
}

/// When a lane began to take users, or began again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStart {
    /// The revision. What is remembered of users from an earlier start has no effect.
    pub rev: u64,
    /// The weight of the lane at that revision.
    pub weight: Weight,
}

/// What a document says of the enrolment of its users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentRules {
    /// How users come into a lane.
    #[serde(default)]
    pub mode: EnrolmentMode,
    /// Whether the pages of a user may choose a lane.
    #[serde(default)]
    pub self_service: bool,
    /// The start of each lane beside the base.
    #[serde(default)]
    pub started: BTreeMap<String, LaneStart>,
}

/// Requested changes of [`EnrolmentRules`]. An absent member leaves its value unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnrolmentUpdate {
    /// How users come into a lane.
    pub mode: Option<EnrolmentMode>,
    /// Whether the pages of a user may choose a lane.
    pub self_service: Option<bool>,
    /// The starts to go on from.
    pub started: Option<BTreeMap<String, LaneStart>>,
}

impl EnrolmentUpdate {
    /// Returns the change with what `other` changes beside it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            mode: self.mode.or(other.mode),
            self_service: self.self_service.or(other.self_service),
            started: self.started.or(other.started),
        }
    }

    /// Returns the rules of the revision after `before`, whose lanes are `lanes`.
    pub(super) fn apply(self, before: &RolloutSpec, lanes: &[LaneSpec]) -> EnrolmentRules {
        let mode = self.mode.unwrap_or(before.enrolment.mode);
        let self_service = self.self_service.unwrap_or(before.enrolment.self_service);
        if mode == EnrolmentMode::Hash && !self_service {
            return EnrolmentRules::default();
        }
        let known = self.started.unwrap_or_else(|| before.enrolment.started.clone());
        let start = |lane: &LaneSpec| {
            let had = before.lanes.iter().find(|had| had.name == lane.name).map(|had| had.weight);
            let present = before.enrolment.started.get(&lane.name);
            let goes_on = |start: &&LaneStart| {
                // an undo of the end of the rollout of the lane
                let is_restored = present.is_some_and(|present| present != *start);
                lane.weight > start.weight
                    || Some(lane.weight) == had
                    || (is_restored && lane.weight == start.weight)
            };
            let new = LaneStart { rev: before.rev + 1, weight: lane.weight };
            (lane.name.clone(), known.get(&lane.name).filter(goes_on).copied().unwrap_or(new))
        };
        EnrolmentRules { mode, self_service, started: lanes.iter().map(start).collect() }
    }
}

impl EnrolmentRules {
    /// Whether nothing is remembered of users.
    pub(super) fn is_unused(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the features that a document with these rules needs.
    pub(super) fn needs(&self) -> impl Iterator<Item = &'static str> {
        let latched = (self.mode == EnrolmentMode::Latched).then_some(LATCHED);
        [latched, self.self_service.then_some(SELF_SERVICE)].into_iter().flatten()
    }

    /// Returns the change that gives a pool these rules again.
    pub(super) fn restored(&self) -> EnrolmentUpdate {
        let Self { mode, self_service, started } = self.clone();
        EnrolmentUpdate { mode: Some(mode), self_service: Some(self_service), started: Some(started) }
    }

    /// Returns the change of an abort of a lane: what is remembered of its users ends, and no page chooses a lane any more.
    pub(super) fn without(&self, lane: &str) -> EnrolmentUpdate {
        let mut started = self.started.clone();
        started.remove(lane);
        EnrolmentUpdate { mode: None, self_service: Some(false), started: Some(started) }
    }
}

impl<'a> LaneInputs<'a> {
    /// Returns the lane that a user has chosen or stays in. `by_hash` is the lane of the user's bucket.
    pub(super) fn enrolled(self, unit: RoutingKey<'_>, by_hash: &str) -> Option<(&'a str, Reason)> {
        let Self { document, enrolment, .. } = self;
        if let Some(choice) = enrolment.and_then(|row| document.choice(row)) {
            return Some((&choice.lane, Reason::Choice));
        }
        if document.enrolment.mode != EnrolmentMode::Latched {
            return None;
        }
        let latched = enrolment.and_then(|row| document.latched(row)).map(|latched| latched.lane.as_str());
        let latched = latched.or_else(|| self.admitted_lane(unit));
        let has_weight = |lane: &str| lane != document.base && document.weight(lane) > Weight::default();
        let latched = latched.filter(|lane| *lane != by_hash && has_weight(lane));
        latched.map(|lane| (lane, Reason::Latched))
    }
}

impl RolloutSpec {
    /// Whether a row can have an effect on the lane of its user.
    pub(super) fn remembers(&self, row: &Enrolment) -> bool {
        let is_key = |key: &String| self.targeting.iter().any(|rule| rule.who.key().as_ref() == Some(key));
        row.matches.iter().any(is_key) || self.choice(row).is_some() || self.latched(row).is_some()
    }

    fn choice<'a>(&self, row: &'a Enrolment) -> Option<&'a EnrolledLane> {
        row.choice.as_ref().filter(|choice| self.enrolment.self_service && self.has_begun(choice))
    }

    fn latched<'a>(&self, row: &'a Enrolment) -> Option<&'a EnrolledLane> {
        let is_latched = self.enrolment.mode == EnrolmentMode::Latched;
        row.latched.as_ref().filter(|latched| is_latched && self.has_begun(latched))
    }

    /// Whether a lane is still in the rollout that was remembered. The base lane always is.
    fn has_begun(&self, remembered: &EnrolledLane) -> bool {
        let start = self.enrolment.started.get(&remembered.lane);
        remembered.lane == self.base || start.is_some_and(|start| start.rev == remembered.since)
    }
}

#[cfg(test)]
mod tests;
