use serde_json::{Value, json};

use super::*;
use crate::engine::OperationId;
use crate::state::fence::FenceTable;
use crate::state::record::TreeVersion;

const ANN: Key = Key::from_bits(1);
const BOB: Key = Key::from_bits(2);

/// A followed tree with helpers for tests.
struct Tested {
    followed: TreeReplica,
    numbers: u64,
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn found(rev: u64, tree: Value) -> Found {
    let tree = Tree::stored(tree).unwrap();
    Some(TreeVersion { rev, tree, ..TreeVersion::default() })
}

fn set(text: &str, value: Value) -> TreeEvent {
    TreeEvent { path: path(text), old: None, new: Some(value), from: None }
}

/// Formats notifications as `follower:path update`.
fn notified(actions: Vec<Action>) -> Vec<String> {
    let line = |action| match action {
        Action::Read { .. } => "read".to_owned(),
        Action::Notify(delivery) => {
            let to: String = delivery.to.iter().map(|who| if *who == ANN { 'a' } else { 'b' }).collect();
            let update = match delivery.update {
                TreeUpdate::Snapshot { revision, value: Some(value) } => format!("{revision} is {value}"),
                TreeUpdate::Snapshot { revision, value: None } => format!("{revision} is nothing"),
                TreeUpdate::Changed { base, revision, events } => {
                    let paths: Vec<_> = events.iter().map(|event| event.path.to_string()).collect();
                    format!("{base} to {revision} at [{}]", paths.join(" "))
                }
                TreeUpdate::Removed => "removed".to_owned(),
            };
            format!("{to}:{} {update}", delivery.path)
        }
    };
    actions.into_iter().map(line).collect()
}

impl Tested {
    fn new() -> Self {
        Self { followed: TreeReplica::new(Entity::User("u".into())), numbers: 0 }
    }

    /// Creates a tree at revision 5 that Ann follows as a whole.
    fn at_5(tree: Value) -> Self {
        let mut tested = Self::new();
        tested.join("", ANN);
        tested.found(found(5, tree));
        tested
    }

    fn join(&mut self, text: &str, who: Key) -> Vec<String> {
        notified(self.followed.join(path(text), who, 0, &mut self.numbers))
    }

    fn join_having_seen(&mut self, seen: u64, who: Key) -> Vec<String> {
        notified(self.followed.join(Path::ROOT, who, seen, &mut self.numbers))
    }

    fn on_entry(&mut self, rev: u64, base: u64, events: &[TreeEvent]) -> Vec<String> {
        let meta = Meta::encode(base, None, &FenceTable::default(), false, events);
        let entry =
            Entry { key: String::new(), rev, op: OperationId::default(), meta, value: Default::default() };
        notified(self.followed.on_entry(&entry, &mut self.numbers))
    }

    fn on_delete(&mut self) -> Vec<String> {
        notified(self.followed.on_delete(&mut self.numbers))
    }

    /// Delivers the result of the latest read.
    fn found(&mut self, found: Found) -> Vec<String> {
        notified(self.followed.found(self.numbers, found, &mut self.numbers))
    }
}

#[test]
fn a_snapshot_comes_first_and_then_every_change_once() {
    let mut tree = Tested::new();
    assert_eq!(tree.join("", ANN), ["read"]);
    assert_eq!(tree.join("a", BOB), [""; 0]);
    assert_eq!(tree.on_entry(4, 3, &[set("a", json!(0))]), [""; 0], "before the snapshot");
    assert_eq!(tree.found(found(5, json!({"a": 1}))), [r#"a: 5 is {"a":1}"#, "b:a 5 is 1"]);
    assert_eq!(tree.on_entry(5, 4, &[set("a", json!(1))]), [""; 0], "it is in the snapshot");
    assert_eq!(tree.on_entry(7, 5, &[set("a", json!(2))]), ["a: 5 to 7 at [a]", "b:a 5 to 7 at [a]"]);
    assert_eq!(tree.on_entry(8, 7, &[set("b", json!(2))]), ["a: 7 to 8 at [b]"]);
    assert_eq!(tree.join("", BOB), [r#"b: 8 is {"a":2,"b":2}"#], "a later follower needs no read");
    assert_eq!(tree.on_entry(9, 8, &[]), ["ab: 8 to 9 at []"]);
}

#[test]
fn who_has_seen_more_than_the_replica_waits_until_it_is_read_again() {
    let mut tree = Tested::at_5(json!({"a": 1}));
    assert_eq!(tree.join_having_seen(5, BOB), [r#"b: 5 is {"a":1}"#]);
    assert_eq!(tree.join_having_seen(7, BOB), ["read"]);
    assert_eq!(
        tree.on_entry(6, 5, &[set("a", json!(2))]),
        [""; 0],
        "no follower is notified while it is read"
    );
    assert_eq!(tree.found(found(7, json!({"a": 3}))), ["a: 5 to 7 at [a]", r#"b: 7 is {"a":3}"#]);
    assert_eq!(tree.on_entry(8, 7, &[set("a", json!(4))]), ["ab: 7 to 8 at [a]"]);
}

#[test]
fn a_reading_that_may_be_older_than_what_was_seen_is_not_enough() {
    let mut tree = Tested::new();
    assert_eq!(tree.join("", ANN), ["read"]);
    assert_eq!(tree.join_having_seen(7, BOB), [""; 0], "one is under way");
    assert_eq!(tree.found(found(6, json!({"a": 1}))), [r#"a: 6 is {"a":1}"#, "read"]);
    assert_eq!(tree.found(found(7, json!({"a": 2}))), ["a: 6 to 7 at [a]", r#"b: 7 is {"a":2}"#]);
}

#[test]
fn what_was_skipped_or_did_not_fit_is_read_and_compared() {
    let mut tree = Tested::at_5(json!({"a": 1, "b": 1}));
    tree.join("b", BOB);
    assert_eq!(tree.on_entry(9, 7, &[set("a", json!(2))]), ["read"]);
    assert_eq!(tree.found(found(9, json!({"a": 2, "b": 1}))), ["a: 5 to 9 at [a]"]);
    let many = |n: u64| (0..300).map(|key| (format!("k{key}"), json!(n))).collect::<Value>();
    assert_eq!(tree.on_entry(11, 9, &[set("b", many(1)), set("c", many(1))]), ["read"]);
    assert_eq!(
        tree.found(found(11, json!({"a": 2, "b": many(1)}))),
        ["a: 9 to 11 at [b]", "b:b 9 to 11 at [b]"]
    );
    tree.on_entry(13, 11, &[set("b", many(2)), set("c", many(2))]);
    let notified = tree.found(found(13, json!({"a": 2, "b": many(2)})));
    assert!(
        notified.len() == 2 && notified[0].starts_with("a: 13 is") && notified[1].starts_with("b:b 13 is"),
        "{notified:?}"
    );
}

#[test]
fn what_is_heard_while_reading_is_read_again_unless_it_was_in_it() {
    let mut tree = Tested::at_5(json!({"a": 1}));
    tree.on_entry(9, 7, &[]);
    assert_eq!(tree.on_entry(10, 9, &[set("a", json!(3))]), [""; 0]);
    assert_eq!(tree.found(found(9, json!({"a": 2}))), ["a: 5 to 9 at [a]", "read"]);
    assert_eq!(tree.on_entry(11, 10, &[set("a", json!(4))]), [""; 0]);
    assert_eq!(tree.found(found(11, json!({"a": 4}))), ["a: 9 to 11 at [a]"]);
    assert_eq!(tree.on_entry(11, 10, &[set("a", json!(4))]), [""; 0]);
}

#[test]
fn a_tree_goes_and_comes_again() {
    let mut tree = Tested::at_5(json!({"a": 1}));
    assert_eq!(tree.on_delete(), ["read"]);
    assert_eq!(tree.found(None), ["a: removed"]);
    assert_eq!(tree.on_delete(), [""; 0]);
    assert_eq!(tree.join("a", BOB), ["b:a 0 is nothing"]);
    assert_eq!(tree.on_entry(3, 0, &[set("a", json!(0))]), ["read"]);
    assert_eq!(tree.found(None), [""; 0], "a late event of a tree that was removed before revision 5");
    assert_eq!(tree.on_entry(9, 0, &[set("a", json!(1))]), ["read"]);
    assert_eq!(tree.found(found(9, json!({"a": 1}))), ["a: 0 to 9 at [a]", "b:a 0 to 9 at [a]"]);
    assert_eq!(tree.on_delete(), ["read"]);
    let notified = tree.found(found(12, json!({"b": 1})));
    assert_eq!(notified, ["a: 9 to 12 at [a b]", "b:a 9 to 12 at [a]"], "made again before it was read");
}

#[test]
fn a_deletion_heard_while_reading_is_looked_after() {
    let mut tree = Tested::new();
    tree.join("", ANN);
    tree.on_delete();
    assert_eq!(tree.found(found(5, json!({}))), ["a: 5 is {}", "read"]);
    assert_eq!(tree.found(None), ["a: removed"]);
}

#[test]
fn a_cluster_that_lost_its_past_is_believed() {
    let mut tree = Tested::at_5(json!({"a": 1}));
    tree.on_entry(7, 5, &[set("a", json!(2))]);
    assert_eq!(tree.on_entry(2, 0, &[set("a", json!(0))]), ["read"]);
    assert_eq!(tree.found(found(2, json!({"a": 0}))), [r#"a: 2 is {"a":0}"#]);
    assert_eq!(tree.on_entry(3, 2, &[set("a", json!(1))]), ["a: 2 to 3 at [a]"]);
}

#[test]
fn a_change_that_does_not_fit_here_is_read() {
    let mut tree = Tested::at_5(json!({"a": 1}));
    assert_eq!(tree.on_entry(6, 5, &[set("b", json!(1)), set("", json!(5))]), ["read"]);
    assert_eq!(tree.join("b", BOB), [""; 0], "no follower sees half a change");
    assert_eq!(tree.found(found(6, json!({"b": 2}))), [r#"a: 6 is {"b":2}"#, "b:b 6 is 2"]);
}
