//! What a rollout does by itself.
//!
//! Owns: the shapes that an operator writes for it. Never: the decision (`analysis`).

use serde::{Deserialize, Serialize};

use super::weight::Weight;

/// What happens to a lane that does worse than the base lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRegression {
    /// Its plan is paused, so that it does not grow.
    #[default]
    Pause,
    /// It is taken back.
    Abort,
}

impl OnRegression {
    /// Returns the name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Abort => "abort",
        }
    }
}

/// When a lane grows without an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoPromotion {
    /// Seconds that each step is held at least.
    pub hold_s: u64,
    /// By how much the failure rate of the lane may be above that of the base lane, in percent points.
    pub margin: Weight,
}

impl Default for AutoPromotion {
    fn default() -> Self {
        Self { hold_s: 60, margin: Weight::default_margin() }
    }
}
