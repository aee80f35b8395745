//! How deep JSON of clients may be nested.
//!
//! Payloads are forwarded as they came, so every reader behind this server must be able to parse them: parsers of
//! other languages stop at 64 levels (.NET), 128 (serde_json) or 512 (PHP), and skipping over raw JSON stops nowhere.

/// The most arrays and objects inside each other, the frame or body itself included.
pub const MAX_DEPTH: usize = 64;

/// Message of a refusal.
pub const TOO_DEEP: &str = "the JSON is nested deeper than 64 levels";

/// Whether a JSON text is nested deeper than [`MAX_DEPTH`]. The result for a text that is not JSON is undefined.
pub fn is_too_deep(json: &[u8]) -> bool {
    // as many brackets close as open
    if json.len() <= 2 * MAX_DEPTH {
        return false;
    }
    let (mut depth, mut text, mut escaped) = (0usize, false, false);
    for byte in json {
        match (text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => text = !text,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn nested(levels: usize) -> String {
        format!("{}{}", r#"[{"a":"#.repeat(levels / 2), "}]".repeat(levels / 2))
    }

    #[test]
    fn the_deepest_allowed_text_is_allowed_and_one_level_more_is_not() {
        assert!(!is_too_deep(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()));
        assert!(is_too_deep(format!("{}{}", "[".repeat(65), "]".repeat(65)).as_bytes()));
        assert!(is_too_deep(nested(30_000).as_bytes()));
        let brackets_in_texts = json!({"a\"[": "[{".repeat(500), "b": "\\"}).to_string();
        assert!(!is_too_deep(brackets_in_texts.as_bytes()));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser(texts: Vec<String>, levels in 0usize..90, wide in 0usize..5) {
            let mut value = json!([texts]);
            for level in 0..levels {
                value = if level % 3 == 0 { json!({"k\\\"": value, "[": 1}) } else { json!([value]) };
            }
            let value = json!(vec![value; wide]);
            prop_assert_eq!(is_too_deep(value.to_string().as_bytes()), depth(&value) > MAX_DEPTH);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = is_too_deep(&bytes.repeat(20));
        }
    }
}
