//! The document of a pool: how its users are split over lanes, and how the split may change.

mod difference;
mod error;
#[cfg(test)]
mod tests;
mod validation;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
pub use error::SpecError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use validation::validate;

use super::analysis::LaneReport;
use super::enrolment_rules::{EnrolmentRules, EnrolmentUpdate, LATCHED, SELF_SERVICE};
use super::gates::OnRegression;
use super::limits::{self, LimitsByLane, USER_LIMIT};
use super::plan::{RolloutPlan, RolloutStep, with_step};
use super::split::{positioned, remainder};
use super::targeting::TargetRule;
use super::weight::Weight;
use crate::wire;

/// Base lane of a pool without a document.
pub const BASE: &str = "stable";
/// Maximum number of lanes beside the base: one grows from the lowest bucket, one from the highest.
pub(super) const LANES: usize = 2;
/// Maximum length of the name of a pool or lane, and of a salt, in bytes.
const MAX_NAME: usize = 64;
/// Maximum length of a comment, in bytes.
const MAX_COMMENT: usize = 500;
/// Maximum number of users with a lane of their own, so that a document stays small enough for one message.
const MAX_OVERRIDES: usize = 5000;
/// The feature of a document in which users have a lane of their own.
const OVERRIDES: &str = "overrides";
/// The feature of a document with rules.
const TARGETING: &str = "targeting";
/// The features that this release applies.
const KNOWN: [&str; 5] = [OVERRIDES, TARGETING, LATCHED, SELF_SERVICE, USER_LIMIT];

/// A lane beside the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSpec {
    /// Name of the lane.
    pub name: String,
    /// Share of the users.
    pub weight: Weight,
    /// What happens when the lane does worse than the base lane; `None` for the default, in a change for no change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_regression: Option<OnRegression>,
}

impl LaneSpec {
    /// Creates a lane that has its name and weight only.
    pub fn new(name: impl Into<String>, weight: Weight) -> Self {
        Self { name: name.into(), weight, on_regression: None }
    }
}

/// Handling of work for a lane without living workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Rejects the work, so that a missing canary is noticed.
    #[default]
    None,
    /// Sends the work to the base lane.
    Base,
}

impl Fallback {
    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Base => "base",
        }
    }
}

/// The value of the key `rollout.<pool>` in the bucket `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// Number of changes of this pool; 0 for a document that was never written.
    pub rev: u64,
    /// Name of the pool.
    pub pool: String,
    /// Random text of the first revision, which later ones keep: it tells this document from one that was created after a
    /// loss of the bucket, with the same revisions. Empty until a release that knows it has changed the document.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// Input of the hash that shuffles the users, so that different pools do not start with the same users.
    pub salt: String,
    /// Lane that takes the remainder.
    pub base: String,
    /// Other lanes, at most two. Their order is their position: the first grows from the lowest bucket, the second
    /// from the highest.
    #[serde(default)]
    pub lanes: Vec<LaneSpec>,
    /// Handling of work for a lane without living workers.
    #[serde(default)]
    pub fallback: Fallback,
    /// Lanes with weight 0 whose pages stay until they end: a base before a switch.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lingering: BTreeSet<String>,
    /// Users with a lane of their own, which does not depend on their bucket.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, String>,
    /// Rules that send users to a lane by what is known of them. The first one that a user meets decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targeting: Vec<TargetRule>,
    /// How many processes run the work of a lane, and how many users have it, for the lanes that limit it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: LimitsByLane,
    /// Whether users stay in a lane that they are in, and may choose one.
    #[serde(default, skip_serializing_if = "EnrolmentRules::is_unused")]
    pub enrolment: EnrolmentRules,
    /// The lane that grows by steps, or did last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RolloutPlan>,
    /// What a reader has to know to apply this document. One that does not know it all keeps the document before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Reason for the last change, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The numbers by which the last change was decided, if no operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<LaneReport>,
    /// Author of the last change.
    pub updated_by: String,
    /// Time of the last change, in milliseconds since the Unix epoch.
    pub updated: u64,
    /// Members that newer releases wrote.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Requested changes to a document. An absent member leaves its value unchanged, except the comment and the evidence, which
/// belong to one change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolloutUpdate {
    /// All lanes beside the base.
    pub lanes: Option<Vec<LaneSpec>>,
    /// Lane that takes the remainder.
    pub base: Option<String>,
    /// New salt, which shuffles the users again.
    pub salt: Option<String>,
    /// Handling of work for a lane without living workers.
    pub fallback: Option<Fallback>,
    /// All lanes with weight 0 whose pages stay.
    pub lingering: Option<BTreeSet<String>>,
    /// All users with a lane of their own.
    pub overrides: Option<BTreeMap<String, String>>,
    /// All rules.
    pub targeting: Option<Vec<TargetRule>>,
    /// The limits of all lanes that have some.
    pub limits: Option<LimitsByLane>,
    /// Changes of the enrolment.
    pub enrolment: EnrolmentUpdate,
    /// The plan, or none.
    pub plan: Option<Option<RolloutPlan>>,
    /// What is done first. The other members change the result.
    pub step: Option<RolloutStep>,
    /// Users who get a lane of their own, or `None` instead of it.
    pub assign: BTreeMap<String, Option<String>>,
    /// Reason for the change.
    pub comment: String,
    /// The numbers by which it was decided, if no operator did.
    pub evidence: Option<LaneReport>,
}

impl RolloutSpec {
    /// Returns the default document of a pool: all users are in [`BASE`].
    pub fn unwritten(pool: &str) -> Self {
        Self {
            rev: 0,
            pool: pool.to_owned(),
            origin: String::new(),
            salt: String::new(),
            base: BASE.to_owned(),
            lanes: Vec::new(),
            fallback: Fallback::None,
            lingering: BTreeSet::new(),
            overrides: BTreeMap::new(),
            targeting: Vec::new(),
            limits: LimitsByLane::new(),
            enrolment: EnrolmentRules::default(),
            plan: None,
            needs: Vec::new(),
            comment: String::new(),
            evidence: None,
            updated_by: String::new(),
            updated: 0,
            other: BTreeMap::new(),
        }
    }

    /// Returns the next revision. `salt` is random: it becomes the origin of the document, and the salt
    /// of the first revision unless `wanted` has another. `by` is
    /// the author and `now` the time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`SpecError`] when the next revision would be invalid.
    pub fn revise(&self, wanted: RolloutUpdate, salt: String, by: &str, now: u64) -> Result<Self, SpecError> {
        let wanted = with_step(self, wanted)?;
        let base = wanted.base.unwrap_or_else(|| self.base.clone());
        let lanes = match wanted.lanes {
            Some(lanes) => positioned(self, lanes, &base)?,
            None => self.lanes.clone(),
        };
        let origin = if self.origin.is_empty() { salt.clone() } else { self.origin.clone() };
        let current_salt = if self.rev == 0 { salt } else { self.salt.clone() };
        let plan = wanted
            .plan
            .unwrap_or_else(|| self.plan.clone().filter(|plan| plan.has_weight_of(&self.lanes, &lanes)));
        let mut overrides = wanted.overrides.unwrap_or_else(|| self.overrides.clone());
        let mut targeting = wanted.targeting.unwrap_or_else(|| self.targeting.clone());
        // a lane that is gone has no users
        let is_lane = |lane: &String| *lane == base || lanes.iter().any(|known| known.name == *lane);
        overrides.retain(|_, lane| is_lane(lane));
        targeting.retain(|rule| is_lane(&rule.lane) || !self.has_lane(&rule.lane));
        for (user, lane) in wanted.assign {
            match lane {
                Some(lane) => overrides.insert(user, lane),
                None => overrides.remove(&user),
            };
        }
        let enrolment = wanted.enrolment.apply(self, &lanes);
        let mut lingering = wanted.lingering.unwrap_or_else(|| self.lingering.clone());
        lingering
            .retain(|name| lanes.iter().any(|lane| lane.name == *name && lane.weight == Weight::default()));
        let limits = limits::revised(&self.limits, wanted.limits, &base, &lanes)?;
        let next = Self {
            rev: self.rev + 1,
            pool: self.pool.clone(),
            origin,
            salt: wanted.salt.unwrap_or(current_salt),
            needs: needs(&overrides, &targeting, &limits, &enrolment),
            limits,
            base,
            lanes,
            fallback: wanted.fallback.unwrap_or(self.fallback),
            lingering,
            overrides,
            targeting,
            enrolment,
            plan,
            comment: wanted.comment,
            evidence: wanted.evidence,
            updated_by: by.to_owned(),
            updated: now,
            other: self.other.clone(),
        };
        validate(&next)?;
        Ok(next)
    }

    fn has_lane(&self, name: &str) -> bool {
        name == self.base || self.lanes.iter().any(|lane| lane.name == name)
    }

    /// Returns how many users have a lane as their own.
    pub fn overridden(&self, lane: &str) -> usize {
        self.overrides.values().filter(|own| *own == lane).count()
    }

    /// Returns the weight of a lane, which is 0 for one that the pool does not have.
    pub fn weight(&self, lane: &str) -> Weight {
        let own = self.lanes.iter().find(|known| known.name == lane).map(|lane| lane.weight);
        own.unwrap_or_else(|| if lane == self.base { self.remainder() } else { Weight::default() })
    }

    /// Returns what happens when a lane does worse than the base lane.
    pub fn on_regression(&self, lane: &str) -> OnRegression {
        let own = self.lanes.iter().find(|known| known.name == lane);
        own.and_then(|lane| lane.on_regression).unwrap_or_default()
    }

    /// Returns by how much the failure rate of a lane may be above that of the base lane for a promotion.
    pub(super) fn margin(&self) -> f64 {
        let auto = self.plan.as_ref().and_then(|plan| plan.auto.as_ref());
        auto.map_or_else(Weight::default_margin, |auto| auto.margin).percent() / 100.0
    }

    /// Returns the weight of the base lane.
    pub fn remainder(&self) -> Weight {
        remainder(&self.lanes).unwrap_or_default()
    }

    /// Encodes the value of the entry.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Decodes a document. Returns `None` when it is not a document of any known release, or when this release cannot
    /// apply it.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let document: Self = serde_json::from_slice(value).ok()?;
        let is_known = document.needs.iter().all(|feature| KNOWN.contains(&feature.as_str()));
        (is_known && document.lanes.len() <= LANES && remainder(&document.lanes).is_ok()).then_some(document)
    }
}

/// Returns the features that a document with these members needs.
fn needs(
    overrides: &BTreeMap<String, String>,
    targeting: &[TargetRule],
    limits: &LimitsByLane,
    enrolment: &EnrolmentRules,
) -> Vec<String> {
    let has_no_user_limit = limits.values().all(|limits| limits.max_users.is_none());
    let features = [
        (OVERRIDES, overrides.is_empty()),
        (TARGETING, targeting.is_empty()),
        (USER_LIMIT, has_no_user_limit),
    ];
    let used = features.into_iter().filter(|(_, is_unused)| !is_unused).map(|(feature, _)| feature);
    used.chain(enrolment.needs()).map(str::to_owned).collect()
}

/// Returns whether a text is a valid name of a pool or lane: legible in every table, label and path.
pub fn is_name(name: &str) -> bool {
    let legible = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(legible) && !matches!(name, "." | "..")
}
