//! The weights of a document, and how naming some of them changes all.

use super::super::weight::{BUCKETS, Weight};
use super::{LANES, LaneSpec, SpecError};

/// Returns `lanes` with the weights in `named` applied. Naming the base describes the whole split: lanes that are not
/// named get weight 0, and the weight of the base must be the remainder. `is_used` returns whether a lane with weight 0 has
/// users all the same, so that it makes no room for another lane.
///
/// # Errors
///
/// [`SpecError::Twice`], [`SpecError::Sum`] or [`SpecError::Remainder`].
pub fn set_weights(
    base: &str,
    lanes: &[LaneSpec],
    named: &[LaneSpec],
    is_used: impl Fn(&str) -> bool,
) -> Result<Vec<LaneSpec>, SpecError> {
    let base_weight = named.iter().find(|lane| lane.name == base).map(|lane| lane.weight);
    let mut lanes = lanes.to_vec();
    if base_weight.is_some() {
        lanes.iter_mut().for_each(|lane| lane.weight = Weight::default());
    }
    for (at, wanted) in named.iter().enumerate() {
        if named[..at].iter().any(|lane| lane.name == wanted.name) {
            return Err(SpecError::Twice(wanted.name.clone()));
        }
        match lanes.iter_mut().find(|lane| lane.name == wanted.name) {
            Some(lane) => lane.weight = wanted.weight,
            None if wanted.name == base => {}
            None => lanes.push(wanted.clone()),
        }
    }
    // an unnamed lane with weight 0 makes room for another one
    let named = |lane: &LaneSpec| named.iter().any(|wanted| wanted.name == lane.name);
    while lanes.len() > LANES
        && let Some(empty) = lanes
            .iter()
            .position(|lane| lane.weight == Weight::default() && !named(lane) && !is_used(&lane.name))
    {
        lanes.remove(empty);
    }
    let remainder = remainder(&lanes)?;
    match base_weight.filter(|wanted| *wanted != remainder) {
        Some(wanted) => Err(SpecError::Remainder { remainder, wanted }),
        None => Ok(lanes),
    }
}

pub(super) fn remainder(lanes: &[LaneSpec]) -> Result<Weight, SpecError> {
    let sum: u32 = lanes.iter().map(|lane| u32::from(lane.weight.buckets())).sum();
    let rest = u32::from(BUCKETS).checked_sub(sum).and_then(|rest| u16::try_from(rest).ok());
    rest.and_then(Weight::of_buckets).ok_or(SpecError::Sum(sum))
}
