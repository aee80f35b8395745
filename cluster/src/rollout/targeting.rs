//! Rules that send users to a lane by what is known of them. Pure.
//!
//! Owns: the rules of a document, which of them a page meets at its opening ([`PageFacts`]), and the lane that follows for its user.
//! Never: how the others learn which rules a page has met (`enrolment`).
//!
//! A rule about users decides by itself. The other rules need facts that only the node of a page knows: they decide by the keys of
//! the rules ([`TargetMatch::key`]) that the last page of the user has met. So the lane stays a pure function of the document,
//! the user and these keys, also for jobs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lane::RoutingKey;
use super::spec::{RolloutSpec, SpecError};
use crate::id::check_user;

/// Maximum number of rules of a document.
const MAX_RULES: usize = 32;
/// Maximum number of users in all rules of a document.
const MAX_USERS: usize = 1000;
/// Maximum length of a name or value in a rule, in bytes.
const MAX_TEXT: usize = 200;

/// Sends those who meet a condition to a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRule {
    /// The condition.
    #[serde(flatten)]
    pub who: TargetMatch,
    /// The lane, which may be the base.
    pub lane: String,
}

/// The condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetMatch {
    /// The user is one of these.
    Users(BTreeSet<String>),
    /// The token has a claim with this value, or a list that contains it.
    Claim(NamedValue),
    /// The request that opened the socket has a header with this value.
    Header(NamedValue),
    /// The address of the client is in this range. A proxy that is trusted has named it.
    Address(String),
}

/// A claim or header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedValue {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Why a rule is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There are too many rules, or users in them.
    #[error("a pool has at most {MAX_RULES} rules with {MAX_USERS} users")]
    TooMany,
    /// A name or value is empty or too long.
    #[error("a name, value or user in a rule has 1 to {MAX_TEXT} bytes")]
    Text,
    /// The text is no range of addresses.
    #[error("{0:?} is not an address or a range such as 10.0.0.0/8")]
    Range(String),
}

/// What the node of a page knows of it at its opening.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PageFacts {
    /// The claims of its token.
    pub claims: serde_json::Map<String, Value>,
    /// The headers of its request that rules name, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The address of its client.
    pub address: Option<IpAddr>,
}

impl TargetMatch {
    /// Returns what identifies the condition: `claim NAME=VALUE`, `header NAME=VALUE` or `address RANGE`; `None` for users,
    /// which need no facts.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Users(_) => None,
            Self::Claim(NamedValue { name, value }) => Some(format!("claim {name}={value}")),
            Self::Header(NamedValue { name, value }) => {
                Some(format!("header {}={value}", name.to_ascii_lowercase()))
            }
            Self::Address(range) => Some(format!("address {range}")),
        }
    }

    fn is_met_by(&self, facts: &PageFacts) -> bool {
        match self {
            Self::Users(_) => false,
            Self::Claim(claim) => facts.claims.get(&claim.name).is_some_and(|found| has(found, &claim.value)),
            Self::Header(header) => facts
                .headers
                .iter()
                .any(|(name, value)| name.eq_ignore_ascii_case(&header.name) && *value == header.value),
            Self::Address(text) => {
                let address = facts.address.map(|address| address.to_canonical());
                address.zip(range(text)).is_some_and(|(address, range)| range.contains(&address))
            }
        }
    }

    fn check(&self) -> Result<(), TargetError> {
        let is_text = |text: &String| (1..=MAX_TEXT).contains(&text.len());
        match self {
            Self::Users(users) if users.iter().all(|user| check_user(user).is_ok()) => Ok(()),
            Self::Users(_) => Err(TargetError::Text),
            Self::Claim(named) | Self::Header(named) => {
                (is_text(&named.name) && is_text(&named.value)).then_some(()).ok_or(TargetError::Text)
            }
            Self::Address(text) => range(text).map(drop).ok_or_else(|| TargetError::Range(text.clone())),
        }
    }
}

/// Returns whether a claim has a value, or is a list that contains it.
fn has(found: &Value, wanted: &str) -> bool {
    match found {
        Value::String(text) => text == wanted,
        Value::Bool(value) => wanted == if *value { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(items) => items.iter().any(|item| !item.is_array() && has(item, wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

fn range(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl PageFacts {
    /// Returns the keys of the rules of a document that the page meets.
    pub fn matches(&self, document: &RolloutSpec) -> BTreeSet<String> {
        let met = document.targeting.iter().filter(|rule| rule.who.is_met_by(self));
        met.filter_map(|rule| rule.who.key()).collect()
    }
}

impl RolloutSpec {
    /// Returns the lane of the first rule that a unit meets. `matches` are the keys of the rules that its last page has met.
    pub(super) fn target(&self, unit: RoutingKey<'_>, matches: Option<&BTreeSet<String>>) -> Option<&str> {
        let is_met = |rule: &&TargetRule| match (&rule.who, unit) {
            (TargetMatch::Users(users), RoutingKey::User(user)) => users.contains(user),
            (TargetMatch::Users(_), RoutingKey::Connection(_)) => false,
            (who, _) => matches.is_some_and(|matches| who.key().is_some_and(|key| matches.contains(&key))),
        };
        self.targeting.iter().find(is_met).map(|rule| rule.lane.as_str())
    }

    /// Whether a rule needs facts of pages.
    pub fn needs_facts(&self) -> bool {
        self.targeting.iter().any(|rule| rule.who.key().is_some())
    }

    /// Returns how many rules send users to a lane.
    pub fn targeted(&self, lane: &str) -> usize {
        self.targeting.iter().filter(|rule| rule.lane == lane).count()
    }

    /// Returns the headers that rules name, in lower case.
    pub(super) fn named_headers(&self) -> impl Iterator<Item = String> {
        self.targeting.iter().filter_map(|rule| match &rule.who {
            TargetMatch::Header(header) => Some(header.name.to_ascii_lowercase()),
            _ => None,
        })
    }
}

/// Checks the rules of a document.
///
/// # Errors
///
/// [`SpecError`] when one is invalid.
pub(super) fn check(rules: &[TargetRule]) -> Result<(), SpecError> {
    let users: usize = rules
        .iter()
        .map(|rule| if let TargetMatch::Users(users) = &rule.who { users.len() } else { 0 })
        .sum();
    if rules.len() > MAX_RULES || users > MAX_USERS {
        return Err(TargetError::TooMany.into());
    }
    Ok(rules.iter().try_for_each(|rule| rule.who.check())?)
}

/// Returns the rules after a change: `add` behind the others. A condition is in one rule, and a user in one rule about users.
pub fn with_rule(rules: &[TargetRule], add: TargetRule) -> Vec<TargetRule> {
    let mut rules = without(rules, &add.who);
    match (
        &add.who,
        rules.iter_mut().find(|rule| rule.lane == add.lane && matches!(rule.who, TargetMatch::Users(_))),
    ) {
        (TargetMatch::Users(new), Some(TargetRule { who: TargetMatch::Users(users), .. })) => {
            users.extend(new.iter().cloned())
        }
        _ => rules.push(add),
    }
    rules
}

/// Returns the rules without a condition, or without these users.
pub fn without(rules: &[TargetRule], who: &TargetMatch) -> Vec<TargetRule> {
    let left = rules.iter().cloned().filter_map(|mut rule| match (&mut rule.who, who) {
        (TargetMatch::Users(users), TargetMatch::Users(gone)) => {
            users.retain(|user| !gone.contains(user));
            (!users.is_empty()).then_some(rule)
        }
        (own, who) => (own.key() != who.key()).then_some(rule),
    });
    left.collect()
}

#[cfg(test)]
mod tests;
