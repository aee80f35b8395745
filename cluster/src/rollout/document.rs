//! The document of a pool: how its users split over lanes, and how it may change.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::weight::{BUCKETS, Weight};
use crate::wire;

/// The base lane of a pool that nobody has written a document for.
pub const BASE: &str = "stable";
/// Lanes beside the base: one grows from the lowest bucket, one from the highest.
const LANES: usize = 2;
/// The longest name of a pool or lane, and the longest salt, in bytes.
const MAX_NAME: usize = 64;
/// The longest comment, in bytes.
const MAX_COMMENT: usize = 500;

/// A lane beside the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// Its share of the users.
    pub weight: Weight,
}

/// What becomes of work for a lane without living workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// It is refused: a canary that is not there shows.
    #[default]
    None,
    /// The base lane takes it.
    Base,
}

impl Fallback {
    /// Its name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Base => "base",
        }
    }
}

/// `rollout.<pool>` in the bucket `config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Counts the changes of this pool; 0 for a document that nobody has written.
    pub rev: u64,
    /// The pool.
    pub pool: String,
    /// Shuffles the users, so that not always the same ones go first.
    pub salt: String,
    /// The lane that takes the remainder.
    pub base: String,
    /// The others, at most two. Their order is their place: the first grows from the lowest bucket, the second from
    /// the highest.
    #[serde(default)]
    pub lanes: Vec<Lane>,
    /// For work whose lane has no living workers.
    #[serde(default)]
    pub fallback: Fallback,
    /// Why it was changed, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Who changed it.
    pub updated_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub updated: u64,
    /// Members of newer releases.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What a document should say. What is absent stays as it is, except the comment, which belongs to one change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All lanes beside the base.
    pub lanes: Option<Vec<Lane>>,
    /// The lane that takes the remainder.
    pub base: Option<String>,
    /// Another one shuffles the users.
    pub salt: Option<String>,
    /// For work whose lane has no living workers.
    pub fallback: Option<Fallback>,
    /// Why.
    pub comment: String,
}

/// Why a document cannot say that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a name of a pool or lane.
    #[error("{0:?} is not a name: 1 to {MAX_NAME} letters, digits, '-', '_' or '.'")]
    Name(String),
    /// A lane twice, or the base among the others.
    #[error("lane {0} is there twice")]
    Twice(String),
    /// More than two lanes beside the base.
    #[error("at most {LANES} lanes beside the base")]
    Lanes,
    /// More than everybody.
    #[error("the weights come to {}%, over 100%", f64::from(*.0) / 100.0)]
    Sum(u32),
    /// The base lane cannot have that weight.
    #[error("the base lane takes the remainder, {remainder}, not {wanted}")]
    Remainder {
        /// What the other lanes leave.
        remainder: Weight,
        /// What was asked for it.
        wanted: Weight,
    },
    /// A salt or comment that is too long.
    #[error("a salt has at most {MAX_NAME} bytes and a comment {MAX_COMMENT}")]
    Long,
}

impl Document {
    /// What holds for a pool without a document: everybody is in [`BASE`].
    pub fn unwritten(pool: &str) -> Self {
        Self {
            rev: 0,
            pool: pool.to_owned(),
            salt: String::new(),
            base: BASE.to_owned(),
            lanes: Vec::new(),
            fallback: Fallback::None,
            comment: String::new(),
            updated_by: String::new(),
            updated: 0,
            other: BTreeMap::new(),
        }
    }

    /// The next revision. `salt` is for the first one, unless another is wanted.
    pub fn revise(&self, wanted: Wanted, salt: String, by: &str, now: u64) -> Result<Self, Invalid> {
        let base = wanted.base.unwrap_or_else(|| self.base.clone());
        let lanes = match wanted.lanes {
            Some(lanes) => self.arrange(lanes, &base)?,
            None => self.lanes.clone(),
        };
        let standing = if self.rev == 0 { salt } else { self.salt.clone() };
        let next = Self {
            rev: self.rev + 1,
            pool: self.pool.clone(),
            salt: wanted.salt.unwrap_or(standing),
            base,
            lanes,
            fallback: wanted.fallback.unwrap_or(self.fallback),
            comment: wanted.comment,
            updated_by: by.to_owned(),
            updated: now,
            other: self.other.clone(),
        };
        next.validate()?;
        Ok(next)
    }

    /// Gives every lane its place. A lane that had one keeps it, however the wish is ordered: moving it would move
    /// its users.
    fn arrange(&self, mut wanted: Vec<Lane>, base: &str) -> Result<Vec<Lane>, Invalid> {
        let mut places: [Option<Lane>; LANES] = [const { None }; LANES];
        for (place, had) in places.iter_mut().zip(&self.lanes) {
            *place = wanted.iter().position(|lane| lane.name == had.name).map(|at| wanted.remove(at));
        }
        for lane in wanted {
            *places.iter_mut().find(|place| place.is_none()).ok_or(Invalid::Lanes)? = Some(lane);
        }
        // nobody is at the first place, but the name there says which end the second one has
        if let [first @ None, Some(_)] = &mut places {
            let former = self.lanes.first().map(|lane| &lane.name).filter(|name| *name != base);
            let name = former.unwrap_or(&self.base).clone();
            *first = Some(Lane { name, weight: Weight::default() });
        }
        Ok(places.into_iter().flatten().collect())
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut names = vec![&self.pool];
        names.extend(self.lanes.iter().map(|lane| &lane.name));
        names.push(&self.base);
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(Invalid::Name((*name).clone()));
        }
        let lanes = &names[1..];
        if let Some((_, lane)) = lanes.iter().enumerate().find(|(at, lane)| lanes[..*at].contains(lane)) {
            return Err(Invalid::Twice((*lane).clone()));
        }
        remainder(&self.lanes)?;
        if self.salt.len() > MAX_NAME || self.comment.len() > MAX_COMMENT {
            return Err(Invalid::Long);
        }
        Ok(())
    }

    /// The lanes beside the base that get more users by this document than by the one before it. The base takes what
    /// is left: that is no choice of its own.
    pub fn gains(&self, before: &Self) -> impl Iterator<Item = &str> {
        let had = |name: &str| match before.lanes.iter().find(|lane| lane.name == name) {
            Some(lane) => lane.weight.buckets(),
            None if name == before.base => before.remainder().buckets(),
            None => 0,
        };
        self.lanes.iter().filter(move |lane| lane.weight.buckets() > had(&lane.name)).map(|lane| &*lane.name)
    }

    /// What the base lane takes.
    pub fn remainder(&self) -> Weight {
        remainder(&self.lanes).unwrap_or_default()
    }

    /// The value of its entry.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// `None` when the bytes are not a document of any known release, or one that cannot be obeyed.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let document: Self = serde_json::from_slice(value).ok()?;
        (document.lanes.len() <= LANES && remainder(&document.lanes).is_ok()).then_some(document)
    }
}

/// The lanes after some weights were named. Naming the base describes the whole split: lanes that are not named have
/// no weight then, and the base's own weight must be what is left.
pub fn reweigh(base: &str, lanes: &[Lane], named: &[Lane]) -> Result<Vec<Lane>, Invalid> {
    let whole = named.iter().find(|lane| lane.name == base).map(|lane| lane.weight);
    let mut lanes = lanes.to_vec();
    if whole.is_some() {
        lanes.iter_mut().for_each(|lane| lane.weight = Weight::default());
    }
    for (at, wanted) in named.iter().enumerate() {
        if named[..at].iter().any(|lane| lane.name == wanted.name) {
            return Err(Invalid::Twice(wanted.name.clone()));
        }
        match lanes.iter_mut().find(|lane| lane.name == wanted.name) {
            Some(lane) => lane.weight = wanted.weight,
            None if wanted.name == base => {}
            None => lanes.push(wanted.clone()),
        }
    }
    // a lane that nobody is in makes room for another one
    let named = |lane: &Lane| named.iter().any(|wanted| wanted.name == lane.name);
    while lanes.len() > LANES
        && let Some(empty) = lanes.iter().position(|lane| lane.weight == Weight::default() && !named(lane))
    {
        lanes.remove(empty);
    }
    let remainder = remainder(&lanes)?;
    match whole.filter(|wanted| *wanted != remainder) {
        Some(wanted) => Err(Invalid::Remainder { remainder, wanted }),
        None => Ok(lanes),
    }
}

fn remainder(lanes: &[Lane]) -> Result<Weight, Invalid> {
    let sum: u32 = lanes.iter().map(|lane| u32::from(lane.weight.buckets())).sum();
    let rest = u32::from(BUCKETS).checked_sub(sum).and_then(|rest| u16::try_from(rest).ok());
    rest.and_then(Weight::of_buckets).ok_or(Invalid::Sum(sum))
}

/// What a pool or lane can be called: legible in every table, label and path.
pub fn is_name(name: &str) -> bool {
    let legible = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(legible) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests;
