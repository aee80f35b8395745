//! What is compared between lanes.
//!
//! Owns: the kinds of work and the metrics, with their shares of the evidence. Never: how they are counted.

use serde::{Deserialize, Serialize};

use super::super::EDGE;

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
    /// The socket of a page at a node.
    Page,
}

impl LaneWork {
    /// Returns whether it counts how long such work took. A socket lives as long as its client wants.
    pub(super) const fn is_timed(self) -> bool {
        !matches!(self, Self::Page)
    }
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
    /// The socket of a page broke, without its client or its node having closed it.
    AbnormalCloses,
    /// The process that did the work died.
    Crashes,
    /// The work took longer than 95 % of that of the base lane.
    Slow,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 6] = [
        Self::JobFailures,
        Self::CallFailures,
        Self::HttpErrors,
        Self::AbnormalCloses,
        Self::Crashes,
        Self::Slow,
    ];

    /// Returns the metric of work that failed.
    pub const fn of_failure(kind: LaneWork) -> Self {
        match kind {
            LaneWork::Job => Self::JobFailures,
            LaneWork::Call => Self::CallFailures,
            LaneWork::Http => Self::HttpErrors,
            LaneWork::Page => Self::AbnormalCloses,
        }
    }

    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::JobFailures => "job_failures",
            Self::CallFailures => "call_failures",
            Self::HttpErrors => "http_errors",
            Self::AbnormalCloses => "abnormal_closes",
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
            Self::AbnormalCloses => "with a socket that broke",
            Self::Crashes => "with a crash",
            Self::Slow => "above the p95 of the base",
        }
    }

    /// Returns whether a unit with this fault counts as failed for a promotion.
    pub(super) const fn is_failure(self) -> bool {
        !matches!(self, Self::Slow)
    }

    /// Returns the share in the evidence of a lane of `pool`. The shares add up to 1, so that the weighted sum of the e-values of
    /// all metrics is an e-value too: a lane is not suspected more often because more is compared. Nodes are compared by the
    /// sockets of their pages only, and nothing else is.
    pub(super) fn share(self, pool: &str) -> f64 {
        match (self, pool == EDGE) {
            (Self::AbnormalCloses, true) => 1.0,
            (Self::AbnormalCloses, false) | (_, true) => 0.0,
            (Self::JobFailures | Self::CallFailures | Self::HttpErrors, false) => 0.25,
            (Self::Crashes, false) => 0.15,
            (Self::Slow, false) => 0.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_to_one_and_the_names_are_those_of_the_wire() {
        for pool in ["default", EDGE] {
            let shares = Metric::ALL.map(|metric| metric.share(pool));
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{pool}");
        }
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.text());
        }
    }
}
