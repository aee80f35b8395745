use proptest::prelude::*;
use serde_json::json;

use super::*;

fn tree(root: Value) -> Tree {
    Tree::stored(root).unwrap()
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn edit(text: &str, value: Option<Value>) -> Edit {
    Edit { path: text.parse().unwrap(), value }
}

fn text(tree: &Tree) -> String {
    tree.as_value().to_string()
}

#[test]
fn reading_a_branch_gives_the_branch() {
    let tree = tree(json!({"a": {"b": 1, "c": null}, "l": [1, 2]}));
    assert_eq!(tree.get(&path("a")), Some(&json!({"b": 1, "c": null})));
    assert_eq!(tree.get(&path("a.c")), Some(&Value::Null));
    assert_eq!(tree.get(&path("")), Some(tree.as_value()));
    for missing in ["a.d", "a.b.x", "l.0", "x"] {
        assert_eq!(tree.get(&path(missing)), None, "{missing}");
    }
}

#[test]
fn writing_below_a_leaf_replaces_it_by_a_branch() {
    let mut tree = tree(json!({"a": 5, "l": [1], "z": 0}));
    let event = tree.set(&path("a.b.c"), json!(1)).unwrap().unwrap();
    assert_eq!((event.old, event.new), (None, Some(json!(1))));
    tree.set(&path("l.x"), json!(2)).unwrap();
    assert_eq!(text(&tree), r#"{"a":{"b":{"c":1}},"l":{"x":2},"z":0}"#);
}

#[test]
fn order_is_that_of_coming_whatever_is_replaced_or_deleted() {
    let mut tree = Tree::default();
    for key in ["d", "b", "c", "a"] {
        tree.set(&path(key), json!(0)).unwrap();
    }
    tree.set(&path("b"), json!(1)).unwrap();
    let event = tree.delete(&path("d")).unwrap();
    assert_eq!((event.old, event.new), (Some(json!(0)), None));
    assert_eq!(text(&tree), r#"{"b":1,"c":0,"a":0}"#);
    tree.set(&path("d"), json!(0)).unwrap();
    assert_eq!(text(&tree), r#"{"b":1,"c":0,"a":0,"d":0}"#);
}

#[test]
fn the_same_value_is_no_event() {
    let mut tree = tree(json!({"a": {"b": 1}}));
    let before = text(&tree);
    assert_eq!(tree.set(&path("a.b"), json!(1.0)), Ok(None));
    assert_eq!(tree.set(&path("a"), json!({"b": 1})), Ok(None));
    assert_eq!(tree.set(&path(""), json!({"a": {"b": 1}})), Ok(None));
    assert_eq!(tree.delete(&path("a.c")), None);
    assert_eq!(Tree::default().delete(&Path::ROOT), None);
    assert_eq!(text(&tree), before, "1 stays 1");
}

#[test]
fn a_position_means_the_child_that_stands_there_now() {
    let mut tree = tree(json!({"x": {"b": 1, "a": 2}}));
    let event = tree.edit(&edit("x.#1", Some(json!(3)))).unwrap().unwrap();
    assert_eq!(event.path, path("x.a"));
    assert_eq!(tree.resolve(&"#0.#0".parse().unwrap()), Ok(path("x.b")));
    assert_eq!(tree.resolve(&"#0.#2.y".parse().unwrap()), Err(StateError::Child(2)), "it never makes one");
    assert_eq!(tree.resolve(&"x.a.#0".parse().unwrap()), Err(StateError::Child(0)), "a leaf has none");
}

#[test]
fn a_patch_is_all_or_nothing() {
    let mut tree = tree(json!({"b": 1, "a": 2}));
    let before = text(&tree);
    let bad = [edit("b", None), edit("c", Some(json!(1))), edit("#9", Some(json!(1)))];
    assert_eq!(tree.patch(&bad), Err(StateError::Child(9)));
    assert_eq!((text(&tree), tree.size()), (before.clone(), before.len()));
    let events =
        tree.patch(&[edit("b", None), edit("#0", Some(json!(3))), edit("a", Some(json!(3)))]).unwrap();
    let paths: Vec<_> = events.iter().map(|event| event.path.to_string()).collect();
    assert_eq!(paths, ["b", "a"], "positions are those after the edits before; the same value is no event");
    assert_eq!(tree.patch(&vec![edit("a", None); MAX_CHANGES + 1]), Err(StateError::Changes));
}

#[test]
fn a_whole_tree_is_replaced_by_an_object_only() {
    let mut tree = tree(json!({"a": 1}));
    assert_eq!(tree.set(&Path::ROOT, json!([1])), Err(StateError::Root));
    assert!(tree.set(&Path::ROOT, json!({"b": 2})).unwrap().is_some());
    assert_eq!(text(&tree), r#"{"b":2}"#);
    assert!(tree.delete(&Path::ROOT).is_some());
    assert_eq!((text(&tree), tree.size()), ("{}".to_owned(), 2));
}

#[test]
fn limits_have_their_own_errors_and_change_nothing() {
    let mut tree = tree(json!({"a": 1}));
    let big = json!("x".repeat(MAX_TREE));
    assert_eq!(tree.set(&path("a"), big.clone()), Err(StateError::Size));
    assert_eq!(tree.set(&Path::ROOT, json!({"a": big})), Err(StateError::Size));
    assert_eq!(tree.set(&path("a"), json!({"": 1})), Err(StateError::Key));
    let deep = path(&["k"; 32].join("."));
    assert_eq!(tree.set(&deep, json!({})), Err(StateError::Depth));
    assert_eq!(text(&tree), r#"{"a":1}"#);
    assert!(tree.set(&deep, json!(1)).is_ok());
    let fits = MAX_TREE - tree.size() - r#","b":"""#.len();
    assert!(tree.set(&path("b"), json!("x".repeat(fits))).is_ok());
    assert_eq!(tree.set(&path("c"), json!(1)), Err(StateError::Size));
}

/// Generates values with few keys, so that paths overlap.
pub(in crate::state) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0..3).prop_map(|n| json!(n)),
        Just(json!(1.0)),
        Just(json!([1, {"b": 1, "a": 2}])),
        "[a\"é]{0,3}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop::collection::vec(("[abcd.]", inner), 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    })
}

fn roots() -> impl Strategy<Value = Value> {
    prop::collection::vec(("[abcd.]", values()), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn paths() -> impl Strategy<Value = Path> {
    prop::collection::vec("[abcd.]", 0..4)
        .prop_map(|keys| keys.iter().fold(Path::ROOT, |path, key| path.child(key)))
}

fn edits() -> impl Strategy<Value = Vec<(Path, Option<Value>)>> {
    prop::collection::vec((paths(), prop::option::of(values())), 0..8)
}

/// A simple model of the same operations on lists of pairs.
mod naive {
    use super::*;

    pub(super) fn set(node: &Value, keys: &[Box<str>], value: &Value) -> Value {
        let Some((key, below)) = keys.split_first() else { return value.clone() };
        let mut pairs: Vec<(String, Value)> =
            node.as_object().cloned().unwrap_or_default().into_iter().collect();
        match pairs.iter_mut().find(|(name, _)| **name == **key) {
            Some((_, member)) => *member = set(member, below, value),
            None => pairs.push((key.to_string(), set(&Value::Null, below, value))),
        }
        Value::Object(pairs.into_iter().collect())
    }

    pub(super) fn delete(node: &Value, keys: &[Box<str>]) -> Value {
        let Some((key, below)) = keys.split_first() else { return json!({}) };
        let Some(members) = node.as_object() else { return node.clone() };
        let kept = members.iter().filter(|(name, _)| ***name != **key || !below.is_empty());
        let pairs = kept.map(|(name, member)| match **name == **key {
            true => (name.clone(), delete(member, below)),
            false => (name.clone(), member.clone()),
        });
        Value::Object(pairs.collect())
    }
}

proptest! {
    #[test]
    fn a_tree_does_what_a_naive_one_does(root in roots(), edits in edits()) {
        let (mut tree, mut model) = (tree(root.clone()), root);
        for (path, value) in edits {
            let before = model.clone();
            let event = match &value {
                Some(value) => {
                    let event = tree.set(&path, value.clone());
                    if path == Path::ROOT && !value.is_object() {
                        prop_assert_eq!(event, Err(StateError::Root));
                        continue;
                    }
                    let changed = naive::set(&model, path.keys(), value);
                    if !same(&model, &changed) {
                        model = changed;
                    }
                    event.unwrap()
                }
                None => {
                    model = naive::delete(&model, path.keys());
                    tree.delete(&path)
                }
            };
            prop_assert_eq!(event.is_some(), !same(&before, &model), "an event when something changed");
            if let Some(event) = event {
                let before = Tree::stored(before).unwrap();
                prop_assert_eq!(event.old.as_ref(), before.get(&path));
                prop_assert_eq!(event.new, value);
            }
            prop_assert_eq!(text(&tree), model.to_string());
            prop_assert_eq!(tree.size(), text(&tree).len());
        }
    }

    #[test]
    fn a_patch_is_its_edits_one_after_the_other_or_nothing(root in roots(), edits in edits(), fails: bool) {
        let (mut patched, mut stepped) = (tree(root.clone()), tree(root));
        let before = text(&patched);
        let mut edits: Vec<_> = edits.into_iter().map(|(path, value)| Edit { path: path.into(), value }).collect();
        edits.retain(|edit| !edit.path.0.is_empty() || edit.value.as_ref().is_none_or(Value::is_object));
        let steps: Vec<_> = edits.iter().flat_map(|edit| stepped.edit(edit).unwrap()).collect();
        if fails {
            edits.push(edit("#7", None));
            prop_assert_eq!(patched.patch(&edits), Err(StateError::Child(7)));
            prop_assert_eq!(text(&patched), before);
        } else {
            prop_assert_eq!(patched.patch(&edits).unwrap(), steps);
            prop_assert_eq!(text(&patched), text(&stepped));
        }
        prop_assert_eq!(patched.size(), text(&patched).len());
    }

    #[test]
    fn the_changes_of_events_do_the_same_elsewhere(root in roots(), edits in edits()) {
        let (mut here, mut there) = (tree(root.clone()), tree(root));
        for (path, value) in edits {
            let Ok(Some(event)) = here.change(TreeChange { path, value, from: None }) else { continue };
            prop_assert_eq!(there.change(event.change()).unwrap(), Some(event));
        }
        prop_assert_eq!(text(&here), text(&there));
    }
}
