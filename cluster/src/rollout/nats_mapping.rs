//! The weights of a rollout as a weighted subject mapping of NATS, for clients that publish to NATS themselves. Pure.
//!
//! Owns: the mapping. Never: the lane of a call that goes through a node, which a mapping does not change.

use super::spec::RolloutSpec;
use super::weight::Weight;
use crate::subject::Subjects;

/// Buckets of one percent.
const PERCENT: u16 = 100;

/// A subject that NATS replaces by one of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsMapping {
    /// The subject that clients publish to, with `*` for the method.
    pub subject: String,
    /// Where its messages go.
    pub destinations: Vec<MappedLane>,
}

/// The share of a lane in a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedLane {
    /// Name of the lane.
    pub lane: String,
    /// The subject of its workers, with the method in place of `*`.
    pub subject: String,
    /// Share of the messages in percent.
    pub percent: u16,
}

/// A weight that NATS cannot express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lane {lane} has {weight}%, and NATS knows whole percents only")]
pub struct NotWhole {
    lane: String,
    weight: Weight,
}

impl RolloutSpec {
    /// Returns the mapping of this document. A lane without a weight is left out.
    ///
    /// # Errors
    ///
    /// [`NotWhole`] when a weight is not a whole percent.
    pub fn nats_mapping(&self, subjects: &Subjects) -> Result<NatsMapping, NotWhole> {
        let base = (&self.base, self.remainder());
        let lanes = self.lanes.iter().map(|lane| (&lane.name, lane.weight)).chain([base]);
        let lanes = lanes.filter(|(_, weight)| *weight > Weight::default());
        let mapped = lanes.map(|(lane, weight)| {
            let percent = weight.buckets() / PERCENT;
            if weight.buckets() % PERCENT != 0 {
                return Err(NotWhole { lane: lane.clone(), weight });
            }
            Ok(MappedLane { lane: lane.clone(), subject: subjects.mapped_calls(&self.pool, lane), percent })
        });
        let destinations = mapped.collect::<Result<_, _>>()?;
        Ok(NatsMapping { subject: subjects.unmapped_calls(&self.pool), destinations })
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::LaneSpec;
    use super::*;

    fn document(weights: &[(&str, f64)]) -> RolloutSpec {
        let lane =
            |(name, percent): &(&str, f64)| LaneSpec::new(*name, Weight::of_percent(*percent).unwrap());
        RolloutSpec { lanes: weights.iter().map(lane).collect(), ..RolloutSpec::unwritten("my.pool") }
    }

    #[test]
    fn a_mapping_has_the_lanes_with_a_weight_and_their_sum_is_the_whole() {
        let subjects = Subjects::new("main");
        let mapping = document(&[("canary", 10.0), ("beta", 0.0)]).nats_mapping(&subjects).unwrap();
        assert_eq!(mapping.subject, "pw.main.call.my_2Epool.*");
        let lanes: Vec<_> = mapping.destinations.iter().map(|to| (to.subject.as_str(), to.percent)).collect();
        let expected = [
            ("pw.main.call.my_2Epool.canary.{{wildcard(1)}}", 10),
            ("pw.main.call.my_2Epool.stable.{{wildcard(1)}}", 90),
        ];
        assert_eq!(lanes, expected);
        let whole = document(&[("canary", 100.0)]).nats_mapping(&subjects).unwrap();
        assert_eq!(whole.destinations.len(), 1);
    }

    #[test]
    fn a_weight_that_nats_cannot_express_is_refused() {
        let refused = document(&[("canary", 0.5)]).nats_mapping(&Subjects::new("main")).unwrap_err();
        assert!(refused.to_string().contains("lane canary has 0.5%"), "{refused}");
    }
}
