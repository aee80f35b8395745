//! The closes that a socket gets in place of a page.
//!
//! Owns: the close of each reason, so that all parts give the same one. Never: the check that leads to it.

use pagewire_cluster::engine::WriteError;
use pagewire_cluster::timing::Timing;

use super::rows::RowError;
use crate::protocol::{Close, CloseCode};

pub(super) const WRONG_USER: Close = Close::new(CloseCode::Forbidden, "this belongs to another user");
pub(super) const NOT_AUTHENTICATED: Close =
    Close::new(CloseCode::Unauthenticated, "this belongs to a user: authenticate");
pub(super) const TOO_MANY: Close = Close::new(CloseCode::Policy, "too many pages of this user");
pub(super) const NO_PROOF: Close = Close::new(CloseCode::Forbidden, "resuming a page needs its token");
pub(super) const OLDER_ID: Close = Close::new(
    CloseCode::MalformedHello,
    "an id reads <22 characters>|pNN; older ones need compat.adopt_ids",
);
pub(super) const EXPIRED: Close = Close::new(CloseCode::Forbidden, "the token of this page has expired");
pub(super) const STALE_TOKEN: Close = Close::new(CloseCode::Replaced, "another socket holds this page");
pub(super) const UNREGISTERED: Close = Close::new(CloseCode::Unregistered, "the server has removed this");
pub(super) const RESUME_CONFLICT: Close =
    Close::new(CloseCode::HeldElsewhere, "the page is moving to another node");
const CLUSTER_UNAVAILABLE: Close = Close::new(CloseCode::Overloaded, "the cluster is unavailable");

/// The close for an unavailable cluster. Clients reconnect at random times within the jitter, because all of them
/// return when the cluster does.
pub(super) fn unavailable(timing: &Timing) -> Close {
    CLUSTER_UNAVAILABLE.after(timing.reconnect_jitter.mul_f64(rand::random()))
}

/// The close for a row that was not written.
pub(super) fn refused(error: impl Into<RowError>, timing: &Timing) -> Close {
    match error.into() {
        RowError::Changed | RowError::Lost | RowError::Write(WriteError::Conflict { .. }) => RESUME_CONFLICT,
        RowError::Write(WriteError::Unknown | WriteError::Down | WriteError::Invalid) => unavailable(timing),
    }
}
