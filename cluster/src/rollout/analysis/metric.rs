//! What is compared between lanes.
//!
//! Owns: the kinds of work and the metrics, with their shares of the evidence. Never: how they are counted.

use serde::{Deserialize, Serialize};

/// The kinds of work that a lane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneWork {
    /// An attempt of a job.
    Job,
    /// A call.
    Call,
    /// A request to the application of a mount.
    Http,
}

/// A fault that units of a lane can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// An attempt of a job failed, by no fault of its user.
    JobFailures,
    /// A call failed, by no fault of its user.
    CallFailures,
    /// A request to a mount was answered with a status of 500 or above.
    HttpErrors,
    /// The process that did the work died.
    Crashes,
    /// The work took longer than 95 % of that of the base lane.
    Slow,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 5] =
        [Self::JobFailures, Self::CallFailures, Self::HttpErrors, Self::Crashes, Self::Slow];

    /// Returns the metric of work that failed.
    pub const fn of_failure(kind: LaneWork) -> Self {
        match kind {
            LaneWork::Job => Self::JobFailures,
            LaneWork::Call => Self::CallFailures,
            LaneWork::Http => Self::HttpErrors,
        }
    }

    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::JobFailures => "job_failures",
            Self::CallFailures => "call_failures",
            Self::HttpErrors => "http_errors",
            Self::Crashes => "crashes",
            Self::Slow => "slow",
        }
    }

    /// Returns the name for people, of the units that had the fault.
    pub const fn described(self) -> &'static str {
        match self {
            Self::JobFailures => "with failed jobs",
            Self::CallFailures => "with failed calls",
            Self::HttpErrors => "with 5xx answers",
            Self::Crashes => "with a crash",
            Self::Slow => "above the p95 of the base",
        }
    }

    /// Returns whether a unit with this fault counts as failed for a promotion.
    pub(super) const fn is_failure(self) -> bool {
        !matches!(self, Self::Slow)
    }

    /// Returns the share in the evidence of the lane. The shares add up to 1, so that the weighted sum of the e-values of all
    /// metrics is an e-value too: a lane is not suspected more often because more is compared.
    pub(super) const fn share(self) -> f64 {
        match self {
            Self::JobFailures | Self::CallFailures | Self::HttpErrors => 0.25,
            Self::Crashes => 0.15,
            Self::Slow => 0.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_to_one_and_the_names_are_those_of_the_wire() {
        assert!((Metric::ALL.map(Metric::share).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.text());
        }
    }
}
