//! The trace context that every message carries.
//!
//! Owns: the `traceparent` text (W3C) and its validity. Never: spans or exporters (`telemetry` of the
//! service).

use serde::{Deserialize, Serialize};

/// A W3C `traceparent`, e.g. `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceParent(String);

impl TraceParent {
    /// Returns `None` unless the text has the shape of a version-00 `traceparent`.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let lengths = [2, 32, 16, 2];
        let well_formed = parts.len() == lengths.len()
            && parts.iter().zip(lengths).all(|(part, length)| {
                part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            });
        well_formed.then(|| Self(text.to_owned()))
    }

    /// Returns the value of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.0.split('-').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_contexts_travel() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed = TraceParent::parse(good).unwrap();
        assert_eq!((parsed.as_str(), parsed.trace_id()), (good, "4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in ["", "00-4bf9-00f0-01", &good.to_uppercase(), &format!("{good}-x"), "a\r\nb"] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
