//! Why a document is invalid.

use super::{LANES, MAX_COMMENT, MAX_NAME, MAX_OVERRIDES};
use crate::id::InvalidUser;
use crate::rollout::limits::{InvalidLimits, UserLimitError};
use crate::rollout::plan::StepError;
use crate::rollout::targeting::TargetError;
use crate::rollout::weight::Weight;

/// Reasons why a document is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is not a valid name of a pool or lane.
    #[error("{0:?} is not a name: 1 to {MAX_NAME} letters, digits, '-', '_' or '.'")]
    Name(String),
    /// A lane occurs twice, or the base is among the others.
    #[error("lane {0} is listed twice")]
    Twice(String),
    /// There are more than two lanes beside the base.
    #[error("at most {LANES} lanes beside the base")]
    Lanes,
    /// The weights sum to more than 100 %.
    #[error("the weights add up to {}%, above 100%", f64::from(*.0) / 100.0)]
    Sum(u32),
    /// The requested weight of the base lane is not the remainder.
    #[error("the base lane gets the remainder, {remainder}, not {wanted}")]
    Remainder {
        /// Weight that the other lanes leave.
        remainder: Weight,
        /// Requested weight.
        wanted: Weight,
    },
    /// A step cannot be taken now.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A user would have a lane that the pool does not have, so that the override would have no effect.
    #[error("the pool has no lane {0}: give it a weight first, which may be 0")]
    UnknownLane(String),
    /// Too many users have a lane of their own.
    #[error("at most {MAX_OVERRIDES} users have a lane of their own")]
    Overrides,
    /// A rule is invalid.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The name of a user is empty or too long.
    #[error(transparent)]
    User(#[from] InvalidUser),
    /// The limits of a lane are invalid.
    #[error(transparent)]
    Limits(#[from] InvalidLimits),
    /// A lane has no limit on its users.
    #[error(transparent)]
    UserLimit(#[from] UserLimitError),
    /// A salt or comment is too long.
    #[error("a salt has at most {MAX_NAME} bytes and a comment {MAX_COMMENT}")]
    Long,
}
