//! The document of a pool: how its users are split over lanes, and how the split may change.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::{RolloutPlan, RolloutStep, StepError, with_step};
use super::weight::{BUCKETS, Weight};
use crate::id::MAX_USER;
use crate::wire;

/// Base lane of a pool without a document.
pub const BASE: &str = "stable";
/// Maximum number of lanes beside the base: one grows from the lowest bucket, one from the highest.
const LANES: usize = 2;
/// Maximum length of the name of a pool or lane, and of a salt, in bytes.
const MAX_NAME: usize = 64;
/// Maximum length of a comment, in bytes.
const MAX_COMMENT: usize = 500;
/// Maximum number of users with a lane of their own, so that a document stays small enough for one message.
const MAX_OVERRIDES: usize = 5000;
/// The feature of a document in which users have a lane of their own.
const OVERRIDES: &str = "overrides";
/// The features that this release applies.
const KNOWN: [&str; 1] = [OVERRIDES];

/// A lane beside the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSpec {
    /// Name of the lane.
    pub name: String,
    /// Share of the users.
    pub weight: Weight,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// Number of changes of this pool; 0 for a document that was never written.
    pub rev: u64,
    /// Name of the pool.
    pub pool: String,
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
    /// The lane that grows by steps, or did last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RolloutPlan>,
    /// What a reader has to know to apply this document. One that does not know it all keeps the document before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Reason for the last change, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Author of the last change.
    pub updated_by: String,
    /// Time of the last change, in milliseconds since the Unix epoch.
    pub updated: u64,
    /// Members that newer releases wrote.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Requested changes to a document. An absent member leaves its value unchanged, except the comment, which belongs to
/// one change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// The plan, or none.
    pub plan: Option<Option<RolloutPlan>>,
    /// What is done first. The other members change the result.
    pub step: Option<RolloutStep>,
    /// Users who get a lane of their own, or `None` instead of it.
    pub assign: BTreeMap<String, Option<String>>,
    /// Reason for the change.
    pub comment: String,
}

/// Reasons why a document is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is not a valid name of a pool or lane.
    #[error("{0:?} is not a name: 1 to {MAX_NAME} letters, digits, '-', '_' or '.'")]
    Name(String),
    /// A lane occurs twice, or the base is among the others.
    #[error("lane {0} is listed twice")]
    Twice(String),
    /// There are more than two lanes beside the base.
    #[error("at most {LANES} lanes beside the base")]
    Lanes,
    /// The weights sum to more than 100 %.
    #[error("the weights add up to {}%, above 100%", f64::from(*.0) / 100.0)]
    Sum(u32),
    /// The requested weight of the base lane is not the remainder.
    #[error("the base lane gets the remainder, {remainder}, not {wanted}")]
    Remainder {
        /// Weight that the other lanes leave.
        remainder: Weight,
        /// Requested weight.
        wanted: Weight,
    },
    /// A step cannot be taken now.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A user would have a lane that the pool does not have, so that the override would have no effect.
    #[error("the pool has no lane {0}: give it a weight first, which may be 0")]
    UnknownLane(String),
    /// Too many users have a lane of their own.
    #[error("at most {MAX_OVERRIDES} users have a lane of their own")]
    Overrides,
    /// The name of a user is empty or too long.
    #[error("a user has 1 to {MAX_USER} bytes")]
    User,
    /// A salt or comment is too long.
    #[error("a salt has at most {MAX_NAME} bytes and a comment {MAX_COMMENT}")]
    Long,
}

impl RolloutSpec {
    /// Returns the default document of a pool: all users are in [`BASE`].
    pub fn unwritten(pool: &str) -> Self {
        Self {
            rev: 0,
            pool: pool.to_owned(),
            salt: String::new(),
            base: BASE.to_owned(),
            lanes: Vec::new(),
            fallback: Fallback::None,
            lingering: BTreeSet::new(),
            overrides: BTreeMap::new(),
            plan: None,
            needs: Vec::new(),
            comment: String::new(),
            updated_by: String::new(),
            updated: 0,
            other: BTreeMap::new(),
        }
    }

    /// Returns the next revision. `salt` becomes the salt of the first revision, unless `wanted` has another. `by` is
    /// the author and `now` the time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`SpecError`] when the next revision would be invalid.
    pub fn revise(&self, wanted: RolloutUpdate, salt: String, by: &str, now: u64) -> Result<Self, SpecError> {
        let wanted = with_step(self, wanted)?;
        let base = wanted.base.unwrap_or_else(|| self.base.clone());
        let lanes = match wanted.lanes {
            Some(lanes) => self.normalize(lanes, &base)?,
            None => self.lanes.clone(),
        };
        let current_salt = if self.rev == 0 { salt } else { self.salt.clone() };
        let plan = wanted
            .plan
            .unwrap_or_else(|| self.plan.clone().filter(|plan| plan.has_weight_of(&self.lanes, &lanes)));
        let mut overrides = wanted.overrides.unwrap_or_else(|| self.overrides.clone());
        // a lane that is gone has no users
        overrides.retain(|_, lane| *lane == base || lanes.iter().any(|known| known.name == *lane));
        for (user, lane) in wanted.assign {
            match lane {
                Some(lane) => overrides.insert(user, lane),
                None => overrides.remove(&user),
            };
        }
        let mut lingering = wanted.lingering.unwrap_or_else(|| self.lingering.clone());
        lingering
            .retain(|name| lanes.iter().any(|lane| lane.name == *name && lane.weight == Weight::default()));
        let next = Self {
            rev: self.rev + 1,
            pool: self.pool.clone(),
            salt: wanted.salt.unwrap_or(current_salt),
            base,
            lanes,
            fallback: wanted.fallback.unwrap_or(self.fallback),
            lingering,
            needs: if overrides.is_empty() { Vec::new() } else { vec![OVERRIDES.to_owned()] },
            overrides,
            plan,
            comment: wanted.comment,
            updated_by: by.to_owned(),
            updated: now,
            other: self.other.clone(),
        };
        next.validate()?;
        Ok(next)
    }

    /// Assigns a position to every lane. A lane that had a position keeps it, independent of the order of `wanted`,
    /// because moving the lane would move its users.
    fn normalize(&self, mut wanted: Vec<LaneSpec>, base: &str) -> Result<Vec<LaneSpec>, SpecError> {
        let mut places: [Option<LaneSpec>; LANES] = [const { None }; LANES];
        for (place, had) in places.iter_mut().zip(&self.lanes) {
            *place = wanted.iter().position(|lane| lane.name == had.name).map(|at| wanted.remove(at));
        }
        for lane in wanted {
            *places.iter_mut().find(|place| place.is_none()).ok_or(SpecError::Lanes)? = Some(lane);
        }
        // the first position gets a lane with weight 0, because the second lane needs a lane before it to grow from
        // the highest bucket
        if let [first @ None, Some(_)] = &mut places {
            let former = self.lanes.first().map(|lane| &lane.name).filter(|name| *name != base);
            let name = former.unwrap_or(&self.base).clone();
            *first = Some(LaneSpec { name, weight: Weight::default() });
        }
        Ok(places.into_iter().flatten().collect())
    }

    fn validate(&self) -> Result<(), SpecError> {
        let mut names = vec![&self.pool];
        names.extend(self.lanes.iter().map(|lane| &lane.name));
        names.push(&self.base);
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(SpecError::Name((*name).clone()));
        }
        let lanes = &names[1..];
        if let Some((_, lane)) = lanes.iter().enumerate().find(|(at, lane)| lanes[..*at].contains(lane)) {
            return Err(SpecError::Twice((*lane).clone()));
        }
        remainder(&self.lanes)?;
        if let Some(lane) = self.overrides.values().find(|lane| !lanes.contains(lane)) {
            return Err(SpecError::UnknownLane(lane.clone()));
        }
        if self.overrides.len() > MAX_OVERRIDES {
            return Err(SpecError::Overrides);
        }
        if self.overrides.keys().any(|user| !(1..=MAX_USER).contains(&user.len())) {
            return Err(SpecError::User);
        }
        if self.salt.len() > MAX_NAME || self.comment.len() > MAX_COMMENT {
            return Err(SpecError::Long);
        }
        Ok(())
    }

    /// Returns the change that gives a pool the content of this document again.
    pub fn restored(&self) -> RolloutUpdate {
        RolloutUpdate {
            lanes: Some(self.lanes.clone()),
            base: Some(self.base.clone()),
            // a pool without a document has no salt, and keeps the one that it got
            salt: Some(self.salt.clone()).filter(|_| self.rev > 0),
            fallback: Some(self.fallback),
            lingering: Some(self.lingering.clone()),
            overrides: Some(self.overrides.clone()),
            plan: Some(self.plan.clone()),
            ..RolloutUpdate::default()
        }
    }

    /// Returns how many users have a lane as their own.
    pub fn overridden(&self, lane: &str) -> usize {
        self.overrides.values().filter(|own| *own == lane).count()
    }

    /// The lanes that get more users by this document than by the one before it. A lane that was the base before takes what
    /// is left: that is no choice of its own.
    pub fn gains(&self, before: &Self) -> impl Iterator<Item = &str> {
        let more = |lane: &LaneSpec| self.overridden(&lane.name) > before.overridden(&lane.name);
        let had = |name: &str| match before.lanes.iter().find(|lane| lane.name == name) {
            Some(lane) => lane.weight.buckets(),
            None if name == before.base => before.remainder().buckets(),
            None => 0,
        };
        let grown = move |lane: &&LaneSpec| lane.weight.buckets() > had(&lane.name) || more(lane);
        let is_new = self.base != before.base && self.remainder().buckets() > had(&self.base);
        let base = is_new.then_some(&*self.base);
        self.lanes.iter().filter(grown).map(|lane| &*lane.name).chain(base)
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

/// Returns `lanes` with the weights in `named` applied. Naming the base describes the whole split: lanes that are not
/// named get weight 0, and the weight of the base must be the remainder. `is_used` returns whether a lane with weight 0 has
/// users all the same, so that it makes no room for another lane.
///
/// # Errors
///
/// [`SpecError::Twice`], [`SpecError::Sum`] or [`SpecError::Remainder`].
pub fn set_weights(
    base: &str,
    lanes: &[LaneSpec],
    named: &[LaneSpec],
    is_used: impl Fn(&str) -> bool,
) -> Result<Vec<LaneSpec>, SpecError> {
    let base_weight = named.iter().find(|lane| lane.name == base).map(|lane| lane.weight);
    let mut lanes = lanes.to_vec();
    if base_weight.is_some() {
        lanes.iter_mut().for_each(|lane| lane.weight = Weight::default());
    }
    for (at, wanted) in named.iter().enumerate() {
        if named[..at].iter().any(|lane| lane.name == wanted.name) {
            return Err(SpecError::Twice(wanted.name.clone()));
        }
        match lanes.iter_mut().find(|lane| lane.name == wanted.name) {
            Some(lane) => lane.weight = wanted.weight,
            None if wanted.name == base => {}
            None => lanes.push(wanted.clone()),
        }
    }
    // an unnamed lane with weight 0 makes room for another one
    let named = |lane: &LaneSpec| named.iter().any(|wanted| wanted.name == lane.name);
    while lanes.len() > LANES
        && let Some(empty) = lanes
            .iter()
            .position(|lane| lane.weight == Weight::default() && !named(lane) && !is_used(&lane.name))
    {
        lanes.remove(empty);
    }
    let remainder = remainder(&lanes)?;
    match base_weight.filter(|wanted| *wanted != remainder) {
        Some(wanted) => Err(SpecError::Remainder { remainder, wanted }),
        None => Ok(lanes),
    }
}

fn remainder(lanes: &[LaneSpec]) -> Result<Weight, SpecError> {
    let sum: u32 = lanes.iter().map(|lane| u32::from(lane.weight.buckets())).sum();
    let rest = u32::from(BUCKETS).checked_sub(sum).and_then(|rest| u16::try_from(rest).ok());
    rest.and_then(Weight::of_buckets).ok_or(SpecError::Sum(sum))
}

/// Returns whether a text is a valid name of a pool or lane: legible in every table, label and path.
pub fn is_name(name: &str) -> bool {
    let legible = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(legible) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests;
