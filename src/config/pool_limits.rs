//! The limits of the children of a pool, and of the objects of resident pages in them.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Value;

/// `[pool.recycle]`: a child that has reached one of these is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecycleConfig {
    /// Pieces of work that it has run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_work: Option<u64>,
    /// Bytes of memory that it occupies; written as a number, or with `K`, `M` or `G`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub max_rss: Option<u64>,
    /// Its age in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u64>,
}

/// `[pool.pages]`: the objects of resident pages in each worker of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagesConfig {
    /// The most objects.
    pub max: u32,
    /// How long an object stays that is not used, in seconds; 0 for ever.
    pub idle_s: u64,
    /// Bytes of memory of a child above which objects are put aside; written as a number, or with `K`, `M` or `G`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub max_rss: Option<u64>,
}

impl Default for PagesConfig {
    fn default() -> Self {
        Self { max: 10_000, idle_s: 3600, max_rss: None }
    }
}

/// Reads `max_rss`.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    bytes(deserializer, "max_rss")
}

/// Reads a number of bytes, or a text such as `512M`, for a key.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D, key: &str) -> Result<Option<u64>, D::Error> {
    let bytes = match Value::deserialize(deserializer)? {
        Value::Integer(bytes) => u64::try_from(bytes).ok(),
        Value::String(text) => bytes_of(&text),
        _ => None,
    };
    bytes
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{key} is a number of bytes, or a text such as \"512M\"")))
}

pub(super) fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        _ => return None,
    };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(unit)
}
