//! Values that a program has to receive and return without a change.
//!
//! Owns: the values, and when two of them are the same. Never: messages.

use serde_json::{Value, json};

/// Levels of arrays and objects that every program reads; Pagewire refuses more than 64.
const LEVELS: usize = 60;

/// Returns a value of each kind.
pub(super) fn kinds() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1.5),
        json!(""),
        json!("text"),
        json!([]),
        json!([null, false, [], {}]),
        json!({}),
        json!({"a": null, "": 1, "b": {"c": [1, "2", {"d": true}]}}),
    ]
}

/// Returns numbers that a double can represent, up to its limits.
pub(super) fn numbers() -> Vec<Value> {
    let most = (1_i64 << 53) - 1;
    let integers = [0, 1, -1, 1 << 31, -(1 << 31), 1 << 32, most, -most].map(Value::from);
    let doubles =
        [0.1, -0.1, 1e-300, 5e-324, 1.797_693_134_862_315_7e308, 123_456_789.123_456_79].map(Value::from);
    integers.into_iter().chain(doubles).collect()
}

/// Returns texts of several scripts and of every form of escape.
pub(super) fn texts() -> Vec<Value> {
    let texts = [
        "é",
        "日本語",
        "😀",
        "👩‍👩‍👧",
        "\u{0}",
        "\u{1f}\u{7f}",
        "\"\\/",
        "\r\n\t",
        "\u{2028}\u{2029}",
        "\u{feff}",
        "a\u{301}",
        "\u{10ffff}",
    ];
    let named = json!({"ключ": "значение", "😀": {"日": "本"}});
    texts.into_iter().map(Value::from).chain([named]).collect()
}

/// Returns arrays and objects within each other.
pub(super) fn nested() -> Value {
    (0..LEVELS).fold(json!("inside"), |value, level| match level % 2 {
        0 => json!([value]),
        _ => json!({"in": value}),
    })
}

/// Returns whether two values are the same. Numbers are doubles, because those of many languages are.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let equal =
                |(name, left): (&String, &Value)| right.get(name).is_some_and(|right| same(left, right));
            left.len() == right.len() && left.iter().all(equal)
        }
        _ => left == right,
    }
}

/// Returns the start of a value as text, for a reason.
pub(super) fn shown(value: &Value) -> String {
    const SHOWN: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_if_only_their_form_differs() {
        assert!(same(&json!({"a": 1, "b": [2.0]}), &json!({"b": [2], "a": 1.0})));
        for (left, right) in [
            (json!({"a": 1}), json!({"a": 1, "b": 1})),
            (json!([1]), json!([1, 1])),
            (json!(1), json!("1")),
            (json!(null), json!(false)),
        ] {
            assert!(!same(&left, &right), "{left} and {right}");
        }
    }
}
