//! The members of the parameters of a request.
//!
//! Owns: the errors that name a member. Never: which members a request has. Members that a request does not have are
//! ignored, as those of messages are.

use std::collections::BTreeMap;
use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::{Address, Key, check_user};
use pagewire_cluster::wire::HandlerError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Longest name of a handler or a lock, in bytes.
const MAX_NAME: usize = 200;

/// The members of a JSON object that are not taken yet.
pub(super) struct Members(BTreeMap<String, Box<RawValue>>);

/// Returns the error of a member.
pub(super) fn malformed(name: &str, what: impl std::fmt::Display) -> HandlerError {
    HandlerError::new(ErrorCode::Malformed, format!("{name}: {what}"))
}

impl Members {
    pub(super) fn parse(params: &RawValue) -> Result<Self, HandlerError> {
        serde_json::from_str(params.get()).map(Self).map_err(|_| malformed("params", "expected an object"))
    }

    /// Takes any JSON, `null` included.
    pub(super) fn json(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.0.remove(name)
    }

    /// Takes a member; `None` if it is missing or `null`.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, HandlerError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|error| malformed(name, error))
    }

    /// Takes a member.
    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, HandlerError> {
        self.optional(name)?.ok_or_else(|| malformed(name, "it is missing"))
    }

    /// Takes a duration in milliseconds.
    pub(super) fn millis(&mut self, name: &str) -> Result<Option<Duration>, HandlerError> {
        Ok(self.optional(name)?.map(Duration::from_millis))
    }

    /// Takes the name of a handler or a lock.
    pub(super) fn name(&mut self, name: &str) -> Result<String, HandlerError> {
        let text: String = self.required(name)?;
        let fits = (1..=MAX_NAME).contains(&text.len());
        if fits { Ok(text) } else { Err(malformed(name, "it has 1 to 200 bytes")) }
    }

    /// Takes the user for whom other work runs.
    pub(super) fn user(&mut self) -> Result<ForUser, HandlerError> {
        if !self.0.contains_key("user") {
            return Ok(ForUser::Same);
        }
        let user = self.optional::<String>("user")?.map(|user| checked_user("user", user)).transpose()?;
        Ok(ForUser::Other(user))
    }
}

/// The user for whom other work runs.
pub(super) enum ForUser {
    /// That of the work that asks for it.
    Same,
    /// This one, or none.
    Other(Option<String>),
}

/// Checks the length of a user.
pub(super) fn checked_user(name: &str, user: String) -> Result<String, HandlerError> {
    check_user(&user).map_err(|error| malformed(name, error))?;
    Ok(user)
}

/// The key of a page, session, connection or job, with or without a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnyKey(pub(super) Key);

impl<'de> Deserialize<'de> for AnyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let key = text.parse::<Address>().map(|address| address.key).or_else(|_| text.parse::<Key>());
        key.map(Self).map_err(serde::de::Error::custom)
    }
}
