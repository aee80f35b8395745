//! Tests of the rows against the simplest correct model: maps that keep every revision.

use proptest::prelude::*;

use super::*;

/// The model: the current rows, and every revision that was used.
#[derive(Default)]
struct Model {
    rows: BTreeMap<String, (u64, Bytes, Option<Moment>)>,
    revisions: BTreeSet<u64>,
}

impl Model {
    fn alive(&self, key: &str, now: Moment) -> Option<u64> {
        let (rev, _, expires) = self.rows.get(key)?;
        expires.is_none_or(|moment| moment > now).then_some(*rev)
    }

    fn meets(&self, key: &str, expect: Precondition, now: Moment) -> bool {
        match expect {
            Precondition::Any => true,
            Precondition::Absent => self.alive(key, now).is_none(),
            Precondition::Rev(rev) => self.alive(key, now) == Some(rev),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, What)>),
    Wait(u64),
}

#[derive(Debug, Clone)]
enum What {
    Put(Wanted, Option<u64>),
    Delete(Wanted),
    Check(bool),
}

/// An expectation that is resolved to a true or false one at the time of use.
#[derive(Debug, Clone)]
enum Wanted {
    Any,
    Absent,
    Current,
    Wrong,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![Just(Wanted::Any), Just(Wanted::Absent), Just(Wanted::Current), Just(Wanted::Wrong)]
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        3 => (wanted(), prop::option::of(1u64..5)).prop_map(|(wanted, ttl)| What::Put(wanted, ttl)),
        1 => wanted().prop_map(What::Delete),
        1 => any::<bool>().prop_map(What::Check),
    ];
    prop_oneof![
        4 => prop::collection::vec((0u8..6, what), 1..4).prop_map(Step::Commit),
        1 => (0u64..4000).prop_map(Step::Wait),
    ]
}

fn key(number: u8) -> String {
    format!("k{}.{}", number % 2, number)
}

fn expectation(wanted: &Wanted, current: Option<u64>) -> Precondition {
    match wanted {
        Wanted::Any => Precondition::Any,
        Wanted::Absent => Precondition::Absent,
        Wanted::Current => Precondition::Rev(current.unwrap_or(0)),
        Wanted::Wrong => Precondition::Rev(current.unwrap_or(0) + 1),
    }
}

fn batch(steps: Vec<(u8, What)>, model: &Model, now: Moment) -> Vec<BatchOp> {
    let steps: BTreeMap<_, _> = steps.into_iter().map(|(number, what)| (key(number), what)).collect();
    let compose = |(key, what): (String, What)| {
        let current = model.alive(&key, now);
        match what {
            What::Put(wanted, ttl) => {
                let ttl = ttl.map(Duration::from_secs);
                BatchOp::Put(Put { ttl, ..Put::new(key, "v", expectation(&wanted, current)) })
            }
            What::Delete(wanted) => BatchOp::Delete { key, expect: expectation(&wanted, current) },
            What::Check(right) => BatchOp::Check { key, rev: current.unwrap_or(0) + u64::from(!right) },
        }
    };
    steps.into_iter().map(compose).collect()
}

/// Applies events to a reader's view of the rows.
fn follow(seen: &mut BTreeMap<String, u64>, events: Vec<WatchEvent>) {
    for event in events {
        match event {
            WatchEvent::Put(entry) => {
                assert!(seen.insert(entry.key, entry.rev).is_none_or(|before| before < entry.rev));
            }
            WatchEvent::Delete { key, .. } => assert!(seen.remove(&key).is_some(), "{key} stood"),
            WatchEvent::Live => unreachable!("rows do not watch"),
        }
    }
}

fn record(model: &mut Model, rows: &Rows, batch: &[BatchOp], now: Moment) -> Result<(), TestCaseError> {
    for step in batch {
        match step {
            BatchOp::Put(put) => {
                let entry = rows.get(&put.key).expect("was put");
                prop_assert_eq!(entry.op, put.op);
                prop_assert!(model.revisions.insert(entry.rev), "a revision was reused");
                model.rows.insert(put.key.clone(), (entry.rev, entry.value, put.ttl.map(|ttl| now + ttl)));
            }
            BatchOp::Delete { key, .. } => drop(model.rows.remove(key)),
            BatchOp::Check { .. } => {}
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn rows_are_a_map_with_revisions_and_expiry(steps in prop::collection::vec(step(), 1..60)) {
        let (mut rows, mut model, mut now) = (Rows::default(), Model::default(), Moment::ZERO);
        let mut seen = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Commit(steps) => {
                    follow(&mut seen, rows.expire(now));
                    let batch = batch(steps, &model, now);
                    let holds = batch.iter().map(target).all(|(key, expect)| model.meets(key, expect, now));
                    let outcome = rows.commit(batch.clone(), now);
                    prop_assert_eq!(outcome.is_ok(), holds);
                    if let Ok((rev, events)) = outcome {
                        follow(&mut seen, events);
                        record(&mut model, &rows, &batch, now)?;
                        prop_assert!(model.revisions.last().is_none_or(|last| *last <= rev));
                    }
                }
            }
            follow(&mut seen, rows.expire(now));
            model.rows.retain(|_, (_, _, expires)| expires.is_none_or(|moment| moment > now));
            let expected: Vec<_> = model.rows.iter().map(|(key, (rev, ..))| (key.clone(), *rev)).collect();
            let listed: Vec<_> = rows.list("").into_iter().map(|e| (e.key, e.rev)).collect();
            prop_assert_eq!(&listed, &expected);
            prop_assert_eq!(seen.clone().into_iter().collect::<Vec<_>>(), expected);
            let below: Vec<_> = rows.list("k1.").into_iter().map(|e| e.key).collect();
            prop_assert!(below.iter().all(|key| key.starts_with("k1.")));
            let mut by_rev: Vec<_> = listed.into_iter().filter(|(key, _)| below.contains(key)).collect();
            by_rev.sort_by_key(|(_, rev)| *rev);
            let scanned: Vec<_> = rows.scan("k1.", 0, 100).into_iter().map(|e| (e.key, e.rev)).collect();
            prop_assert_eq!(scanned, by_rev);
            prop_assert_eq!(rows.by_key.len(), rows.by_rev.len());
            prop_assert!(rows.next_expiry().is_none_or(|moment| moment > now));
        }
    }

    #[test]
    fn pages_of_a_scan_are_the_whole_scan(count in 0usize..40, limit in 1usize..7) {
        let mut rows = Rows::default();
        for number in 0..count {
            rows.put(Put::new(format!("a.{}", number % 11), "v", Precondition::Any), Moment::ZERO).unwrap();
        }
        let (mut pages, mut after) = (Vec::new(), 0);
        loop {
            let page = rows.scan("", after, limit);
            let Some(last) = page.last() else { break };
            after = last.rev;
            pages.extend(page);
        }
        prop_assert_eq!(pages, rows.scan("", 0, usize::MAX));
    }

    #[test]
    fn no_text_makes_a_key_panic(key: String, prefix: String) {
        let mut rows = Rows::default();
        let written = rows.put(Put::new(key.clone(), "v", Precondition::Any), Moment::ZERO).is_ok();
        prop_assert_eq!(written, is_legal(&key));
        prop_assert_eq!(rows.list("").len(), usize::from(written));
        prop_assert!(rows.list(&prefix).len() <= 1);
    }
}

#[test]
fn a_prefix_ends_at_the_end_of_a_token() {
    let mut rows = Rows::default();
    for key in ["a", "a.b", "a-b", "ab.c"] {
        rows.put(Put::new(key, "v", Precondition::Any), Moment::ZERO).unwrap();
    }
    for prefix in ["a", "a."] {
        assert_eq!(rows.list(prefix).into_iter().map(|e| e.key).collect::<Vec<_>>(), ["a.b"]);
    }
}
