use super::super::split::set_weights;
use super::super::weight::BUCKETS;
use proptest::prelude::*;

use super::*;
use crate::id::InvalidUser;

fn lane(name: &str, percent: f64) -> LaneSpec {
    LaneSpec::new(name, Weight::of_percent(percent).unwrap())
}

fn lanes(lanes: &[(&str, f64)]) -> RolloutUpdate {
    let lanes = lanes.iter().map(|(name, percent)| lane(name, *percent)).collect();
    RolloutUpdate { lanes: Some(lanes), ..RolloutUpdate::default() }
}

fn revise(document: &RolloutSpec, wanted: RolloutUpdate) -> Result<RolloutSpec, SpecError> {
    document.revise(wanted, "fresh".into(), "ann", 7)
}

fn document(weights: &[(&str, f64)]) -> RolloutSpec {
    revise(&RolloutSpec::unwritten("p"), lanes(weights)).unwrap()
}

fn names(document: &RolloutSpec) -> Vec<&str> {
    document.lanes.iter().map(|lane| &*lane.name).collect()
}

#[test]
fn a_revision_keeps_what_was_not_named() {
    let first = document(&[("canary", 10.0)]);
    assert_eq!((first.rev, &*first.salt, &*first.base), (1, "fresh", "stable"));
    let wanted =
        RolloutUpdate { fallback: Some(Fallback::Base), comment: "why".into(), ..RolloutUpdate::default() };
    let second = first.revise(wanted, "another".into(), "bob", 8).unwrap();
    assert_eq!((second.rev, &*second.salt, &*second.updated_by, second.updated), (2, "fresh", "bob", 8));
    assert_eq!((&second.lanes, second.fallback, &*second.comment), (&first.lanes, Fallback::Base, "why"));
    let third = revise(&second, lanes(&[])).unwrap();
    assert_eq!((third.fallback, &*third.comment), (Fallback::Base, ""), "a comment belongs to one change");
    assert_eq!(third.remainder().buckets(), BUCKETS);
}

#[test]
fn a_document_reads_back_with_what_a_newer_release_wrote() {
    let text = r#"{"rev":3,"pool":"p","salt":"s","base":"stable","lanes":[{"name":"canary","weight":0.5}],
        "updated_by":"ann","updated":7,"targets":[{"user":"eve"}]}"#;
    let read = RolloutSpec::decode(text.as_bytes()).unwrap();
    assert_eq!((read.lanes[0].weight.buckets(), read.fallback), (50, Fallback::None));
    assert_eq!(RolloutSpec::decode(&read.encode()).unwrap(), read);
    let next = revise(&read, RolloutUpdate::default()).unwrap();
    assert_eq!(next.other["targets"][0]["user"], "eve");
}

#[test]
fn a_lane_gains_by_what_it_did_not_have_and_the_base_never_does() {
    let gains = |before: &RolloutSpec, wanted: RolloutUpdate| {
        revise(before, wanted).unwrap().gains(before).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = RolloutSpec::unwritten("p");
    assert_eq!(gains(&first, lanes(&[("canary", 0.0)])), [""; 0]);
    assert_eq!(gains(&first, lanes(&[("canary", 10.0), ("beta", 5.0)])), ["canary", "beta"]);
    let before = document(&[("canary", 10.0)]);
    for fewer in [lanes(&[("canary", 10.0)]), lanes(&[("canary", 1.0)]), lanes(&[]), RolloutUpdate::default()]
    {
        assert_eq!(gains(&before, fewer), [""; 0]);
    }
    let swapped = RolloutUpdate { base: Some("canary".into()), ..lanes(&[("stable", 90.0)]) };
    assert_eq!(gains(&before, swapped), [""; 0], "the former base keeps what it had");
    let more = RolloutUpdate { base: Some("canary".into()), ..lanes(&[("stable", 90.01)]) };
    assert_eq!(gains(&before, more), ["stable"]);
}

#[test]
fn what_cannot_be_obeyed_is_not_read() {
    let text = |lanes: &str| {
        format!(r#"{{"rev":3,"pool":"p","salt":"","base":"b","lanes":{lanes},"updated_by":"","updated":0}}"#)
    };
    let (fine, over) =
        (r#"[{"name":"c","weight":60}]"#, r#"[{"name":"c","weight":60},{"name":"d","weight":60}]"#);
    assert!(RolloutSpec::decode(text(fine).as_bytes()).is_some());
    for wrong in [over, r#"[{"name":"c","weight":-1}]"#, "7"] {
        assert_eq!(RolloutSpec::decode(text(wrong).as_bytes()), None, "{wrong}");
    }
}

#[test]
fn what_no_split_can_be_is_refused() {
    let refused = |wanted| revise(&RolloutSpec::unwritten("p"), wanted).unwrap_err();
    assert_eq!(refused(lanes(&[("a", 60.0), ("b", 40.01)])), SpecError::Sum(10_001));
    assert_eq!(refused(lanes(&[("a", 1.0), ("b", 1.0), ("c", 1.0)])), SpecError::Lanes);
    assert_eq!(refused(lanes(&[("a", 1.0), ("a", 1.0)])), SpecError::Twice("a".into()));
    assert_eq!(refused(lanes(&[("stable", 1.0)])), SpecError::Twice("stable".into()));
    for name in ["", "a b", "*", ">", "..", "ä", "a/b", &"x".repeat(65)] {
        assert_eq!(refused(lanes(&[(name, 1.0)])), SpecError::Name(name.into()));
        assert_eq!(
            revise(&RolloutSpec::unwritten(name), RolloutUpdate::default()),
            Err(SpecError::Name(name.into())),
            "as a pool"
        );
    }
    assert_eq!(
        refused(RolloutUpdate { salt: Some("x".repeat(65)), ..RolloutUpdate::default() }),
        SpecError::Long
    );
    assert_eq!(
        refused(lanes(&[("a", 60.0), ("b", 60.0)])).to_string(),
        "the weights add up to 120%, above 100%"
    );
}

#[test]
fn a_lane_keeps_its_end_while_others_come_and_go() {
    let both = document(&[("canary", 10.0), ("beta", 5.0)]);
    assert_eq!(names(&revise(&both, lanes(&[("beta", 5.0), ("canary", 20.0)])).unwrap()), ["canary", "beta"]);
    let alone = revise(&both, lanes(&[("beta", 5.0)])).unwrap();
    assert_eq!((names(&alone), alone.lanes[0].weight), (vec!["canary", "beta"], Weight::default()));
    assert_eq!(names(&revise(&alone, lanes(&[("beta", 5.0), ("next", 1.0)])).unwrap()), ["next", "beta"]);
    let promoted =
        revise(&both, RolloutUpdate { base: Some("canary".into()), ..lanes(&[("beta", 5.0)]) }).unwrap();
    assert_eq!((names(&promoted), &*promoted.base), (vec!["stable", "beta"], "canary"));
}

#[test]
fn named_weights_change_and_the_others_stay() {
    let reweighed = |lanes: &[LaneSpec], named: &[LaneSpec]| {
        set_weights("stable", lanes, named, |lane| lane == "preview")
    };
    let both = [lane("canary", 10.0), lane("beta", 5.0)];
    assert_eq!(reweighed(&both, &[lane("beta", 7.5)]).unwrap(), [lane("canary", 10.0), lane("beta", 7.5)]);
    assert_eq!(reweighed(&[], &[lane("canary", 10.0)]).unwrap(), [lane("canary", 10.0)]);
    assert_eq!(
        reweighed(&both, &[lane("stable", 100.0)]).unwrap(),
        [lane("canary", 0.0), lane("beta", 0.0)],
        "naming the base describes the whole split"
    );
    assert_eq!(
        reweighed(&both, &[lane("stable", 90.0), lane("canary", 5.0)]),
        Err(SpecError::Remainder {
            remainder: Weight::of_percent(95.0).unwrap(),
            wanted: Weight::of_percent(90.0).unwrap()
        })
    );
    let spent = [lane("canary", 0.0), lane("beta", 5.0)];
    assert_eq!(
        reweighed(&spent, &[lane("next", 1.0)]).unwrap(),
        [lane("beta", 5.0), lane("next", 1.0)],
        "an empty lane makes room"
    );
    assert_eq!(reweighed(&both, &[lane("a", 1.0), lane("a", 2.0)]), Err(SpecError::Twice("a".into())));
}

proptest! {
    /// After any change, users have only moved into a lane that was named, out of a lane with a lower weight than
    /// before, or along with the base.
    #[test]
    fn users_of_lanes_that_were_not_touched_stay(
        before in (0u16..40, 0u16..40), wanted in prop::collection::vec((0usize..3, 0u16..40), 0..3)
    ) {
        let percent = |weight: u16| f64::from(weight);
        let before = document(&[("a", percent(before.0)), ("b", percent(before.1))]);
        let wanted_lanes: Vec<_> =
            wanted.iter().map(|(name, weight)| (["a", "b", "c"][*name], percent(*weight))).collect();
        if let Ok(after) = revise(&before, lanes(&wanted_lanes)) {
            let weight = |document: &RolloutSpec, name: &str| {
                document.lanes.iter().find(|lane| lane.name == name).map_or(Weight::default(), |lane| lane.weight)
            };
            for bucket in 0..BUCKETS {
                let (from, to) = (before.lane(before.place(bucket)), after.lane(after.place(bucket)));
                let pushed = weight(&after, from) < weight(&before, from);
                let pulled = weight(&after, to) > weight(&before, to);
                prop_assert!(from == to || pushed || pulled, "{} went from {} to {}", bucket, from, to);
            }
        }
    }
}

#[test]
fn users_get_a_lane_of_their_own_that_the_pool_has_and_lose_it_with_the_lane() {
    let assign = |users: &[(&str, Option<&str>)]| {
        let assign = users.iter().map(|(user, lane)| ((*user).to_owned(), lane.map(str::to_owned))).collect();
        RolloutUpdate { assign, ..RolloutUpdate::default() }
    };
    let first = document(&[("canary", 0.0)]);
    let second = revise(&first, assign(&[("ann", Some("canary")), ("bob", Some("stable"))])).unwrap();
    assert_eq!((second.overridden("canary"), second.overridden("stable")), (1, 1));
    assert_eq!(second.gains(&first).collect::<Vec<_>>(), ["canary"], "a lane may need workers for one user");
    assert_eq!(second.needs, ["overrides"]);
    assert_eq!(RolloutSpec::decode(&second.encode()).unwrap(), second);
    let third = revise(&second, assign(&[("ann", None), ("eve", None)])).unwrap();
    assert_eq!((third.overridden("canary"), third.overrides.len()), (0, 1));
    let removed = revise(&second, lanes(&[])).unwrap();
    assert_eq!(removed.overrides.keys().collect::<Vec<_>>(), ["bob"], "the lane is gone");
    let none = revise(&removed, assign(&[("bob", None)])).unwrap();
    assert!(none.needs.is_empty() && !String::from_utf8_lossy(&none.encode()).contains("overrides"));
    for (user, lane, error) in [
        ("ann", "canry", SpecError::UnknownLane("canry".to_owned())),
        ("", "canary", SpecError::User(InvalidUser)),
        (&"x".repeat(257), "canary", SpecError::User(InvalidUser)),
    ] {
        assert_eq!(revise(&first, assign(&[(user, Some(lane))])), Err(error));
    }
    let many: Vec<String> = (0..5001).map(|number| format!("u{number}")).collect();
    let many: Vec<_> = many.iter().map(|user| (user.as_str(), Some("canary"))).collect();
    assert_eq!(revise(&first, assign(&many)), Err(SpecError::Overrides));
    assert!(revise(&first, assign(&many[1..])).is_ok());
}

#[test]
fn a_document_that_needs_what_this_release_does_not_know_is_not_applied() {
    let text = |needs: &str| {
        format!(
            r#"{{"rev":3,"pool":"p","salt":"s","base":"stable","needs":[{needs}],"updated_by":"","updated":7}}"#
        )
    };
    assert!(RolloutSpec::decode(text("\"overrides\"").as_bytes()).is_some());
    assert!(RolloutSpec::decode(text("\"overrides\",\"tides\"").as_bytes()).is_none());
}
