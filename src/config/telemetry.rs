//! `[telemetry]`: where traces are sent.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::check::Problems;

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryConfig {
    /// The URL of the collector, empty for none.
    pub otlp: String,
    /// How traces are sent to it.
    pub protocol: OtlpProtocol,
    /// The share of traces that begin here and are sent.
    pub sample: SampleShare,
    /// The name of the service in traces.
    pub service: String,
}

/// How traces are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// OTLP over HTTP, in protobuf.
    Http,
    /// OTLP over gRPC.
    Grpc,
}

/// A share from 0 to 1.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SampleShare(f64);

// it is never NaN
impl Eq for SampleShare {}

impl SampleShare {
    /// Returns the share.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Debug for SampleShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for SampleShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        match (0.0..=1.0).contains(&share) {
            true => Ok(Self(share)),
            false => Err(D::Error::custom(format!("telemetry.sample: {share} is not between 0 and 1"))),
        }
    }
}

impl TelemetryConfig {
    pub(super) fn check(&self, found: &mut Problems) {
        let rest = ["https://", "http://"].into_iter().find_map(|scheme| self.otlp.strip_prefix(scheme));
        if !self.otlp.is_empty() && rest.is_none_or(|rest| rest.is_empty() || rest.contains([' ', '@'])) {
            found.add("telemetry.otlp", format!("{:?} is not of the form http://host:port", self.otlp));
        }
        if self.protocol == OtlpProtocol::Grpc && cfg!(not(feature = "otlp-grpc")) {
            found.add(
                "telemetry.protocol",
                "this build sends traces over HTTP only: its feature otlp-grpc is off",
            );
        }
        found.length("telemetry.service", &self.service, 1..=128);
    }
}
