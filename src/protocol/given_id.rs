//! An id that a client names in `hello`.
//!
//! Owns: its two forms. Never: whether it exists.

use std::str::FromStr;

use pagewire_cluster::id::{Address, InvalidId, Key, key_of_older_id};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// An id that a client names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenId {
    /// An address of this cluster.
    Own(Address),
    /// An id of an older deployment, as the key that it becomes.
    Older(Key),
}

impl GivenId {
    /// Returns its key.
    pub const fn key(&self) -> Key {
        match self {
            Self::Own(address) => address.key,
            Self::Older(key) => *key,
        }
    }

    /// Returns its address; `None` for an older id, which names no node.
    pub const fn address(&self) -> Option<Address> {
        match self {
            Self::Own(address) => Some(*address),
            Self::Older(_) => None,
        }
    }
}

impl FromStr for GivenId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        key_of_older_id(text).map_or_else(|| text.parse().map(Self::Own), |key| Ok(Self::Older(key)))
    }
}

impl<'de> Deserialize<'de> for GivenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
