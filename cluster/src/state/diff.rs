//! Computes the changes that turn one tree into another. Pure.
//!
//! Owns: the difference, including the order of keys. Never: guarantees a shortest one. Replacing a value never moves
//! its key, so a key at another position is deleted and added again.

use serde_json::{Map, Value};

use super::value::same;
use super::{Path, Tree, TreeEvent};

/// Returns the events that turn `from` into `to`.
pub fn diff(from: &Tree, to: &Tree) -> Vec<TreeEvent> {
    let mut events = Vec::new();
    if let (Value::Object(from), Value::Object(to)) = (from.as_value(), to.as_value()) {
        branch(&Path::ROOT, from, to, &mut events);
    }
    events
}

fn branch(at: &Path, from: &Map<String, Value>, to: &Map<String, Value>, events: &mut Vec<TreeEvent>) {
    let mut event = |key: &str, old: Option<&Value>, new: Option<&Value>| {
        events.push(TreeEvent { path: at.child(key), old: old.cloned(), new: new.cloned(), from: None });
    };
    let kept = kept(from, to);
    // the first `kept` keys of the new branch keep their order, so every other key of the old branch is deleted
    let mut stays = to.keys().take(kept).peekable();
    for (key, old) in from {
        if stays.next_if_eq(&key).is_none() {
            event(key, Some(old), None);
        }
    }
    for (key, new) in to.iter().skip(kept) {
        event(key, None, Some(new));
    }
    for (key, new) in to.iter().take(kept) {
        match (from.get(key), new) {
            (Some(Value::Object(old)), Value::Object(new)) => branch(&at.child(key), old, new, events),
            (Some(old), new) if same(old, new) => {}
            (old, new) => {
                events.push(TreeEvent {
                    path: at.child(key),
                    old: old.cloned(),
                    new: Some(new.clone()),
                    from: None,
                });
            }
        }
    }
}

/// Returns how many of the first keys of the new branch occur in the old one in the same order.
fn kept(from: &Map<String, Value>, to: &Map<String, Value>) -> usize {
    let mut old = from.keys();
    to.keys().take_while(|key| old.any(|old_key| old_key == *key)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::state::tree::tests::values;

    fn tree(value: Value) -> Tree {
        Tree::stored(if value.is_object() { value } else { json!({"a": value}) }).unwrap()
    }

    fn paths(from: Value, to: Value) -> Vec<String> {
        let sign = |event: &TreeEvent| if event.new.is_some() { '+' } else { '-' };
        diff(&tree(from), &tree(to)).iter().map(|event| format!("{}{}", sign(event), event.path)).collect()
    }

    #[test]
    fn a_difference_names_what_changed_and_no_more() {
        assert_eq!(paths(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1, "c": 3}})), ["+a.c"]);
        assert_eq!(paths(json!({"a": 1, "b": 2}), json!({"b": 2, "c": 3})), ["-a", "+c"]);
        assert_eq!(paths(json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1})), ["-a", "+a"]);
        assert_eq!(paths(json!({"a": {"b": 1}}), json!({"a": 1})), ["+a"]);
        assert_eq!(paths(json!({"a": 1}), json!({"a": 1.0})), [""; 0]);
    }

    proptest! {
        #[test]
        fn the_difference_applied_to_one_gives_the_other(from in values(), to in values()) {
            let (mut from, to) = (tree(from), tree(to));
            for event in diff(&from, &to) {
                prop_assert_eq!(from.change(event.change()), Ok(Some(event)));
            }
            prop_assert_eq!(&from, &to);
            prop_assert_eq!(diff(&from, &to), []);
        }
    }
}
