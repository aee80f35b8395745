//! Weights that an operator writes, and what they leave for the base lane. Pure.
//!
//! Owns: which weights follow from those that are named. Never: the rest of a document (`spec`).

use super::gates::OnRegression;
use super::spec::{LANES, LaneSpec, RolloutSpec, SpecError};
use super::weight::{BUCKETS, Weight};

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
            Some(lane) => {
                lane.weight = wanted.weight;
                lane.on_regression = wanted.on_regression.or(lane.on_regression);
            }
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

/// Returns the weight that the lanes leave.
///
/// # Errors
///
/// [`SpecError::Sum`].
pub(super) fn remainder(lanes: &[LaneSpec]) -> Result<Weight, SpecError> {
    let sum: u32 = lanes.iter().map(|lane| u32::from(lane.weight.buckets())).sum();
    let rest = u32::from(BUCKETS).checked_sub(sum).and_then(|rest| u16::try_from(rest).ok());
    rest.and_then(Weight::of_buckets).ok_or(SpecError::Sum(sum))
}

/// Assigns a position to every lane. A lane that had a position keeps it, independent of the order of `wanted`,
/// because moving the lane would move its users.
pub(super) fn positioned(
    document: &RolloutSpec,
    mut wanted: Vec<LaneSpec>,
    base: &str,
) -> Result<Vec<LaneSpec>, SpecError> {
    let mut places: [Option<LaneSpec>; LANES] = [const { None }; LANES];
    for (place, had) in places.iter_mut().zip(&document.lanes) {
        let kept = wanted.iter().position(|lane| lane.name == had.name).map(|at| wanted.remove(at));
        *place =
            kept.map(|lane| LaneSpec { on_regression: lane.on_regression.or(had.on_regression), ..lane });
    }
    for lane in wanted {
        *places.iter_mut().find(|place| place.is_none()).ok_or(SpecError::Lanes)? = Some(lane);
    }
    // the first position gets a lane with weight 0, because the second lane needs a lane before it to grow from
    // the highest bucket
    if let [first @ None, Some(_)] = &mut places {
        let former = document.lanes.first().map(|lane| &lane.name).filter(|name| *name != base);
        let name = former.unwrap_or(&document.base).clone();
        *first = Some(LaneSpec::new(name, Weight::default()));
    }
    // the default is not written, so that equal documents are equal
    let policy = |lane: &LaneSpec| lane.on_regression.filter(|policy| *policy != OnRegression::default());
    Ok(places.into_iter().flatten().map(|lane| LaneSpec { on_regression: policy(&lane), ..lane }).collect())
}
