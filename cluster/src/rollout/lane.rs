//! The lane of a user, which is the same in every process, release and language (`tests/golden/lanes.json`).

use std::fmt;

use sha2::{Digest, Sha256};

use super::spec::RolloutSpec;
use super::weight::BUCKETS;
use crate::id::{Key, WorkOwner};

/// The entity that stays in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutingKey<'a> {
    /// A user, byte for byte: the text is not folded or normalised.
    User(&'a str),
    /// The connection of an anonymous page.
    Connection(Key),
}

impl<'a> RoutingKey<'a> {
    /// Returns the unit of a user, else of a connection. Work that belongs to neither gets a random unit, so that the
    /// shares of the lanes stay correct.
    pub fn of(user: Option<&'a str>, connection: Option<Key>) -> Self {
        match (user, connection) {
            (Some(user), _) => Self::User(user),
            (None, connection) => Self::Connection(connection.unwrap_or_else(Key::random)),
        }
    }

    /// Returns the unit of the owner of assigned work.
    pub fn of_owner(owner: &'a str) -> Self {
        match WorkOwner::of_key(owner) {
            WorkOwner::User(user) => Self::User(user),
            WorkOwner::Connection(connection) => Self::Connection(connection),
        }
    }

    /// Returns the bucket of the unit, 0 … 9,999.
    pub fn bucket(&self, salt: &str) -> u16 {
        match self {
            Self::User(user) => bucket(salt, user),
            Self::Connection(connection) => bucket(salt, &connection.to_string()),
        }
    }
}

impl fmt::Display for RoutingKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => f.write_str(user),
            Self::Connection(connection) => connection.fmt(f),
        }
    }
}

/// Returns the first eight bytes of SHA-256(salt, 0x00, unit), scaled to the buckets.
pub fn bucket(salt: &str, unit: &str) -> u16 {
    let hash = Sha256::new().chain_update(salt).chain_update([0]).chain_update(unit).finalize();
    let first = hash.iter().take(8).fold(0, |number, byte| number << 8 | u128::from(*byte));
    // the product is below 2^64 × 10,000, so the quotient is below 10,000 and fits
    ((first * u128::from(BUCKETS)) >> 64) as u16
}

impl RolloutSpec {
    /// Returns the position of the lane that owns a bucket; `None` for the base lane. The first lane grows from the
    /// lowest bucket, the second from the highest, so that raising a weight only moves users towards that lane.
    pub fn place(&self, bucket: u16) -> Option<usize> {
        let weight = |index: usize| self.lanes.get(index).map_or(0, |lane| lane.weight.buckets());
        if bucket < weight(0) {
            return Some(0);
        }
        (bucket >= BUCKETS - weight(1)).then_some(1)
    }

    /// Returns the name of the lane at a position.
    pub fn lane(&self, place: Option<usize>) -> &str {
        place.and_then(|index| self.lanes.get(index)).map_or(&self.base, |lane| &lane.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::super::active::{LaneInputs, decide};
    use super::super::admission::{AdmissionTable, AdmittedUsers};
    use super::super::enrolment::{EnrolledLane, Enrolment};
    use super::super::enrolment_rules::EnrolmentRules;
    use super::super::limits::LimitsByLane;
    use super::super::spec::LaneSpec;
    use super::super::targeting::TargetRule;
    use super::super::weight::Weight;
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        documents: HashMap<String, Split>,
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Split {
        salt: String,
        base: String,
        lanes: Vec<LaneSpec>,
        #[serde(default)]
        overrides: BTreeMap<String, String>,
        #[serde(default)]
        targeting: Vec<TargetRule>,
        #[serde(default)]
        limits: LimitsByLane,
        #[serde(default)]
        enrolment: EnrolmentRules,
    }

    #[derive(Deserialize)]
    struct Vector {
        document: String,
        user: Option<String>,
        connection: Option<String>,
        /// Keys of the rules that the last page has met.
        #[serde(default)]
        matches: BTreeSet<String>,
        choice: Option<EnrolledLane>,
        latched: Option<EnrolledLane>,
        admitted: Option<EnrolledLane>,
        bucket: u16,
        lane: String,
    }

    #[test]
    fn the_golden_vectors_hold() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/lanes.json"));
        let golden: Golden = serde_json::from_str(text).unwrap();
        assert!(golden.vectors.len() >= 200);
        for vector in &golden.vectors {
            let Split { salt, base, lanes, overrides, targeting, limits, enrolment } =
                &golden.documents[&vector.document];
            let document = RolloutSpec {
                salt: salt.clone(),
                base: base.clone(),
                lanes: lanes.clone(),
                overrides: overrides.clone(),
                targeting: targeting.clone(),
                limits: limits.clone(),
                enrolment: enrolment.clone(),
                ..RolloutSpec::unwritten("golden")
            };
            let connection = vector.connection.as_deref().map(|text| text.parse().unwrap());
            let unit = RoutingKey::of(vector.user.as_deref(), connection);
            let mut enrolment = Enrolment::new("golden", unit).having_met(vector.matches.clone());
            enrolment.choice = vector.choice.clone();
            enrolment.latched = vector.latched.clone();
            let mut admitted = AdmissionTable::default();
            if let (RoutingKey::User(user), Some(EnrolledLane { lane, since })) = (unit, &vector.admitted) {
                admitted.set("key".into(), 1, AdmittedUsers::only(&document, lane, *since, user));
            }
            let admitted = admitted.of_pool("golden").unwrap_or_default();
            let enrolment = Some(&enrolment);
            let inputs = LaneInputs { enrolment, admitted: &admitted, ..LaneInputs::of(&document) };
            let assigned = decide(inputs, unit, |_| true);
            assert_eq!((assigned.bucket, &assigned.lane), (vector.bucket, &vector.lane), "{unit}");
        }
    }

    fn document(low: u16, high: u16) -> RolloutSpec {
        let lane = |name: &str, buckets| LaneSpec::new(name, Weight::of_buckets(buckets).unwrap());
        RolloutSpec { lanes: vec![lane("low", low), lane("high", high)], ..RolloutSpec::unwritten("p") }
    }

    proptest! {
        #[test]
        fn every_lane_owns_exactly_its_weight(low in 0..=BUCKETS, high in 0..=BUCKETS) {
            let document = document(low, high.min(BUCKETS - low));
            let owned = |place| (0..BUCKETS).filter(|bucket| document.place(*bucket) == place).count();
            prop_assert_eq!(owned(Some(0)), usize::from(document.lanes[0].weight.buckets()));
            prop_assert_eq!(owned(Some(1)), usize::from(document.lanes[1].weight.buckets()));
        }

        #[test]
        fn raising_a_weight_only_moves_users_towards_that_lane(
            low in 0..=BUCKETS, high in 0..=BUCKETS, more in 0..=BUCKETS, raised in 0usize..2
        ) {
            let before = document(low, high.min(BUCKETS - low));
            let mut after = before.clone();
            let spare = BUCKETS - before.lanes.iter().map(|lane| lane.weight.buckets()).sum::<u16>();
            let weight = before.lanes[raised].weight.buckets() + more.min(spare);
            after.lanes[raised].weight = Weight::of_buckets(weight).unwrap();
            for bucket in 0..BUCKETS {
                let (from, to) = (before.place(bucket), after.place(bucket));
                prop_assert!(from == to || to == Some(raised), "{bucket} went from {from:?} to {to:?}");
            }
        }

        #[test]
        fn no_text_has_a_bucket_beyond_the_last(salt: String, unit: String) {
            prop_assert!(bucket(&salt, &unit) < BUCKETS);
        }
    }

    #[test]
    fn ten_thousand_users_split_as_configured() {
        for (salt, low, high) in [("a", 1000, 0), ("b", 100, 2500), ("", 5000, 5000)] {
            let document = RolloutSpec { salt: salt.into(), ..document(low, high) };
            let mut users = [0.0f64; 3];
            for user in 0..10_000 {
                let bucket = RoutingKey::User(&format!("user-{user}")).bucket(&document.salt);
                users[document.place(bucket).unwrap_or(2)] += 1.0;
            }
            for (users, weight) in users.into_iter().zip([low, high, BUCKETS - low - high].map(f64::from)) {
                // four standard deviations of 10,000 draws
                let spread = 4.0 * (weight * (1.0 - weight / 10_000.0)).sqrt();
                assert!((users - weight).abs() <= spread, "{users} of {weight} with salt {salt:?}");
            }
        }
    }

    #[test]
    fn another_salt_shuffles_the_users() {
        let same = (0..10_000).filter(|user| {
            let user = user.to_string();
            (bucket("a", &user) < 1000) && (bucket("b", &user) < 1000)
        });
        assert!((60..140).contains(&same.count()), "a tenth of a tenth");
    }

    #[test]
    fn work_of_nobody_is_split_too() {
        let document = document(5000, 0);
        let moved = (0..1000).filter(|_| document.place(RoutingKey::of(None, None).bucket("")).is_some());
        assert!((400..600).contains(&moved.count()));
    }
}
