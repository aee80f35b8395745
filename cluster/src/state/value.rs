//! Equality, size and limits of values.
//!
//! Owns: the rules that hold for every value in a tree. Never: the position of a value in the tree.

use std::io;

use serde::Serialize;
use serde_json::{Number, Value};

use super::{MAX_DEPTH, MAX_KEY, StateError};

/// Returns whether two values are the same, so that writing one over the other is no event. The order of keys is part
/// of a value. Numbers are compared by value: 1 equals 1.0, because JSON has one kind of number and a browser cannot
/// distinguish them.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same(a, b))
        }
        (a, b) => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    match (a.as_i128(), b.as_i128(), a.as_f64(), b.as_f64()) {
        (Some(a), Some(b), ..) => a == b,
        (None, None, a, b) => a == b,
        (Some(integer), None, _, Some(float)) | (None, Some(integer), Some(float), _) => {
            as_integer(float) == Some(integer)
        }
        _ => false,
    }
}

/// Returns the integer that a float is equal to.
fn as_integer(float: f64) -> Option<i128> {
    // integers in trees have at most 64 bits, so the conversion is exact in the range that matters
    (float.fract() == 0.0 && float.abs() < 1e30).then_some(float as i128)
}

/// Returns the length as JSON without white space, in bytes.
pub(super) fn length(value: &(impl Serialize + ?Sized)) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // counting cannot fail, and serializing cannot either, because all keys are text
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// Estimates the memory that a value takes on the heap, in bytes. Small values take several times their length as JSON.
pub(super) fn memory(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| size_of::<Value>() + memory(item)).sum(),
        Value::Object(members) => {
            // a hash, and a place in the index, for each member
            let member = size_of::<(u64, String, Value)>() + 2 * size_of::<usize>();
            members.iter().map(|(key, value)| member + key.len() + memory(value)).sum()
        }
    }
}

pub(super) fn legal_key(key: &str) -> Result<(), StateError> {
    if (1..=MAX_KEY).contains(&key.len()) { Ok(()) } else { Err(StateError::Key) }
}

/// Checks a value that is to be written below `above` keys. Objects are branches, so their keys must be valid keys of
/// paths. An array is a leaf, so only the depth of its content is checked.
///
/// # Errors
///
/// [`StateError::Depth`] or [`StateError::Key`].
pub(super) fn legal(value: &Value, above: usize) -> Result<(), StateError> {
    match value {
        Value::Object(_) | Value::Array(_) if above >= MAX_DEPTH => Err(StateError::Depth),
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            legal_key(key)?;
            legal(member, above + 1)
        }),
        Value::Array(items) => items.iter().try_for_each(|item| shallow(item, above + 1)),
        _ => Ok(()),
    }
}

/// Checks the depth of a value inside an array.
fn shallow(value: &Value, above: usize) -> Result<(), StateError> {
    match value {
        Value::Object(_) | Value::Array(_) if above >= MAX_DEPTH => Err(StateError::Depth),
        Value::Object(members) => members.values().try_for_each(|member| shallow(member, above + 1)),
        Value::Array(items) => items.iter().try_for_each(|item| shallow(item, above + 1)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_equals_one_point_zero_and_order_counts() {
        assert!(same(&json!(1), &json!(1.0)) && same(&json!({"a": [1]}), &json!({"a": [1.0]})));
        assert!(same(&json!(0), &json!(-0.0)));
        assert!(
            !same(&json!(1), &json!(1.5)) && !same(&json!(1), &json!("1")) && !same(&json!(0), &json!(false))
        );
        assert!(!same(&json!({"a": 1, "b": 2}), &json!({"b": 2, "a": 1})));
        assert!(!same(&json!({"a": 1}), &json!({"a": 1, "b": 2})) && !same(&json!([1]), &json!([1, 2])));
        assert!(!same(&json!(9_007_199_254_740_993_u64), &json!(9_007_199_254_740_992.0)));
        assert!(same(&json!(u64::MAX), &json!(u64::MAX)) && !same(&json!(u64::MAX), &json!(-1)));
    }

    #[test]
    fn keys_and_depth_have_limits() {
        let nested =
            |levels: usize, shell: fn(Value) -> Value| (0..levels).fold(json!(1), |value, _| shell(value));
        let branch: fn(Value) -> Value = |value| json!({"k": value});
        for shell in [branch, |value| json!([value])] {
            assert_eq!(legal(&nested(MAX_DEPTH, shell), 0), Ok(()));
            assert_eq!(legal(&nested(MAX_DEPTH + 1, shell), 0), Err(StateError::Depth));
            assert_eq!(legal(&nested(1, shell), MAX_DEPTH), Err(StateError::Depth));
        }
        assert_eq!(legal(&json!({"": 1}), 0), Err(StateError::Key));
        assert_eq!(legal(&json!([{"": 1}]), 0), Ok(()), "what is in an array is no path");
    }

    proptest! {
        #[test]
        fn the_length_is_that_of_the_text(text: String, number: f64, list: Vec<i64>) {
            let value = json!({text: [number, list, null]});
            prop_assert_eq!(length(&value), value.to_string().len());
        }
    }
}
