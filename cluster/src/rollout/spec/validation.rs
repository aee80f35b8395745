//! Whether a document is valid.

use super::{MAX_COMMENT, MAX_NAME, MAX_OVERRIDES, RolloutSpec, SpecError, is_name};
use crate::id::check_user;
use crate::rollout::split::remainder;
use crate::rollout::{limits, targeting};

/// Checks the members of a document.
///
/// # Errors
///
/// [`SpecError`] for the first member that is invalid.
pub(super) fn validate(document: &RolloutSpec) -> Result<(), SpecError> {
    let mut names = vec![&document.pool];
    names.extend(document.lanes.iter().map(|lane| &lane.name));
    names.push(&document.base);
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(SpecError::Name((*name).clone()));
    }
    let lanes = &names[1..];
    if let Some((_, lane)) = lanes.iter().enumerate().find(|(at, lane)| lanes[..*at].contains(lane)) {
        return Err(SpecError::Twice((*lane).clone()));
    }
    remainder(&document.lanes)?;
    targeting::check(&document.targeting)?;
    limits::check_users(document)?;
    let mut used = document.overrides.values().chain(document.targeting.iter().map(|rule| &rule.lane));
    if let Some(lane) = used.find(|lane| !lanes.contains(lane)) {
        return Err(SpecError::UnknownLane(lane.clone()));
    }
    if document.overrides.len() > MAX_OVERRIDES {
        return Err(SpecError::Overrides);
    }
    document.overrides.keys().try_for_each(|user| check_user(user))?;
    if document.salt.len() > MAX_NAME || document.comment.len() > MAX_COMMENT {
        return Err(SpecError::Long);
    }
    Ok(())
}
